"""Whether a model answers in bfloat16: eval compares some of its answers with those in float32."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from mark.answering.engine import Generation
from mark.evaluation.calibration import Calibrations, Precision, PrecisionCheck, thresholds_of
from mark.evaluation.engines import CALIBRATION
from mark.evaluation.metrics import token_f1
from mark.files import CHAMPION_COPY
from mark.models.loading import preferred_dtype

log = logging.getLogger(__name__)

CHECKED = 24  # validation questions


def compared(full: Sequence[Generation], low: Sequence[Generation]) -> PrecisionCheck:
    """Compare answers to the same questions.

    Args:
        full: In float32, at least one.
        low: In bfloat16.
    """
    pairs = list(zip(full, low, strict=True))
    close = sum(float(a.text == b.text) or token_f1(b.text, a.text) for a, b in pairs) / len(pairs)
    apart = max(abs(a.refusal_probability - b.refusal_probability) for a, b in pairs)
    same = sum(a.text == b.text for a, b in pairs)
    alike = [abs(a.mean_logprob - b.mean_logprob) for a, b in pairs if a.text == b.text]
    nats = sum(alike) / max(len(alike), 1)
    found = PrecisionCheck(
        questions=len(pairs),
        same_text=same,
        token_f1=round(close, 4),
        logprob_difference=round(nats, 4),
        refusal_difference=round(apart, 4),
    )
    log.info(
        "bfloat16 against float32: %d of %d answers are the same text, token F1 between them %.3f, log "
        "probabilities of those %.3f nats a token apart, of refusing at most %.3f: answers are written in %s",
        same, len(pairs), close, nats, apart, "bfloat16" if found.agrees else "float32",
    )  # fmt: skip
    return found


def answering_dtype(calibration: Path, device: torch.device | str) -> torch.dtype:
    """The weights' type that an entry answers in: eval's, which its refusal rule was fitted on.

    Args:
        calibration: reports/eval/<entry>/calibration.json; without it the hardware decides.
        device: Where the model runs.

    Raises:
        DataError: The file is damaged.
    """
    known = Calibrations.read(calibration).answers_in if calibration.is_file() else None
    return _dtype(known, device)


def dtype_of_model(name: str, root: Path, device: torch.device | str) -> torch.dtype:
    """The same by a model's name: `champion`, an entry, or a base model, which the first entry's eval asked.

    Raises:
        DataError: A calibration file is damaged.
    """
    if name == CHAMPION_COPY.name:
        return answering_dtype(root / CHAMPION_COPY / CALIBRATION, device)
    return _dtype(thresholds_of(name, root).answers_in, device)


def _dtype(known: Precision | None, device: torch.device | str) -> torch.dtype:
    """bfloat16 is never emulated."""
    return torch.float32 if known == "float32" else preferred_dtype(device)
