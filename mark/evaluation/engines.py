"""Which engine ran a model: answers of different ones are compared only where that is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mark.evaluation.calibration import LOCAL, Calibrations

CALIBRATION = "calibration.json"


def engine_of(folder: Path) -> str:
    """What ran the model whose answers a folder holds.

    Args:
        folder: reports/eval/<entry> or a copy; without a calibration.json, or with one of older versions, its
            answers are of the local engine.

    Raises:
        DataError: calibration.json is damaged.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return LOCAL
    found = Calibrations.read(path)
    return f"{found.engine}{_forced(found)}"


def control_engine(folder: Path) -> str:
    """What runs a control arm of an entry: always this process, in the precision that the entry answers in.

    Args:
        folder: As `engine_of`, of the entry.

    Raises:
        DataError: calibration.json is damaged.
    """
    path = folder / CALIBRATION
    return f"{LOCAL}{_forced(Calibrations.read(path))}" if path.is_file() else LOCAL


def _forced(found: Calibrations) -> str:
    return f" in {found.answers_in}" if found.engine == LOCAL and found.answers_in else ""


def told_apart(engines: Mapping[str, str]) -> str:
    """Says so where compared answers came from different engines: a part of a difference may be theirs.

    Args:
        engines: By whose answers they are.

    Returns:
        A sentence without its end, "" where one engine gave all.
    """
    if len(set(engines.values())) < 2:
        return ""
    named = ", ".join(f"{name} by {engine}" for name, engine in engines.items())
    return f"these answers were not given by one engine ({named})"
