"""How well the right passage is found: recall@k, MRR@10, nDCG@10 and the wrong-document rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mark.evaluation.questions import Question
from mark.evaluation.significance import Bootstrap, Interval
from mark.records import Chunk

Tree = dict[str, Any]

DEPTH = 10  # ranks that MRR and nDCG look at
WRONG_AT = 5  # ranks of `wrong_document_at_5`


@dataclass(frozen=True)
class Ranked:
    """What was found for one answerable question.

    Attributes:
        gold: Ids of the chunks that hold the answer; none where it is not known: every metric is 0 then.
        document: The document that holds them.
        found: Chunk ids, best first, at least `DEPTH` where the corpus has as many.
        documents: The document of each found chunk.
    """

    gold: frozenset[str]
    document: str
    found: tuple[str, ...]
    documents: tuple[str, ...]

    @classmethod
    def of(cls, question: Question, found: Sequence[str], chunks: Mapping[str, Chunk]) -> Ranked:
        """From an answerable question and the ids that a search returned."""
        document = question.document or next((chunks[name].document for name in question.gold), "")
        names = tuple(chunks[chunk_id].document for chunk_id in found)
        return cls(frozenset(question.gold), document, tuple(found), names)

    def first_rank(self) -> int | None:
        """Rank of the first gold chunk, from 1; None where none was found."""
        return next((rank for rank, name in enumerate(self.found, start=1) if name in self.gold), None)


def retrieval_metrics(
    rows: Sequence[Ranked], clusters: Sequence[str], recall_at: Sequence[int], bootstrap: Bootstrap
) -> Tree:
    """Means over answerable questions with cluster-bootstrap intervals.

    Args:
        rows: [N], at least one.
        clusters: [N].
        recall_at: The k of recall@k.
        bootstrap: Makes the intervals.

    Returns:
        `questions`, and for each metric `<metric>`, `<metric>_low`, `<metric>_high`: `recall_at_<k>` (a gold
        chunk among the first k), `mrr_at_10`, `ndcg_at_10`, `wrong_document` (the first chunk is from
        another document), `wrong_document_at_5` (all of the first five are).
    """
    ranks = [row.first_rank() for row in rows]
    values: dict[str, list[float]] = {
        f"recall_at_{k}": [float(rank is not None and rank <= k) for rank in ranks] for k in recall_at
    }
    values["mrr_at_10"] = [0.0 if rank is None or rank > DEPTH else 1 / rank for rank in ranks]
    values["ndcg_at_10"] = [ndcg(row) for row in rows]
    values["wrong_document"] = [float(wrong_document(row, 1)) for row in rows]
    values[f"wrong_document_at_{WRONG_AT}"] = [float(wrong_document(row, WRONG_AT)) for row in rows]
    out: Tree = {"questions": len(rows)}
    for name, column in values.items():
        put(out, name, bootstrap.mean(np.array(column), clusters))
    return out


def ndcg(row: Ranked) -> float:
    """Discounted gain of the gold chunks among the first 10, relative to the best order; gains are 0 or 1.

    Source: Järvelin and Kekäläinen 2002, Cumulated Gain-Based Evaluation of IR Techniques, section 2.
    """
    gain = sum(1 / math.log2(rank + 1) for rank, name in enumerate(row.found[:DEPTH], 1) if name in row.gold)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(row.gold), DEPTH) + 1))
    return gain / best if best else 0.0


def wrong_document(row: Ranked, k: int) -> bool:
    """Whether none of the first k chunks is from the question's document; finding nothing is wrong too."""
    return row.document not in row.documents[:k]


def put(out: Tree, name: str, interval: Interval) -> None:
    """Store a value and its interval under `name`, `name_low` and `name_high`."""
    out |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
