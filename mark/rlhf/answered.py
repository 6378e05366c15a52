"""The arms' answers to the test questions: those of eval, so that no arm is asked twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mark.errors import DataError
from mark.evaluation.calibration import Calibrations
from mark.evaluation.questions import Question
from mark.files import ADAPTER, read_jsonl, sha256_file
from mark.records import Prediction

BASE_CELL, TUNED_CELL = "base_retrieval", "tuned_retrieval"


def check_adapter(evaluated: Path, entry: Path) -> None:
    """Check that eval asked the entry that lies on the disk now.

    Args:
        evaluated: reports/eval/<entry>.
        entry: The entry's folder.

    Raises:
        DataError: It asked another one.
    """
    path = evaluated / "calibration.json"
    found, wanted = Calibrations.read(path).adapter_sha256, sha256_file(entry / ADAPTER)
    if found != wanted:
        raise DataError(
            f"{path} is of adapter {(found or 'unknown')[:12]}, {entry} holds {wanted[:12]}; "
            "run `dvc repro eval`"
        )


def read_answers(evaluated: Path, cell: str, arm: str, test: Sequence[Question]) -> list[Prediction]:
    """An arm's answers as eval wrote them, in the order of the test questions.

    Args:
        evaluated: reports/eval/<entry>.
        cell: Of eval's grid.
        arm: What the cell is called here.
        test: The test questions.

    Raises:
        DataError: They are missing, or answer other questions.
    """
    path = evaluated / "predictions.jsonl"
    by_id = {row.example_id: row for row in read_jsonl(path, Prediction) if row.cell == cell}
    wanted = {q.id: (q.question, list(q.answers)) for q in test}
    if {name: (row.question, row.answers) for name, row in by_id.items()} != wanted:
        raise DataError(
            f"{path} holds {len(by_id)} answers of {cell} to other than the {len(test)} test questions; "
            f"put {cell} into eval.cells and run `dvc repro eval`"
        )
    return [by_id[q.id].model_copy(update={"cell": arm}) for q in test]
