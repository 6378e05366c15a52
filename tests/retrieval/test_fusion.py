"""Rankings and their fusion against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mark.retrieval.fusion import blend, fuse, ranking


def test_equal_scores_follow_the_tie_order():
    scores = np.array([0.5, 0.9, 0.5, -np.inf, 0.5], dtype=np.float32)
    tie_order = np.array([4, 0, 1, 2, 3])
    assert ranking(scores, tie_order, 10).tolist() == [1, 2, 4, 0]
    # the cut falls among the equals: the same order decides who stays
    assert ranking(scores, tie_order, 2).tolist() == [1, 2]


def test_reciprocal_ranks():
    scores = fuse([np.array([7, 3]), np.array([3, 5])], [1.0, 2.0], rrf_k=10)
    # 7: 1/11; 3: 1/12 + 2/11; 5: 2/12
    assert scores == pytest.approx({7: 1 / 11, 3: 1 / 12 + 2 / 11, 5: 2 / 12})


def test_scaled_scores():
    dense = np.array([0.9, 0.5, 0.7, 0.1], dtype=np.float32)
    words = np.array([-np.inf, 8.0, -np.inf, 2.0], dtype=np.float32)
    fused = blend([np.array([0, 2, 1]), np.array([1, 3])], [dense, words], [1.0, 2.0], depth=3)
    # dense is full: its last item scales to 0, so 0 -> 1, 2 -> 0.5, 1 -> 0
    # keywords found only two: scaled from 0, so 1 -> 2 * 8/8, 3 -> 2 * 2/8
    assert fused == pytest.approx({0: 1.0, 2: 0.5, 1: 2.0, 3: 0.5})


def test_equal_scores_scale_to_one():
    scores = np.array([0.4, 0.4], dtype=np.float32)
    assert blend([np.array([0, 1])], [scores], [1.0], depth=2) == {0: 1.0, 1: 1.0}
    assert blend([np.array([], dtype=np.int64)], [scores], [1.0], depth=2) == {}


def test_a_weight_of_zero_switches_a_ranking_off():
    assert set(fuse([np.array([7]), np.array([3])], [1.0, 0.0], rrf_k=10)) == {7}
