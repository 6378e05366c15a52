"""Retrieval metrics against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from mark.evaluation.retrieval import Ranked, ndcg, retrieval_metrics, wrong_document
from mark.evaluation.significance import Bootstrap

BOOTSTRAP = Bootstrap(samples=200, confidence=0.95, seed=3)


def ranked(gold: str, found: str, documents: str) -> Ranked:
    return Ranked(frozenset(gold), "x", tuple(found), tuple(documents))


SECOND = ranked("bz", "abc", "yxx")  # gold b at rank 2, gold z never; another document comes first
FIRST = ranked("a", "abc", "xyy")
NEVER = ranked("q", "abcdef", "yyyyyx")


def test_ndcg_of_two_gold_chunks():
    # gain 1/log2(3); the best order has both golds first: 1 + 1/log2(3)
    assert ndcg(SECOND) == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))
    assert ndcg(FIRST) == 1.0
    assert ndcg(NEVER) == 0.0
    assert ndcg(ranked("", "abc", "xxx")) == 0.0  # gold unknown


def test_ranks_beyond_ten_count_for_nothing_but_recall():
    late = ranked("k", "abcdefghijk", "xxxxxxxxxxx")
    assert late.first_rank() == 11 and ndcg(late) == 0.0
    found = retrieval_metrics([late], ["c"], [10, 20], BOOTSTRAP)
    assert (found["recall_at_10"], found["recall_at_20"], found["mrr_at_10"]) == (0.0, 1.0, 0.0)


def test_the_wrong_document():
    assert wrong_document(SECOND, 1) and not wrong_document(SECOND, 5)
    assert wrong_document(NEVER, 5) and not wrong_document(NEVER, 6)
    assert wrong_document(ranked("a", "", ""), 5)


def test_means_and_intervals():
    rows, clusters = [SECOND, FIRST, NEVER, FIRST], ["1", "2", "3", "4"]
    found = retrieval_metrics(rows, clusters, [1, 3], BOOTSTRAP)
    assert found["questions"] == 4
    assert (found["recall_at_1"], found["recall_at_3"]) == (0.5, 0.75)
    assert found["mrr_at_10"] == (0.5 + 1 + 0 + 1) / 4
    assert (found["wrong_document"], found["wrong_document_at_5"]) == (0.5, 0.25)
    assert 0 <= found["recall_at_3_low"] < 0.75 < found["recall_at_3_high"] <= 1
    assert "ndcg_at_10_low" in found and "wrong_document_at_5_high" in found
