"""A checkpoint counts only when its marker and every hash fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from mark.train.checkpoints import COMPLETE, is_complete, mark_complete, newest_complete


def _checkpoint(root: Path, step: int, complete: bool = True) -> Path:
    folder = root / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(f"weights of {step}")
    (folder / "state").write_text("state")
    if complete:
        mark_complete(folder)
    return folder


def test_the_newest_complete_one_is_chosen_by_number(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        _checkpoint(tmp_path, step)
    newest = newest_complete(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-100"


@pytest.mark.parametrize("damage", ["no marker", "changed", "missing", "cut marker"])
def test_a_damaged_one_is_ignored_and_removed(tmp_path: Path, damage: str) -> None:
    _checkpoint(tmp_path, 5)
    bad = _checkpoint(tmp_path, 6, complete=damage != "no marker")
    if damage == "changed":
        (bad / "weights").write_text("weights of 7")
    if damage == "missing":
        (bad / "state").unlink()
    if damage == "cut marker":
        marker = bad / COMPLETE
        marker.write_text(marker.read_text()[:20])
    assert not is_complete(bad)
    newest = newest_complete(tmp_path)
    assert newest is not None
    assert newest.name == "checkpoint-5"
    assert not bad.exists()


def test_none_at_all(tmp_path: Path) -> None:
    assert newest_complete(tmp_path / "nothing") is None
