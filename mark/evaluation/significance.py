"""How sure a number is: cluster bootstrap intervals, paired differences and verdicts.

Questions about the same document or section are alike, so whole clusters are drawn, never single questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Verdict = Literal["ship", "don't ship", "cannot tell"]

DECISIVE = ("over_base_retrieval", "over_extractive")  # the gains that a verdict is about
_POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """A value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """A paired difference, `new - old`, in the metric's unit."""

    difference: float
    low: float
    high: float
    smallest_detectable: float
    questions: int
    clusters: int


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        samples: Resamplings of the clusters.
        confidence: Of the intervals, e.g. 0.95.
        seed: Of the resampling; the same seed draws the same clusters.
    """

    samples: int
    confidence: float
    seed: int

    def mean(self, values: Floats, clusters: Sequence[Hashable]) -> Interval:
        """Mean over questions [N] with its percentile interval; see `ratio`."""
        values = np.asarray(values, dtype=np.float64)
        return self.statistic(np.stack([values, np.ones_like(values)], axis=1), clusters, _ratio)

    def statistic(
        self,
        sums: Floats,
        clusters: Sequence[Hashable],
        function: Callable[[Floats], Floats],
        bounds: tuple[float, float] = (0.0, 1.0),
    ) -> Interval:
        """A statistic that depends on the questions only through sums.

        Args:
            sums: [N, S], what each question adds.
            clusters: [N], the cluster of each question.
            function: From summed [..., S] to the statistic [...].
            bounds: All values that the statistic can take; the interval when there is but one cluster.

        Returns:
            The statistic of all questions, and the expanded percentile interval of its resampled values
            (the plain one is too narrow for few clusters).

        Source: Cameron, Gelbach and Miller 2008, Bootstrap-Based Improvements for Inference with Clustered
            Errors (pairs cluster bootstrap); Hesterberg 2015, What Teachers Should Know About the
            Bootstrap, section 5.3 (expanded percentiles).
        """
        totals = cluster_sums(sums, clusters)
        value = float(function(totals.sum(axis=0)))
        if len(totals) == 1:
            return Interval(value, *bounds)
        drawn = function(self._weights(len(totals)) @ totals)
        tail = expanded_tail(self.confidence, len(totals))
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Interval(value, float(low), float(high))

    def gain(self, new: Floats, old: Floats, clusters: Sequence[Hashable]) -> Gain:
        """Mean paired difference of two systems on the same questions [N]."""
        paired = np.asarray(new, dtype=np.float64) - np.asarray(old, dtype=np.float64)
        sums = np.stack([paired, np.ones_like(paired)], axis=1)
        found = self.statistic(sums, clusters, _ratio, bounds=(-1.0, 1.0))
        half = (found.high - found.low) / 2
        return Gain(
            difference=found.value,
            low=found.low,
            high=found.high,
            smallest_detectable=smallest_detectable(half, self.confidence),
            questions=len(new),
            clusters=len(set(clusters)),
        )

    def _weights(self, clusters: int) -> Floats:
        """How often each cluster is drawn, [samples, clusters]."""
        rng = np.random.default_rng(self.seed)
        shares = np.full(clusters, 1 / clusters)
        return rng.multinomial(clusters, shares, size=self.samples).astype(np.float64)


def cluster_sums(values: Floats, clusters: Sequence[Hashable]) -> Floats:
    """Sum [N, S] within clusters: [C, S], clusters in order of first appearance."""
    places = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    totals = np.zeros((len(places), values.shape[1]))
    np.add.at(totals, [places[name] for name in clusters], values)
    return totals


def expanded_tail(confidence: float, clusters: int) -> float:
    """Share of resampled values to leave out on each side.

    The normal quantile gives way to Student's t with `clusters - 1` degrees of freedom, and the resampled
    spread is enlarged by sqrt(clusters / (clusters - 1)), its bias in small samples.

    Source: Hesterberg 2015, section 5.3; t quantile: Abramowitz and Stegun 1964, 26.7.5.
    """
    z, v = NormalDist().inv_cdf((1 + confidence) / 2), clusters - 1
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return NormalDist().cdf(-t * math.sqrt(clusters / v))


def smallest_detectable(half_width: float, confidence: float) -> float:
    """The true gain that such an interval would lie above zero for in 80 of 100 repetitions.

    With standard error `half_width / z`, z the two-sided normal quantile of the confidence, that is
    `(z + z_power) * half_width / z`; 1.43 half-widths at 95 %.

    Source: Bloom 1995, Minimum Detectable Effects, Evaluation Review 19(5); for NLP: Card et al. 2020, With
        Little Power Comes Great Responsibility, section 2.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    return half_width * (z + NormalDist().inv_cdf(_POWER)) / z


def judge(gains: Sequence[Gain]) -> Verdict:
    """The verdict over the baselines that a new system must beat.

    Args:
        gains: One a baseline.

    Returns:
        `ship` when every interval lies above zero, `don't ship` when one lies below, else `cannot tell`.
    """
    if any(gain.high < 0 for gain in gains):
        return "don't ship"
    return "ship" if gains and all(gain.low > 0 for gain in gains) else "cannot tell"


def choose_clusters(
    documents: Sequence[str | None], sections: Sequence[str | None], ids: Sequence[str], min_clusters: int
) -> list[str]:
    """The cluster of each question: its document when there are enough documents, else its section.

    Args:
        documents: [N], None where a question belongs to none (an unanswerable one).
        sections: [N], within the document; None or "" likewise.
        ids: [N], of the questions.
        min_clusters: How many documents are enough.

    Returns:
        [N] names; a question without a document, or without a section where those count, is its own.
    """
    by_document = len({name for name in documents if name}) >= min_clusters
    names = []
    for document, section, question in zip(documents, sections, ids, strict=True):
        if document and by_document:
            names.append(document)
        elif document and section:
            names.append(f"{document} > {section}")
        else:
            names.append(f"question {question}")
    return names


def _ratio(sums: Floats) -> Floats:
    """Sum over count; 0 where nothing was drawn."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros_like(sums[..., 0]), where=sums[..., 1] > 0)
