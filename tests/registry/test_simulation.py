"""The gate's statistics on 2,000 simulated comparisons with 100 clusters of 4 questions each."""

from __future__ import annotations

import numpy as np
import pytest

from mark.evaluation.significance import Bootstrap, cluster_sums, expanded_tail

from .conftest import CLUSTERS, EACH, Arrays, paired_scores

RUNS = 2000
BOOTSTRAP = Bootstrap(samples=2000, confidence=0.95, seed=11)
NAMES = [f"Article {i // EACH}" for i in range(CLUSTERS * EACH)]


def intervals(new: Arrays, old: Arrays) -> tuple[Arrays, Arrays]:
    """Bounds of the gain in every run, [runs]: `Bootstrap.gain` for all at once, on the same resamplings."""
    totals = cluster_sums((new - old).T, NAMES)  # [clusters, runs]
    drawn = BOOTSTRAP._weights(CLUSTERS) @ totals / len(NAMES)  # [samples, runs]
    tail = expanded_tail(BOOTSTRAP.confidence, CLUSTERS)
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return low, high


def test_all_at_once_equals_one_by_one() -> None:
    new, old = paired_scores(np.random.default_rng(3), 20, 0.05)
    low, high = intervals(new, old)
    for run in range(20):
        gain = BOOTSTRAP.gain(new[run], old[run], NAMES)
        assert (gain.low, gain.high) == (
            pytest.approx(low[run], abs=1e-12),
            pytest.approx(high[run], abs=1e-12),
        )


def test_equal_systems_alarm_in_at_most_6_5_percent_of_runs() -> None:
    new, old = paired_scores(np.random.default_rng(1), RUNS, 0.0)
    low, high = intervals(new, old)
    assert np.mean((low > 0) | (high < 0)) <= 0.065


def test_a_gain_of_five_points_is_found_in_three_of_four_runs() -> None:
    new, old = paired_scores(np.random.default_rng(2), RUNS, 0.05)
    assert (new - old).mean() == pytest.approx(0.05, abs=0.002)  # what was planted
    low, _ = intervals(new, old)
    assert np.mean(low > 0) >= 0.75
