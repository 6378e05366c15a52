"""The refusal threshold: worked examples by hand."""

from __future__ import annotations

import pytest

from mark.answering.refusal import NEVER, PLAIN, Calibration, Evidence, RefusalModel, fit, is_refusal
from mark.records import Kind

A: Kind = "answerable"
U: Kind = "unanswerable"


def fitted(probabilities: list[float], f1: list[float], kinds: list[Kind]) -> Calibration:
    """Few questions: the model's own probability stands, only the threshold is fitted."""
    found = fit([Evidence(p) for p in probabilities], f1, kinds)
    assert found.model == PLAIN
    return found


def test_the_threshold_separates_what_can_be_separated() -> None:
    # Refusing .9 and .8 earns 2, answering the rest .6 + .7 + .5: (2 + 1.8) / 5 = .76. Nothing beats it.
    found = fitted([0.9, 0.8, 0.1, 0.05, 0.5], [0, 0, 0.6, 0.7, 0.5], [U, U, A, A, A])
    # The middle of .5 and .8 in log-odds: odds sqrt(1 * 4) = 2, probability 2/3.
    assert found.threshold == pytest.approx(2 / 3, abs=1e-9)
    assert found.mean_f1 == 0.76
    assert (found.answerable, found.unanswerable) == (3, 2)
    # One point a distinct decision: refuse 5, 4, 3, 2, 1 or 0 of them.
    assert [point.mean_f1 for point in found.curve] == [0.4, 0.54, 0.66, 0.76, 0.56, 0.36]
    assert [point.refusal_recall for point in found.curve] == [1, 1, 1, 1, 0.5, 0]
    assert [point.false_refusals for point in found.curve] == pytest.approx(
        [1, 2 / 3, 1 / 3, 0, 0, 0], abs=1e-6
    )


def test_neighbouring_ties_give_the_middle_of_them_all() -> None:
    # At .5 one of two answerable and one of two unanswerable stand: above and below it recall minus false
    # refusals is .5, so .2 to .8 is one plateau: odds 1/4 and 4, middle 1, probability 1/2.
    found = fitted([0.2, 0.5, 0.5, 0.8], [1.0, 0.0, 0.0, 0.0], [A, A, U, U])
    assert found.threshold == pytest.approx(0.5, abs=1e-9)


def test_a_weak_model_is_not_made_to_refuse_everything() -> None:
    # Refusing all earns mean F1 .5, refusing .9 alone only .35 = (1 + .2 + .2 + 0) / 4; it still separates
    # better: recall .5, false refusals 0. The middle of odds 9 and 1/4 is 1.5, probability .6.
    found = fitted([0.9, 0.2, 0.2, 0.1], [0.0, 0.2, 0.2, 0.0], [U, A, A, U])
    assert found.threshold == pytest.approx(0.6, abs=1e-9)
    assert found.mean_f1 == 0.35


def test_never_refuse_and_always_refuse() -> None:
    never = fitted([1.0, 0.2], [0.5, 0.5], [A, A])
    assert never.threshold == NEVER and not never.decide(Evidence(1.0))[0]
    always = fitted([0.0, 0.2], [0.0, 0.0], [U, U])
    assert always.decide(Evidence(0.0))[0] and always.mean_f1 == 1.0


def test_scores_of_unanswerable_questions_are_ignored() -> None:
    assert fitted([0.9, 0.1], [1.0, 1.0], [U, A]) == fitted([0.9, 0.1], [0.0, 1.0], [U, A])


def test_shares_without_questions_are_absent() -> None:
    assert {point.refusal_recall for point in fitted([0.5], [1.0], [A]).curve} == {None}


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
