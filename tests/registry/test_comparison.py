"""Paired comparison: numbers by hand, and what cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest

from mark.errors import DataError
from mark.evaluation.significance import Bootstrap
from mark.registry.comparison import compare

from .conftest import predictions

BOOTSTRAP = Bootstrap(samples=200, confidence=0.95, seed=1)


def test_differences_by_hand() -> None:
    new = predictions(np.array([1.0, 0.5, 0.0, 0.5]))
    old = predictions(np.array([0.5, 0.5, 0.0, 0.0, 1.0]))  # the fifth was not asked of the new one
    found = compare(("a", new), ("b", old), BOOTSTRAP, 30)
    assert (found.questions, found.clusters, found.judged) == (4, 1, "handwritten")
    f1 = found.differences["token_f1"]
    assert (f1.new, f1.old, f1.gain.difference) == (0.5, 0.25, 0.25)  # (0.5 + 0 + 0 + 0.5) / 4
    assert found.differences["exact_match"].gain.difference == 0.25  # one of four
    assert "refusal_recall" not in found.differences  # all are answerable
    assert found.verdict == "cannot tell"
    assert "1 clusters of answerable ones are too few, 30 are needed" in found.sentence()


def test_hand_written_questions_decide_where_there_are_some() -> None:
    rows = predictions(np.full(8, 0.5))
    ruled = [row.model_copy(update={"rule_id": "amount"}) for row in rows[4:]]
    found = compare(("a", [*rows[:4], *ruled]), ("b", rows), BOOTSTRAP, 30)
    assert found.questions == 4
    assert compare(("a", ruled), ("b", rows), BOOTSTRAP, 30).judged == "all"


def test_a_model_does_not_beat_itself() -> None:
    rows = predictions(np.linspace(0, 1, 400))
    found = compare(("a", rows), ("b", rows), BOOTSTRAP, 30)
    assert found.decisive.difference == found.decisive.low == found.decisive.high == 0.0
    assert found.verdict == "cannot tell"


def test_other_questions_are_refused() -> None:
    rows = predictions(np.array([1.0, 0.0]))
    other = [row.model_copy(update={"answers": ["else"]}) for row in rows]
    with pytest.raises(DataError, match="asked different questions under the id hw-0"):
        compare(("a", rows), ("b", other), BOOTSTRAP, 30)
    with pytest.raises(DataError, match="no test question in common"):
        compare(("a", rows[:1]), ("b", rows[1:]), BOOTSTRAP, 30)
