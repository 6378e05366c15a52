"""When to say that the documents hold no answer: a threshold fitted on validation questions.

A model refuses where its `refusal_probability` reaches the threshold. The threshold is the one that tells
answerable from unanswerable best: refusal recall minus false refusals (Youden's J). The best mean F1 of
SQuAD 2.0 is reported beside it but not maximised: with a weak model it is reached by refusing everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mark.answering.quotes import trim
from mark.prompting import REFUSAL
from mark.records import Kind

NEVER = 1.000001  # a threshold that no probability reaches
_BOUND = math.log(1e9)  # probabilities are told apart up to these log-odds, both ways


class CurvePoint(BaseModel):
    """What a threshold would have scored on the calibration questions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float
    mean_f1: float
    refusal_recall: float | None  # of the unanswerable ones; None without any
    false_refusals: float | None  # of the answerable ones


class Calibration(BaseModel):
    """A fitted threshold and how it was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float  # refuse from this refusal probability on; above 1: never
    mean_f1: float
    answerable: int
    unanswerable: int
    curve: list[CurvePoint]  # ascending thresholds, one a distinct decision


def decide(refusal_probability: float, threshold: float) -> bool:
    """Whether to refuse."""
    return refusal_probability >= threshold


def is_refusal(text: str) -> bool:
    """Whether a text begins or ends with the refusal; case and end punctuation are ignored.

    Ends, because an untuned model likes to write "The answer is: ..." first.
    """
    said, refusal = trim(text).casefold(), trim(REFUSAL).casefold()
    return said.startswith(refusal) or said.endswith(refusal)


def fit(
    probabilities: Sequence[float], f1_if_answered: Sequence[float], kinds: Sequence[Kind]
) -> Calibration:
    """Choose the threshold with the largest refusal recall minus false refusals.

    Thresholds between two neighbouring probabilities decide alike; of each such stretch the middle in
    log-odds stands for it. Where neighbouring stretches tie for the best, the middle of all of them is
    taken; of several separate ties, the widest, then the highest.

    Args:
        probabilities: Refusal probability of each calibration question, in [0, 1].
        f1_if_answered: Token F1 of its answer, were it given; ignored for unanswerable questions.
        kinds: Answerable or not.

    Returns:
        Threshold, score and curve.

    Raises:
        ValueError: No question, or lists of different lengths.

    Source: Youden's index (Youden 1950, Index for rating diagnostic tests) over the threshold search of
        SQuAD 2.0 (Rajpurkar et al. 2018), with a probability in place of the no-answer score.
    """
    if not (0 < len(probabilities) == len(f1_if_answered) == len(kinds)):
        raise ValueError("calibration needs as many probabilities as scores and kinds, and at least one")
    p = np.asarray(probabilities, dtype=np.float64)
    answerable = np.array([kind == "answerable" for kind in kinds])
    f1 = np.where(answerable, np.asarray(f1_if_answered, dtype=np.float64), 0.0)
    edges = [-math.inf, *np.unique(_log_odds(p)).tolist(), math.inf]
    curve = [_point(_middle(low, high), p, f1, answerable) for low, high in pairwise(edges)]
    first, last = _best_plateau(np.array([_separation(point) for point in curve]), edges)
    return Calibration(
        threshold=_middle(edges[first], edges[last + 1]),
        mean_f1=curve[first].mean_f1,
        answerable=int(answerable.sum()),
        unanswerable=int((~answerable).sum()),
        curve=curve,
    )


def _log_odds(p: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        odds = np.log(p) - np.log1p(-p)
    return np.asarray(np.clip(odds, -_BOUND, _BOUND))


def _middle(low: float, high: float) -> float:
    """The probability in the middle of a stretch of log-odds; open ends reach to certainty."""
    if low >= _BOUND:
        return NEVER
    if high <= -_BOUND:
        return 0.0
    middle = (max(low, -_BOUND) + min(high, _BOUND)) / 2
    return round(1 / (1 + math.exp(-middle)), 12)


def _point(
    threshold: float, p: NDArray[np.float64], f1: NDArray[np.float64], answerable: NDArray[np.bool_]
) -> CurvePoint:
    refused = p >= threshold
    score = np.where(answerable, np.where(refused, 0.0, f1), refused.astype(np.float64))
    return CurvePoint(
        threshold=threshold,
        mean_f1=round(float(score.mean()), 6),
        refusal_recall=_share(refused[~answerable]),
        false_refusals=_share(refused[answerable]),
    )


def _separation(point: CurvePoint) -> float:
    """Youden's J in [-1, 1]; a share without questions counts as 0."""
    return round((point.refusal_recall or 0.0) - (point.false_refusals or 0.0), 6)


def _share(flags: NDArray[np.bool_]) -> float | None:
    return round(float(flags.mean()), 6) if len(flags) else None


def _best_plateau(scores: NDArray[np.float64], edges: list[float]) -> tuple[int, int]:
    """First and last index of the widest run of best scores."""
    best = [i for i, score in enumerate(scores.tolist()) if score == scores.max()]
    runs: list[tuple[int, int]] = []
    for i in best:
        if runs and runs[-1][1] == i - 1:
            runs[-1] = (runs[-1][0], i)
        else:
            runs.append((i, i))
    width = {run: min(edges[run[1] + 1], _BOUND) - max(edges[run[0]], -_BOUND) for run in runs}
    return max(runs, key=lambda run: (width[run], run[0]))
