"""The arms' answers to the test questions: those of eval, so that no arm is asked twice."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

import torch

from mark.answering.engine import Engine
from mark.answering.merging import for_inference
from mark.config import Eval
from mark.errors import DataError
from mark.evaluation.calibration import Calibrations, calibrate
from mark.evaluation.cells import CELLS, Answer, from_generation, predict, request_for
from mark.evaluation.inputs import Asked
from mark.evaluation.questions import Question
from mark.files import ADAPTER, read_jsonl, sha256_file
from mark.models.loading import load_entry, preferred_dtype
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


def ask_entry(
    entry: Path, arm: str, asked: Asked, settings: Eval, top_k: int, max_seq_length: int
) -> list[Prediction]:
    """An entry's answers where eval does not ask it: the control arm, which is no entry to choose from.

    Its refusal rule is fitted on the validation questions, as eval does.

    Args:
        entry: Its folder.
        arm: What it is called here.
        asked: The questions.
        settings: Section `eval`.
        top_k: Passages a question.
        max_seq_length: Tokens of prompt and answer together.

    Raises:
        ModelError: It cannot be loaded.
    """
    answers = _answer(entry, asked, settings, top_k, max_seq_length)
    rule = calibrate(asked.validation, answers)
    return [predict(q, arm, answers[q.id], rule, asked.chunks) for q in asked.test]


def _answer(entry: Path, asked: Asked, settings: Eval, top_k: int, max_seq_length: int) -> dict[str, Answer]:
    """Answers to validation and test questions, by question id."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, tokenizer = load_entry(entry, torch.float32, device)
    engine = Engine(
        for_inference(model, preferred_dtype(device)),
        tokenizer,
        max_seq_length,
        settings.max_new_tokens,
        settings.batch_size,
    )
    questions = [*asked.test, *asked.validation]
    requests = [request_for(q, CELLS[TUNED_CELL], asked.chunks, top_k) for q in questions]
    written = engine.generate(requests, entry.name)
    del model, engine
    gc.collect()
    return {
        q.id: from_generation(q, request, generation)
        for q, request, generation in zip(questions, requests, written, strict=True)
    }
