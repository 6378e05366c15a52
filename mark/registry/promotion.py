"""Promoting an entry: the copy of the champion that is kept, and those before it.

An entry's stage may run again and replace the entry's folder. What was promoted therefore lies in
models/champion/: its files, the answers that a challenger is compared with, and its refusal thresholds.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from mark.errors import DataError
from mark.evaluation.engines import CALIBRATION
from mark.files import ADAPTER, CHAMPION_COPY, MODELS, sha256_file, whole_folder
from mark.registry.champion import Champion, append, now, read_champion, read_log
from mark.registry.evaluated import evaluation_folder, stale_evaluation
from mark.registry.history import Recorded, record

PREDICTIONS = "predictions.jsonl"
EARLIER = MODELS / "champions"  # <adapter_sha256[:12]>/: the copies of earlier champions
_KEPT = 3  # of them


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
    if before is not None:
        _keep_earlier(root, before)
    with whole_folder(root / CHAMPION_COPY) as work:
        _copy_files(entry, work)
        for name in (PREDICTIONS, CALIBRATION):
            found = evaluation_folder(entry.name, root) / name
            if found.is_file() and stale is None:
                shutil.copyfile(found, work / name)
    append(root, row)
    return row


def undo(root: Path) -> Champion:
    """Bring back the champion before the present one, as it was; the present one is kept in its place.

    The gate does not promote the present one over it again unless it is told to.

    Raises:
        DataError: There is no earlier champion, or its copy is gone.
    """
    standing = _standing(read_log(root))
    if len(standing) < 2:
        raise DataError("there is no earlier champion to bring back; `mark models list` shows the one")
    before, last = standing[-2:]
    kept = root / EARLIER / before.adapter_sha256[:12]
    sources = [kept, root / MODELS / before.entry]
    source = next((folder for folder in sources if holds(folder, before.adapter_sha256)), None)
    if source is None:
        raise DataError(
            f"the copy of {before.entry} ({kept.relative_to(root)}) is gone; promote another entry with "
            "`mark models promote NAME --force --reason TEXT`"
        )
    _keep_earlier(root, last)
    with whole_folder(root / CHAMPION_COPY) as work:
        _copy_files(source, work)
    moment, reason = now(), f"the promotion of {last.entry} on {last.at} was undone"
    row = before.model_copy(
        update={"at": moment, "over": last.entry, "forced": True, "reason": reason, "undo": True}
    )
    append(root, row)
    record(
        root,
        Recorded(
            at=moment,
            entry=last.entry,
            adapter_sha256=last.adapter_sha256,
            champion_sha256=before.adapter_sha256,
            test_sha256=None,
            verdict="undone",
            reason=reason,
        ),
    )
    return row


def _standing(log: Sequence[Champion]) -> list[Champion]:
    """The promotions that were not undone, oldest first."""
    found: list[Champion] = []
    for row in log:
        if row.undo:
            found = found[:-1]
        else:
            found.append(row)
    return found


def _keep_earlier(root: Path, champion: Champion) -> None:
    """Copy the champion aside, and forget the oldest of more than a few."""
    source = champion_folder(root, champion)
    if source is None or not holds(source, champion.adapter_sha256):
        return
    with whole_folder(root / EARLIER / champion.adapter_sha256[:12]) as work:
        _copy_files(source, work)
    latest = dict.fromkeys(row.adapter_sha256[:12] for row in reversed(read_log(root)))
    there = [root / EARLIER / name for name in latest if (root / EARLIER / name).is_dir()]
    for folder in there[_KEPT:]:
        shutil.rmtree(folder)


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
