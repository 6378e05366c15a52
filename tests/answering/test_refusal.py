"""The refusal threshold: worked examples by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mark.answering.refusal import (
    NEVER,
    PLAIN,
    CurvePoint,
    Evidence,
    RefusalModel,
    fit,
    is_refusal,
    search_threshold,
)
from mark.records import Kind

A: Kind = "answerable"
U: Kind = "unanswerable"


def searched(
    probabilities: list[float], f1: list[float], kinds: list[Kind]
) -> tuple[float, list[CurvePoint], float]:
    """Threshold, curve, and the mean F1 that the threshold earns."""
    answerable = np.array([kind == A for kind in kinds])
    threshold, curve = search_threshold(np.array(probabilities), np.where(answerable, f1, 0.0), answerable)
    refused = np.array(probabilities) >= threshold
    return threshold, curve, float(np.where(answerable, np.where(refused, 0.0, f1), refused).mean())


def test_the_threshold_separates_what_can_be_separated() -> None:
    # Refusing .9 and .8 earns 2, answering the rest .6 + .7 + .5: (2 + 1.8) / 5 = .76. Nothing beats it.
    threshold, curve, mean_f1 = searched([0.9, 0.8, 0.1, 0.05, 0.5], [0, 0, 0.6, 0.7, 0.5], [U, U, A, A, A])
    # The middle of .5 and .8 in log-odds: odds sqrt(1 * 4) = 2, probability 2/3.
    assert threshold == pytest.approx(2 / 3, abs=1e-9)
    assert mean_f1 == pytest.approx(0.76)
    # One point a distinct decision: refuse 5, 4, 3, 2, 1 or 0 of them.
    assert [point.mean_f1 for point in curve] == [0.4, 0.54, 0.66, 0.76, 0.56, 0.36]
    assert [point.refusal_recall for point in curve] == [1, 1, 1, 1, 0.5, 0]
    assert [point.false_refusals for point in curve] == pytest.approx([1, 2 / 3, 1 / 3, 0, 0, 0], abs=1e-6)


def test_neighbouring_ties_give_the_middle_of_them_all() -> None:
    # At .5 one of two answerable and one of two unanswerable stand: above and below it recall minus false
    # refusals is .5, so .2 to .8 is one plateau: odds 1/4 and 4, middle 1, probability 1/2.
    threshold, _, _ = searched([0.2, 0.5, 0.5, 0.8], [1.0, 0.0, 0.0, 0.0], [A, A, U, U])
    assert threshold == pytest.approx(0.5, abs=1e-9)


def test_a_weak_model_is_not_made_to_refuse_everything() -> None:
    # Refusing all earns mean F1 .5, refusing .9 alone only .35 = (1 + .2 + .2 + 0) / 4; it still separates
    # better: recall .5, false refusals 0. The middle of odds 9 and 1/4 is 1.5, probability .6.
    threshold, _, mean_f1 = searched([0.9, 0.2, 0.2, 0.1], [0.0, 0.2, 0.2, 0.0], [U, A, A, U])
    assert threshold == pytest.approx(0.6, abs=1e-9)
    assert mean_f1 == pytest.approx(0.35)


def test_never_refuse_and_always_refuse() -> None:
    never, _, _ = searched([1.0, 0.2], [0.5, 0.5], [A, A])
    assert never == NEVER
    always, _, mean_f1 = searched([0.0, 0.2], [0.0, 0.0], [U, U])
    assert always == 0.0 and mean_f1 == 1.0


def test_few_questions_fit_nothing() -> None:
    # Nine unanswerable ones are too few; their low probabilities would have put the threshold below .1.
    evidence = [Evidence(0.1, -0.5, 0.2)] * 9 + [Evidence(0.05, -0.5, 0.8)] * 20
    few = fit(evidence, [0.5] * 29, [U] * 9 + [A] * 20)
    assert (few.fitted, few.threshold, few.model) == (False, 0.5, PLAIN)
    assert (few.answerable, few.unanswerable) == (20, 9)
    assert [few.decide(Evidence(p))[0] for p in (0.49, 0.5)] == [False, True]
    enough = fit([*evidence, Evidence(0.1, -0.5, 0.2)], [0.5] * 30, [U] * 9 + [A] * 20 + [U])
    assert enough.fitted and enough.decide(evidence[0])[0] and not enough.decide(evidence[-1])[0]


def test_scores_of_unanswerable_questions_are_ignored() -> None:
    few = [Evidence(0.9), Evidence(0.1)]
    assert fit(few, [1.0, 1.0], [U, A]) == fit(few, [0.0, 1.0], [U, A])


def test_shares_without_questions_are_absent() -> None:
    assert {point.refusal_recall for point in searched([0.5], [1.0], [A])[1]} == {None}


def test_unequal_lists_are_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="as much"):
        fit([], [], [])


def test_the_plain_model_gives_back_the_probability() -> None:
    assert PLAIN.probability(Evidence(0.3)) == pytest.approx(0.3, abs=1e-9)


def test_weights_by_hand() -> None:
    # odds of .5 are 0, so the sum is 1 + 2 * 0 - 4 * .75 = -2, and 1 / (1 + e^2) = .1192
    model = RefusalModel(intercept=1.0, weights={"refusal_log_odds": 2.0, "similarity": -4.0})
    assert model.probability(Evidence(0.5, similarity=0.75)) == pytest.approx(0.119203, abs=1e-6)
    with pytest.raises(ValueError, match="refusal needs similarity"):
        model.probability(Evidence(0.5))


def test_evidence_that_tells_is_weighed_and_evidence_that_does_not_is_not() -> None:
    # The model's own probability is the same for all; passages of unanswerable questions lie further off.
    close = [Evidence(0.2, -0.5, 0.7 + 0.01 * i) for i in range(12)]
    far = [Evidence(0.2, -0.5, 0.3 + 0.01 * i) for i in range(12)]
    found = fit([*close, *far], [1.0] * 24, [A] * 12 + [U] * 12)
    assert set(found.model.weights) == {"similarity"} and found.model.weights["similarity"] < 0
    assert [found.decide(item)[0] for item in (close[0], far[-1])] == [False, True]
    assert found.mean_f1 == 1.0


def test_a_feature_that_some_answers_lack_is_left_out() -> None:
    mixed = [Evidence(0.1 + 0.01 * i, None if i else -1.0) for i in range(12)]
    high = [Evidence(0.7 + 0.01 * i, -1.0 * i) for i in range(12)]
    found = fit([*mixed, *high], [1.0] * 24, [A] * 12 + [U] * 12)
    assert set(found.model.weights) == {"refusal_log_odds"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Not in these documents.", True),
        (" not in\nthese documents", True),
        ("Not in these documents. The passages are about rent.", True),
        ("The answer to this question is: Not in these documents.", True),
        ("What is not in these documents is the fee.", False),
        ("No.", False),
    ],
)
def test_is_refusal(text: str, expected: bool) -> None:
    assert is_refusal(text) is expected
