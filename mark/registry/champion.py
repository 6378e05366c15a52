"""The champion and its promotion log (models/champion.json), and the copy of it that is kept.

An entry's stage may run again and replace the entry's folder. What was promoted therefore lies in
models/champion/: its files, the answers that a challenger is compared with, and its refusal thresholds.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mark.errors import DataError
from mark.files import CHAMPION, CHAMPION_COPY, REPORTS, read_json, whole_folder, write_json

PREDICTIONS = "predictions.jsonl"
CALIBRATION = "calibration.json"


class Champion(BaseModel):
    """One promotion."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: str
    adapter_sha256: str
    at: str  # ISO 8601, UTC
    over: str | None  # the champion before
    forced: bool  # past the gate
    reason: str  # what the gate found, or why it was passed over


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    champion: str | None = None  # the entry of the last promotion
    log: list[Champion] = Field(default_factory=list)  # oldest first


def read_log(root: Path) -> list[Champion]:
    """All promotions, oldest first.

    Raises:
        DataError: models/champion.json is damaged.
    """
    path = root / CHAMPION
    if not path.is_file():
        return []
    try:
        return _File.model_validate(read_json(path)).log
    except ValidationError as fault:
        first = fault.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "content"
        raise DataError(
            f"{path} is damaged ({key}: {first['msg']}); delete it and run `mark models promote`"
        ) from None


def read_champion(root: Path) -> Champion | None:
    """The last promotion, None where nothing was promoted."""
    log = read_log(root)
    return log[-1] if log else None


def promote(root: Path, entry: Path, adapter_sha256: str, reason: str, forced: bool) -> Champion:
    """Make an entry the champion: keep a copy of it and add a line to the log.

    Args:
        root: The project's root.
        entry: models/<entry>.
        adapter_sha256: Of its adapter.
        reason: What the gate found, or why it was passed over.
        forced: Whether the gate was passed over.
    """
    log = read_log(root)
    before = log[-1].entry if log else None
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    row = Champion(
        entry=entry.name, adapter_sha256=adapter_sha256, at=moment, over=before, forced=forced, reason=reason
    )
    with whole_folder(root / CHAMPION_COPY) as work:
        for path in sorted(entry.iterdir()):
            if path.is_file():
                shutil.copyfile(path, work / path.name)
        for name in (PREDICTIONS, CALIBRATION):
            found = root / REPORTS / "eval" / entry.name / name
            if found.is_file():
                shutil.copyfile(found, work / name)
    write_json(root / CHAMPION, _File(champion=entry.name, log=[*log, row]).model_dump(mode="json"))
    return row
