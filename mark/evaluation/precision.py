"""Whether a model answers in bfloat16: eval compares some of its answers with those in float32."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from mark.answering.engine import Generation
from mark.evaluation.calibration import Calibrations, PrecisionCheck
from mark.evaluation.metrics import token_f1
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
    nats = sum(abs(a.mean_logprob - b.mean_logprob) for a, b in pairs) / len(pairs)
    found = PrecisionCheck(
        questions=len(pairs),
        same_text=same,
        token_f1=round(close, 4),
        logprob_difference=round(nats, 4),
        refusal_difference=round(apart, 4),
    )
    log.info(
        "bfloat16 against float32: %d of %d answers are the same text, token F1 between them %.3f, log "
        "probabilities %.3f nats a token apart, those of refusing at most %.3f: answers are written in %s",
        same, len(pairs), close, nats, apart, "bfloat16" if found.agrees else "float32",
    )  # fmt: skip
    return found


def answering_dtype(calibration: Path, device: torch.device | str) -> torch.dtype:
    """The weights' type for answering: what the hardware does best, but no bfloat16 that eval saw differ.

    Args:
        calibration: reports/eval/<entry>/calibration.json; it may be missing.
        device: Where the model runs.

    Raises:
        DataError: The file is damaged.
    """
    dtype = preferred_dtype(device)
    if dtype == torch.float32 or not calibration.is_file():
        return dtype
    return torch.float32 if Calibrations.read(calibration).answers_in == "float32" else dtype
