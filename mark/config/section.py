"""What all sections of params.yaml share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PARAMS = Path("params.yaml")
SETUP_MODE = "MARK_SETUP_MODE"


def setup_mode() -> bool:
    """Whether MARK_SETUP_MODE blocks training and paid requests ("", 0, false and no do not)."""
    return os.environ.get(SETUP_MODE, "").strip().lower() not in ("", "0", "false", "no")


def plain_url(value: str, schemes: tuple[str, ...], secret: str, user: bool = False) -> str:
    """The URL itself, if it names a host and holds no secret.

    Args:
        value: As it stands in conf/.
        schemes: That are allowed: http and https, or one other.
        secret: Where a key or password is named instead.
        user: Whether it may name a user.

    Raises:
        ValueError: It does not; the message shows nothing of it.
    """
    try:
        parts = urlsplit(value)
        plain = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        plain = plain and parts.password is None and (user or parts.username is None)
        plain = plain and not parts.query and not parts.fragment
    except ValueError:
        plain = False
    if not plain:
        shape = "://USER@HOST[:PORT]/PATH without" if user else "://HOST[:PORT]/PATH without user,"
        scheme = "http(s)" if len(schemes) > 1 else schemes[0]
        raise ValueError(f"allowed: {scheme}{shape} password or query; {secret}")
    return value


def variable_name(value: str) -> str:
    """The name itself, if it can be one of an environment variable; a key set there by mistake is not.

    Raises:
        ValueError: It cannot.
    """
    if not _VARIABLE.fullmatch(value):
        raise ValueError(
            "allowed: the NAME of an environment variable in capitals, e.g. OPENAI_API_KEY, or null; "
            "a key itself never stands in conf/"
        )
    return value


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
