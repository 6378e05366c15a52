"""One entry's answers to given questions, outside the grid: as the cell tuned_retrieval has them.

Always by the local engine, whatever `eval.engine` says: a control arm or a champion's copy is on no server.
"""

from __future__ import annotations

import gc
from pathlib import Path

import torch

from mark.answering.engine import Engine
from mark.answering.merging import for_inference
from mark.config import Eval
from mark.evaluation.calibration import calibrate
from mark.evaluation.cells import CELLS, from_generation, predict, request_for
from mark.evaluation.inputs import Asked
from mark.evaluation.precision import answering_dtype
from mark.evaluation.summary import NEW
from mark.models.loading import load_entry
from mark.records import Prediction


def ask_entry(  # noqa: PLR0913
    entry: Path, cell: str, asked: Asked, settings: Eval, top_k: int, max_seq_length: int, calibration: Path
) -> list[Prediction]:
    """Answer the test questions; the refusal rule is fitted on the validation questions, as eval does.

    Args:
        entry: Its folder.
        cell: What the answers' cell is called.
        asked: The questions.
        settings: Section `eval`.
        top_k: Passages a question.
        max_seq_length: Tokens of prompt and answer together.
        calibration: Eval's, of the entry whose precision is taken; it may be missing.

    Returns:
        One a test question, in their order.

    Raises:
        ModelError: The entry cannot be loaded.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = answering_dtype(calibration, device)
    model, tokenizer = load_entry(entry, torch.float32, device)
    engine = Engine(
        for_inference(model, dtype),
        tokenizer,
        max_seq_length,
        settings.max_new_tokens,
        settings.batch_size,
    )
    questions = [*asked.test, *asked.validation]
    requests = [request_for(q, CELLS[NEW], asked.chunks, top_k) for q in questions]
    written = engine.generate(requests, entry.name)
    del model, engine
    gc.collect()
    answers = {
        q.id: from_generation(q, request, generation)
        for q, request, generation in zip(questions, requests, written, strict=True)
    }
    rule = calibrate(asked.validation, answers)
    return [predict(q, cell, answers[q.id], rule, asked.chunks) for q in asked.test]
