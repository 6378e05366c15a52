"""The refusal threshold: worked examples by hand."""

from __future__ import annotations

import pytest

from mark.answering.refusal import NEVER, decide, fit, is_refusal
from mark.records import Kind

A: Kind = "answerable"
U: Kind = "unanswerable"


def test_the_threshold_separates_what_can_be_separated() -> None:
    # Refusing .9 and .8 earns 2, answering the rest .6 + .7 + .5: (2 + 1.8) / 5 = .76. Nothing beats it.
    found = fit([0.9, 0.8, 0.1, 0.05, 0.5], [0, 0, 0.6, 0.7, 0.5], [U, U, A, A, A])
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
    found = fit([0.2, 0.5, 0.5, 0.8], [1.0, 0.0, 0.0, 0.0], [A, A, U, U])
    assert found.threshold == pytest.approx(0.5, abs=1e-9)


def test_a_weak_model_is_not_made_to_refuse_everything() -> None:
    # Refusing all earns mean F1 .5, refusing .9 alone only .35 = (1 + .2 + .2 + 0) / 4; it still separates
    # better: recall .5, false refusals 0. The middle of odds 9 and 1/4 is 1.5, probability .6.
    found = fit([0.9, 0.2, 0.2, 0.1], [0.0, 0.2, 0.2, 0.0], [U, A, A, U])
    assert found.threshold == pytest.approx(0.6, abs=1e-9)
    assert found.mean_f1 == 0.35


def test_never_refuse_and_always_refuse() -> None:
    never = fit([1.0, 0.2], [0.5, 0.5], [A, A])
    assert never.threshold == NEVER and not decide(1.0, never.threshold)
    always = fit([0.0, 0.2], [0.0, 0.0], [U, U])
    assert decide(0.0, always.threshold) and always.mean_f1 == 1.0


def test_scores_of_unanswerable_questions_are_ignored() -> None:
    assert fit([0.9, 0.1], [1.0, 1.0], [U, A]) == fit([0.9, 0.1], [0.0, 1.0], [U, A])


def test_shares_without_questions_are_absent() -> None:
    assert {point.refusal_recall for point in fit([0.5], [1.0], [A]).curve} == {None}


def test_unequal_lists_are_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="as many"):
        fit([], [], [])


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
