"""The index finds what comparing every pair finds."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mark.data_prep.set_index import Hashes, SetIndex, ranges


def drawn(rng: random.Random) -> Hashes:
    """A set in which low numbers are frequent and high ones rare."""
    return np.unique(
        np.array([int(100 * rng.random() ** 3) for _ in range(rng.randint(0, 30))], dtype=np.uint64)
    )


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("of_smaller", [True, False])
def test_nothing_that_shares_enough_is_missed(share: float, of_smaller: bool) -> None:
    rng = random.Random(5)
    sets = [drawn(rng) for _ in range(60)]
    sets += [part[: len(part) // 2] for part in sets[:20]]
    index = SetIndex(sets, share, of_smaller)
    met = 0
    for own in [drawn(rng) for _ in range(60)] + sets:
        rows, shared = index.sharing(own)
        found = dict(zip(rows.tolist(), shared.tolist(), strict=True))
        for row, other in enumerate(sets):
            common = len(np.intersect1d(own, other))
            size = (min if of_smaller else max)(len(own), len(other))
            if common and common >= share * size:
                assert found[row] == common
                met += 1
        assert all(found[row] == len(np.intersect1d(own, sets[row])) for row in found)
    assert met >= 80


def test_rare_elements_decide_who_is_counted() -> None:
    sets = [np.array([1, 2, 3, number], dtype=np.uint64) for number in range(10, 30)]
    index = SetIndex(sets, 1.0, of_smaller=False)
    # All four must be shared: one element decides, and the rarest is taken, not 1, 2 or 3.
    rows, shared = index.sharing(sets[7])
    assert rows.tolist() == [7] and shared.tolist() == [4]
    rows, _ = index.sharing(np.array([1, 2, 3, 99], dtype=np.uint64))
    assert rows.tolist() == []


def test_nothing_indexed_or_looked_for() -> None:
    nothing = np.empty(0, dtype=np.uint64)
    for index in (SetIndex([], 0.5, True), SetIndex([nothing], 0.5, True)):
        assert index.sharing(np.array([1], dtype=np.uint64))[0].tolist() == []
        assert index.sharing(nothing)[0].tolist() == []


def test_ranges() -> None:
    assert ranges(np.array([2, 7, 9]), np.array([4, 7, 11])).tolist() == [2, 3, 9, 10]
