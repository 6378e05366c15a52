"""The champion and its promotion log (models/champion.json)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mark.errors import DataError
from mark.files import CHAMPION, read_json, write_json


class Champion(BaseModel):
    """One promotion, or its undoing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: str
    adapter_sha256: str
    at: str  # ISO 8601, UTC
    over: str | None  # the champion before
    forced: bool  # past the gate
    reason: str  # what the gate found, or why it was passed over
    undo: bool = False  # the champion before the last one was brought back


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


def append(root: Path, row: Champion) -> None:
    """Add a line to the log: it names the champion from now on."""
    log = [*read_log(root), row]
    write_json(root / CHAMPION, _File(champion=row.entry, log=log).model_dump(mode="json"))


def now() -> str:
    """The moment, as the logs write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
