"""Promoting an entry: the copy of the champion that is kept, and those before it.

An entry's stage may run again and replace the entry's folder. What was promoted therefore lies in
models/champion/: its files, the answers that a challenger is compared with, and its refusal thresholds.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mark.files import ADAPTER, CHAMPION_COPY, MODELS, sha256_file, whole_folder
from mark.registry.champion import Champion, append, now, read_champion
from mark.registry.evaluated import CALIBRATION, evaluation_folder, stale_evaluation

PREDICTIONS = "predictions.jsonl"


def promote(root: Path, entry: Path, adapter_sha256: str, reason: str, forced: bool) -> Champion:
    """Make an entry the champion: keep a copy of it and add a line to the log.

    An evaluation of another adapter is not kept, and the line says so.

    Args:
        root: The project's root.
        entry: models/<entry>.
        adapter_sha256: Of its adapter.
        reason: What the gate found, or why it was passed over.
        forced: Whether the gate was passed over.
    """
    before = read_champion(root)
    stale = stale_evaluation(entry.name, adapter_sha256, root)
    if stale is not None:
        reason = f"{reason} (without its evaluation: {stale})"
    row = Champion(
        entry=entry.name,
        adapter_sha256=adapter_sha256,
        at=now(),
        over=None if before is None else before.entry,
        forced=forced,
        reason=reason,
    )
    with whole_folder(root / CHAMPION_COPY) as work:
        _copy_files(entry, work)
        for name in (PREDICTIONS, CALIBRATION):
            found = evaluation_folder(entry.name, root) / name
            if found.is_file() and stale is None:
                shutil.copyfile(found, work / name)
    append(root, row)
    return row


def champion_folder(root: Path, champion: Champion) -> Path | None:
    """Where the promoted adapter lies.

    Returns:
        Its kept copy; else the entry's folder, while that still holds this adapter; else a copy whose adapter
        has another hash; None where no adapter is left.
    """
    copy, entry = root / CHAMPION_COPY, root / MODELS / champion.entry
    for folder in (copy, entry):
        if holds(folder, champion.adapter_sha256):
            return folder
    return copy if (copy / ADAPTER).is_file() else None


def holds(folder: Path, sha256: str) -> bool:
    """Whether a folder holds the adapter of this hash."""
    return (folder / ADAPTER).is_file() and sha256_file(folder / ADAPTER) == sha256


def _copy_files(source: Path, target: Path) -> None:
    for path in sorted(source.iterdir()):
        if path.is_file():
            shutil.copyfile(path, target / path.name)
