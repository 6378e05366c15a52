"""Intervals: hand-derived values, and an A/A comparison that alarms as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from mark.evaluation.significance import (
    Bootstrap,
    Gain,
    choose_clusters,
    cluster_sums,
    expanded_tail,
    judge,
    smallest_detectable,
)

BOOTSTRAP = Bootstrap(samples=1000, confidence=0.95, seed=3)


def gain(low: float, high: float, clusters: int = 100) -> Gain:
    return Gain((low + high) / 2, low, high, 0.1, 400, clusters)


def test_sums_within_clusters_by_hand() -> None:
    values = np.array([[1.0, 1], [2, 1], [5, 1]])
    assert cluster_sums(values, ["b", "a", "b"]).tolist() == [[6, 2], [2, 1]]


def test_a_mean_counts_questions_not_clusters() -> None:
    found = BOOTSTRAP.mean(np.array([1.0, 1, 1, 0]), ["a", "a", "a", "b"])
    assert found.value == 0.75
    assert 0 <= found.low <= 0.75 <= found.high <= 1


def test_one_cluster_says_nothing() -> None:
    found = BOOTSTRAP.mean(np.array([0.2, 0.4]), ["a", "a"])
    assert (found.low, found.high) == (0, 1)
    paired = BOOTSTRAP.gain(np.array([1.0, 1]), np.array([0.0, 0]), ["a", "a"])
    assert (paired.difference, paired.low, paired.high) == (1, -1, 1)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).random(40)
    clusters = [f"c{i // 4}" for i in range(40)]
    assert BOOTSTRAP.mean(values, clusters) == BOOTSTRAP.mean(values, clusters)


def test_the_interval_has_the_width_of_theory() -> None:
    # 400 single questions of standard deviation 1: 1.96 / sqrt(400) = .098 on each side.
    values = np.random.default_rng(1).normal(size=400)
    values = (values - values.mean()) / values.std()
    found = Bootstrap(10_000, 0.95, 0).mean(values, list(range(400)))
    assert (found.high - found.low) / 2 == pytest.approx(0.098, rel=0.03)


def test_the_tail_follows_student() -> None:
    # 30 clusters: t(.975, 29) = 2.0452; times sqrt(30 / 29) = 2.0802; normal tail below -2.0802 = .01875.
    assert expanded_tail(0.95, 30) == pytest.approx(0.01875, abs=1e-4)
    assert expanded_tail(0.95, 100_000) == pytest.approx(0.025, abs=1e-5)


def test_smallest_detectable_gain() -> None:
    # Standard error .1, half width .196; 80 % power needs (1.96 + .8416) * .1.
    assert smallest_detectable(0.196, 0.95) == pytest.approx(0.28016, abs=1e-4)


@pytest.mark.parametrize(("clusters", "allowed"), [(100, (0.02, 0.08)), (30, (0.02, 0.09))])
def test_an_a_a_comparison_alarms_about_5_times_in_100(clusters: int, allowed: tuple[float, float]) -> None:
    rng = np.random.default_rng(11)
    names = np.repeat(np.arange(clusters), 4).tolist()
    alarms = 0
    for seed in range(400):
        shared = rng.normal(0, 0.3, clusters).repeat(4)
        new = shared + rng.normal(0, 0.3, clusters * 4)
        found = Bootstrap(600, 0.95, seed).gain(new, np.zeros_like(new), names)
        alarms += found.low > 0 or found.high < 0
    assert allowed[0] <= alarms / 400 <= allowed[1]


def test_verdicts() -> None:
    assert judge([gain(0.01, 0.2), gain(0.02, 0.3)]) == "ship"
    assert judge([gain(0.01, 0.2), gain(-0.02, 0.3)]) == "cannot tell"
    assert judge([gain(0.01, 0.2), gain(-0.3, -0.02)]) == "don't ship"
    assert judge([]) == "cannot tell"


def test_documents_are_the_clusters_when_there_are_enough() -> None:
    documents, sections, ids = ["d1", "d2", None, "d1"], ["s", "s", None, None], ["q1", "q2", "q3", "q4"]
    assert choose_clusters(documents, sections, ids, 2) == ["d1", "d2", "question q3", "d1"]
    assert choose_clusters(documents, sections, ids, 3) == ["d1 > s", "d2 > s", "question q3", "question q4"]
