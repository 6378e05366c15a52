"""Scores of one answer, each in [0, 1], and corpus BLEU from sums of its counts."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mark.answering.quotes import trim
from mark.prompting import REFUSAL

BLEU_ORDER = 4
BLEU_COUNTS = 2 * BLEU_ORDER + 2  # matches and totals of 1- to 4-grams, answer length, reference length
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Scores:
    """How well one answer agrees with the accepted ones; 1 is perfect."""

    exact_match: float
    token_f1: float
    rouge_l: float
    bleu: float  # sentence BLEU


def score(prediction: str, golds: Sequence[str], refused: bool) -> Scores:
    """Score one answer; the best over the accepted answers counts.

    An unanswerable question (no accepted answer, or only the refusal) earns 1 in every metric when refused
    and 0 otherwise; refusing an answerable question earns 0.

    Args:
        prediction: The answer given.
        golds: Accepted answers.
        refused: Whether the answer is the refusal.
    """
    answers = answerable_golds(golds)
    if not answers or refused:
        value = float(refused and not answers)
        return Scores(value, value, value, value)
    return Scores(
        exact_match=_best(exact_match, prediction, answers),
        token_f1=_best(token_f1, prediction, answers),
        rouge_l=_best(rouge_l, prediction, answers),
        bleu=sentence_bleu(prediction, answers),
    )


def answerable_golds(golds: Sequence[str]) -> list[str]:
    """The accepted answers without the refusal; empty for an unanswerable question."""
    return [gold for gold in golds if gold.strip() and trim(gold) != trim(REFUSAL)]


def normalize(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces.

    Source: `normalize_answer` of the official SQuAD evaluation script (Rajpurkar et al. 2016).
    """
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, gold: str) -> float:
    """1 when both are equal after normalisation, else 0."""
    return float(normalize(prediction) == normalize(gold))


def token_f1(prediction: str, gold: str) -> float:
    """Harmonic mean of precision and recall over the bags of normalised words.

    Source: `compute_f1` of the official SQuAD 2.0 evaluation script (Rajpurkar et al. 2018).
    """
    predicted, wanted = normalize(prediction).split(), normalize(gold).split()
    if not predicted or not wanted:
        return float(predicted == wanted)
    shared = sum((Counter(predicted) & Counter(wanted)).values())
    return 2 * shared / (len(predicted) + len(wanted))


def rouge_l(prediction: str, gold: str) -> float:
    """F measure of the longest common subsequence of words, by rouge-score without stemming.

    Source: Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, section 3.
    """
    return float(_rouge_scorer().score(gold, prediction)["rougeL"].fmeasure)


def sentence_bleu(prediction: str, golds: Sequence[str]) -> float:
    """Sentence BLEU against all accepted answers, by sacrebleu with effective order.

    Source: Papineni et al. 2002; Post 2018, A Call for Clarity in Reporting BLEU Scores.
    """
    import sacrebleu

    return float(sacrebleu.sentence_bleu(prediction, list(golds), use_effective_order=True).score) / 100


def bleu_counts(prediction: str, golds: Sequence[str]) -> NDArray[np.float64]:
    """The counts of which corpus BLEU is a function of their sums, [BLEU_COUNTS]."""
    import sacrebleu

    found = sacrebleu.sentence_bleu(prediction, list(golds), use_effective_order=True)
    return np.array([*found.counts, *found.totals, found.sys_len, found.ref_len], dtype=np.float64)


def corpus_bleu(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corpus BLEU of summed counts, with sacrebleu's exponential smoothing.

    Args:
        sums: [..., BLEU_COUNTS].

    Returns:
        [...], in [0, 1].

    Source: Papineni et al. 2002, section 2.3; smoothing: Chen and Cherry 2014, method 3.
    """
    matches, totals = sums[..., :BLEU_ORDER], sums[..., BLEU_ORDER : 2 * BLEU_ORDER]
    length, reference = sums[..., -2], sums[..., -1]
    zero = (matches == 0) & (totals > 0)
    smoothed = np.where(zero, 0.5 ** np.cumsum(zero, axis=-1), matches)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(smoothed / totals).mean(axis=-1)
        brevity = np.minimum(0.0, 1 - reference / length)
        bleu = np.exp(logs + brevity)
    usable = (totals > 0).all(axis=-1) & (matches > 0).any(axis=-1)
    return np.where(usable, bleu, 0.0)


def _best(metric: Callable[[str, str], float], prediction: str, golds: Sequence[str]) -> float:
    return max(metric(prediction, gold) for gold in golds)


@lru_cache(maxsize=1)
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=False)
