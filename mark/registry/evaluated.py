"""Whether an evaluation is about the adapter that lies in the entry's folder."""

from __future__ import annotations

from pathlib import Path

import yaml

from mark.errors import DataError
from mark.evaluation.calibration import Calibrations
from mark.evaluation.engines import CALIBRATION
from mark.files import MODELS, REPORTS


def evaluation_folder(name: str, root: Path) -> Path:
    """reports/eval/<entry>."""
    return root / REPORTS / "eval" / name


def of_another_adapter(folder: Path, sha256: str) -> bool:
    """Whether a calibration says that another adapter answered.

    Args:
        folder: Holds calibration.json; a missing file and one of older versions, which names no adapter, say
            nothing.
        sha256: Of the adapter in question.

    Raises:
        DataError: calibration.json is damaged.
    """
    path = folder / CALIBRATION
    return path.is_file() and Calibrations.read(path).adapter_sha256 not in (None, sha256)


def stale_evaluation(name: str, sha256: str, root: Path) -> str | None:
    """Says so where an entry's evaluation is about another adapter than it holds now.

    First by the hash in calibration.json, then by dvc.lock.

    Args:
        name: Of the entry.
        sha256: Of its adapter.
        root: The project's root.

    Returns:
        A sentence, or None where nothing speaks against the evaluation.
    """
    folder = (MODELS / name).as_posix()
    try:
        other = of_another_adapter(evaluation_folder(name, root), sha256)
    except DataError as fault:
        return str(fault)
    if other:
        return (
            f"the evaluation of {name} was made of another adapter than {folder} holds; run `dvc repro eval`"
        )
    if _locked_apart(name, folder, root):
        return f"{folder} was trained again after its evaluation; run `dvc repro eval`"
    return None


def _locked_apart(name: str, folder: str, root: Path) -> bool:
    """Whether dvc.lock knows one entry as made and another one as evaluated."""
    try:
        lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
        stages = list(lock["stages"].values())
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False
    made = {item.get("md5") for stage in stages for item in stage.get("outs", []) if item["path"] == folder}
    read = {
        item.get("md5")
        for stage in stages
        if any(out["path"] == f"reports/eval/{name}" for out in stage.get("outs", []))
        for item in stage.get("deps", [])
        if item["path"] == folder
    }
    return bool(made and read and made != read)
