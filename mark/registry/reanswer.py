"""The champion's answers to the present test questions, where those that were kept are about others."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mark.config import Eval, Retrieval
from mark.evaluation.summary import NEW
from mark.models.loading import load_entry

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
    import torch

    load_entry(folder, device="cuda" if torch.cuda.is_available() else "cpu")
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
    from mark.evaluation.asking import ask_entry
    from mark.evaluation.engines import CALIBRATION
    from mark.evaluation.inputs import EvalInputs, gather
    from mark.files import REPORTS

    inputs = EvalInputs.of_project(name, asking.seed, root)
    asked = gather(inputs, asking.evaluation, asking.retrieval)
    copied = inputs.entry / CALIBRATION  # the champion's
    calibration = copied if copied.is_file() else root / REPORTS / "eval" / name / CALIBRATION
    return ask_entry(
        inputs.entry,
        NEW,
        asked,
        asking.evaluation,
        asking.retrieval.top_k,
        asking.max_seq_length,
        calibration,
    )
