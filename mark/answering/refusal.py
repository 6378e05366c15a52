"""When to say that the documents hold no answer: fitted on validation questions.

A logistic regression turns the evidence of an answer (how likely the model would rather refuse, how sure it
is of what it wrote, how close the passages lie to the question) into a refusal probability. The threshold on
it is the one that tells answerable from unanswerable best: refusal recall minus false refusals (Youden's J).
The best mean F1 of SQuAD 2.0 is reported beside it but not maximised: with a weak model it is reached by
refusing everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mark.answering.quotes import trim
from mark.prompting import REFUSAL
from mark.records import Kind

NEVER = 1.000001  # a threshold that no probability reaches
_BOUND = math.log(1e9)  # probabilities are told apart up to these log-odds, both ways


FEATURES = ("refusal_log_odds", "mean_logprob", "similarity")
_EACH = 10  # answerable and unanswerable questions below which nothing is fitted
_EVEN = 0.5  # the threshold where nothing is fitted: more likely refused than not


@dataclass(frozen=True)
class Evidence:
    """What speaks for or against refusing.

    Attributes:
        refusal_probability: Of the model itself, in [0, 1]; see `mark.answering.engine.Generation`.
        mean_logprob: Mean log probability of the tokens of its answer; None without a model.
        similarity: Largest cosine between the question and a shown passage; None without passages.
    """

    refusal_probability: float
    mean_logprob: float | None = None
    similarity: float | None = None

    def values(self) -> dict[str, float]:
        """The features that are known."""
        odds = float(_log_odds(np.asarray(self.refusal_probability, dtype=np.float64)))
        found = {"refusal_log_odds": odds, "mean_logprob": self.mean_logprob, "similarity": self.similarity}
        return {name: value for name, value in found.items() if value is not None}


class RefusalModel(BaseModel):
    """Logistic regression: `p = 1 / (1 + exp(-(intercept + sum_i weight_i * feature_i)))`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intercept: float
    weights: dict[str, float]

    def probability(self, evidence: Evidence) -> float:
        """How likely the question has no answer, in [0, 1], were both kinds of question equally common.

        Raises:
            ValueError: A feature that the weights need is unknown.
        """
        values = evidence.values()
        if missing := sorted(set(self.weights) - set(values)):
            raise ValueError(f"refusal needs {', '.join(missing)} of every answer")
        total = self.intercept + sum(weight * values[name] for name, weight in self.weights.items())
        return round(1 / (1 + math.exp(-max(-_BOUND, min(_BOUND, total)))), 9)


PLAIN = RefusalModel(intercept=0.0, weights={"refusal_log_odds": 1.0})  # the model's own probability


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
    fitted: bool  # False: too few questions, so the model's own probability decides, at one half
    model: RefusalModel
    mean_f1: float
    answerable: int
    unanswerable: int
    curve: list[CurvePoint]  # ascending thresholds, one a distinct decision

    def decide(self, evidence: Evidence) -> tuple[bool, float]:
        """Whether to refuse, and the probability that decided it."""
        probability = self.model.probability(evidence)
        return probability >= self.threshold, probability


def is_refusal(text: str) -> bool:
    """Whether a text begins or ends with the refusal; case and end punctuation are ignored.

    Ends, because an untuned model likes to write "The answer is: ..." first.
    """
    said, refusal = trim(text).casefold(), trim(REFUSAL).casefold()
    return said.startswith(refusal) or said.endswith(refusal)


def fit(evidence: Sequence[Evidence], f1_if_answered: Sequence[float], kinds: Sequence[Kind]) -> Calibration:
    """Fit the weights, then choose the threshold with the largest refusal recall minus false refusals.

    With fewer than ten questions of either kind nothing is fitted (two unanswerable questions once made a
    model refuse nine of ten answerable ones): it refuses where its own probability of doing so is at least
    one half, and `fitted` is False.

    Args:
        evidence: Of each calibration question; a feature is used where all have it.
        f1_if_answered: Token F1 of its answer, were it given; ignored for unanswerable questions.
        kinds: Answerable or not.

    Returns:
        Threshold, score and curve.

    Raises:
        ValueError: No question, or lists of different lengths.

    Source: features as in Kamath, Jia and Liang 2020, Selective question answering under domain shift;
        Youden's index (Youden 1950, Index for rating diagnostic tests) over the threshold search of
        SQuAD 2.0 (Rajpurkar et al. 2018), with a probability in place of the no-answer score.
    """
    if not (0 < len(evidence) == len(f1_if_answered) == len(kinds)):
        raise ValueError("calibration needs as much evidence as scores and kinds, and at least one of each")
    enough = min(list(kinds).count("answerable"), list(kinds).count("unanswerable")) >= _EACH
    model = _weights(evidence, kinds) if enough else PLAIN
    p = np.asarray([model.probability(item) for item in evidence], dtype=np.float64)
    answerable = np.array([kind == "answerable" for kind in kinds])
    f1 = np.where(answerable, np.asarray(f1_if_answered, dtype=np.float64), 0.0)
    threshold, curve = search_threshold(p, f1, answerable)
    if not enough:
        threshold = _EVEN
    return Calibration(
        threshold=threshold,
        fitted=enough,
        model=model,
        mean_f1=_point(threshold, p, f1, answerable).mean_f1,
        answerable=int(answerable.sum()),
        unanswerable=int((~answerable).sum()),
        curve=curve,
    )


def search_threshold(
    p: NDArray[np.float64], f1: NDArray[np.float64], answerable: NDArray[np.bool_]
) -> tuple[float, list[CurvePoint]]:
    """The threshold with the largest refusal recall minus false refusals.

    Thresholds between two neighbouring probabilities decide alike; of each such stretch the middle in
    log-odds stands for it. Where neighbouring stretches tie for the best, the middle of all of them is
    taken; of several separate ties, the widest, then the highest.

    Args:
        p: [N], refusal probabilities.
        f1: [N], token F1 of the answers, were they given; 0 for unanswerable questions.
        answerable: [N].

    Returns:
        The threshold and what each would have scored.

    Source: Youden 1950, Index for rating diagnostic tests.
    """
    edges = [-math.inf, *np.unique(_log_odds(p)).tolist(), math.inf]
    curve = [_point(_middle(low, high), p, f1, answerable) for low, high in pairwise(edges)]
    first, last = _best_plateau(np.array([_separation(point) for point in curve]), edges)
    return _middle(edges[first], edges[last + 1]), curve


def _weights(evidence: Sequence[Evidence], kinds: Sequence[Kind]) -> RefusalModel:
    """Ridge-penalised logistic regression on standardised features, both kinds weighing the same."""
    unanswerable = np.array([kind == "unanswerable" for kind in kinds])
    from sklearn.linear_model import LogisticRegression

    rows = [item.values() for item in evidence]
    names = [name for name in FEATURES if all(name in row for row in rows)]
    x = np.array([[row[name] for name in names] for row in rows], dtype=np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    names = [name for name, width in zip(names, scale, strict=True) if width > 0]
    if not names:
        return PLAIN
    used = scale > 0
    x, mean, scale = x[:, used], mean[used], scale[used]
    found = LogisticRegression(class_weight="balanced").fit((x - mean) / scale, unanswerable)
    weights = found.coef_[0] / scale
    return RefusalModel(
        intercept=round(float(found.intercept_[0] - weights @ mean), 9),
        weights={name: round(float(weight), 9) for name, weight in zip(names, weights, strict=True)},
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
