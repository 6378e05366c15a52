"""The champion's answers to the present test questions, where those that were kept are about others."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mark.config import Eval, Retrieval
from mark.evaluation.summary import NEW
from mark.models.loading import load_entry, preferred_dtype

if TYPE_CHECKING:
    from mark.records import Prediction


@dataclass(frozen=True)
class Asking:
    """How the eval stage asks: its section, that of retrieval, and the sizes beside them."""

    evaluation: Eval
    retrieval: Retrieval
    max_seq_length: int  # tokens of prompt and answer
    seed: int


def check_loads(folder: Path) -> None:
    """Load an adapter on its base, and forget it.

    Raises:
        ModelError: It does not load.
    """
    load_entry(folder)
    gc.collect()


def answer_present(name: str, asking: Asking, root: Path) -> list[Prediction]:
    """Answer the present test questions in the cell tuned_retrieval, as the eval stage does.

    The refusal rule is fitted on the present validation questions.

    Args:
        name: Of a folder below models/: `champion`, or an entry.
        asking: Settings.
        root: The project's root.

    Raises:
        DataError: A file is missing or damaged, or there is nothing to ask.
        ModelError: The model or the embedder does not load.
    """
    from mark.answering.engine import Engine
    from mark.answering.merging import for_inference
    from mark.evaluation.calibration import calibrate
    from mark.evaluation.cells import CELLS, from_generation, predict, request_for
    from mark.evaluation.inputs import EvalInputs, gather

    inputs = EvalInputs.of_project(name, asking.seed, root)
    asked = gather(inputs, asking.evaluation, asking.retrieval)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, tokenizer = load_entry(inputs.entry, torch.float32, device)
    engine = Engine(
        for_inference(model, preferred_dtype(device)),
        tokenizer,
        asking.max_seq_length,
        asking.evaluation.max_new_tokens,
        asking.evaluation.batch_size,
    )
    questions = [*asked.test, *asked.validation]
    top_k = asking.retrieval.top_k
    requests = [request_for(q, CELLS[NEW], asked.chunks, top_k) for q in questions]
    written = engine.generate(requests, "champion")
    del model, engine
    gc.collect()
    answers = {
        q.id: from_generation(q, request, generation)
        for q, request, generation in zip(questions, requests, written, strict=True)
    }
    rule = calibrate(asked.validation, answers)
    return [predict(q, NEW, answers[q.id], rule, asked.chunks) for q in asked.test]
