"""What all sections of params.yaml share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PARAMS = Path("params.yaml")
SETUP_MODE = "MARK_SETUP_MODE"


def setup_mode() -> bool:
    """Whether MARK_SETUP_MODE blocks training and paid requests ("", 0, false and no do not)."""
    return os.environ.get(SETUP_MODE, "").strip().lower() not in ("", "0", "false", "no")


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
