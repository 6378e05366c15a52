"""Rankings, and several of them made one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def ranking(scores: NDArray[np.float32], tie_order: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The best items, best first.

    Args:
        scores: float [items]; -inf marks an item that may not appear.
        tie_order: int [items], decides between equal scores, smaller first.
        count: How many at most.

    Returns:
        int [at most count], item numbers.
    """
    eligible = np.flatnonzero(scores > -np.inf)
    if len(eligible) > count:
        cut = np.partition(scores[eligible], len(eligible) - count)[len(eligible) - count]
        eligible = eligible[scores[eligible] >= cut]
    order = np.lexsort((tie_order[eligible], -scores[eligible]))
    return np.asarray(eligible[order[:count]], dtype=np.int64)


def blend(
    rankings: Sequence[NDArray[np.int64]],
    scores: Sequence[NDArray[np.float32]],
    weights: Sequence[float],
    depth: int,
) -> dict[int, float]:
    """Weighted sum of scores, each scaled to [0, 1] over its own ranking.

    1 is the best item's score; 0 is that of the last of `depth` items, or a score of 0 where
    fewer were found. An item that a ranking leaves out has 0 there.

    Args:
        rankings: Item numbers, best first.
        scores: float [items] that each ranking was made from.
        weights: One a ranking.
        depth: How many items a ranking holds at most.

    Returns:
        Item number -> score, for items in any ranking of positive weight.

    Source: Bruch, Gai, Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval",
    section 4 (convex combination with min-max scaling).
    """
    fused: dict[int, float] = {}
    for items, values, weight in zip(rankings, scores, weights, strict=True):
        if weight <= 0 or not len(items):
            continue
        top = float(values[items[0]])
        low = float(values[items[-1]]) if len(items) == depth else min(0.0, float(values[items[-1]]))
        width = top - low
        for item in items.tolist():
            scaled = (float(values[item]) - low) / width if width > 0 else 1.0
            fused[item] = fused.get(item, 0.0) + weight * scaled
    return fused


def fuse(rankings: Sequence[NDArray[np.int64]], weights: Sequence[float], rrf_k: int) -> dict[int, float]:
    """Weighted reciprocal rank fusion: the sum of weight / (rrf_k + rank), ranks from 1.

    Source: Cormack, Clarke, Büttcher 2009, "Reciprocal Rank Fusion", section 2.

    Returns:
        Item number -> score, for items in any ranking of positive weight.
    """
    scores: dict[int, float] = {}
    for items, weight in zip(rankings, weights, strict=True):
        if weight <= 0:
            continue
        for rank, item in enumerate(items.tolist(), start=1):
            scores[item] = scores.get(item, 0.0) + weight / (rrf_k + rank)
    return scores


def scaled(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores moved to [0, 1]: the lowest is 0, the highest 1; all 1 where they are equal."""
    if not len(scores):
        return scores
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)
