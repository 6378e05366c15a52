"""Every value is derived by hand from the definition in mark/rlhf/reward.py."""

from __future__ import annotations

import pytest

from mark.config import Reward
from mark.prompting import REFUSAL, Passage
from mark.rlhf.reward import Parts, judge, judged

WEIGHTS = Reward(token_f1=0.8, quote=0.2, refusal=1.0, length=0.3, free_words=4)
SHOWN = (Passage("c1", "Lease", "The rent is 900 euros, payable each month."),)


def test_right_answer_in_the_passages_words() -> None:
    # F1 with "900 euros" is 1; it stands in the passage; 2 words <= 4: 0.8 * 1 + 0.2 * 1 - 0.3 * 0
    parts = judge("900 euros", ["900 euros"], SHOWN, WEIGHTS)
    assert parts == Parts(token_f1=1.0, quote=1.0)
    assert parts.total(WEIGHTS) == pytest.approx(1.0)


def test_half_right_answer_in_other_words() -> None:
    # words {900, dollars} and {900, euros}: F1 = 2 * 1 / (2 + 2) = 0.5; no quote: 0.8 * 0.5
    parts = judge("900 dollars", ["900 euros"], SHOWN, WEIGHTS)
    assert parts == Parts(token_f1=0.5)
    assert parts.total(WEIGHTS) == pytest.approx(0.4)


def test_the_best_accepted_answer_counts() -> None:
    assert judge("900 euros", ["a large sum", "900 euros"], SHOWN, WEIGHTS).token_f1 == 1.0


def test_long_answer_pays_for_each_word_beyond_the_allowed_ones() -> None:
    # 6 words, allowed max(4, 2) = 4: excess (6 - 4) / 4 = 0.5. F1: words rent is 900 euros every = 5 after the
    # article "the" is dropped, gold 2, shared 2: 2 * 2 / (5 + 2) = 4/7. Not verbatim ("every").
    parts = judge("The rent is 900 euros every", ["900 euros"], SHOWN, WEIGHTS)
    assert parts == Parts(token_f1=pytest.approx(4 / 7), length=0.5)
    assert parts.total(WEIGHTS) == pytest.approx(0.8 * 4 / 7 - 0.15)


def test_the_length_penalty_ends_at_twice_the_allowed_words() -> None:
    assert judge("word " * 8, ["900 euros"], SHOWN, WEIGHTS).length == 1.0
    assert judge("word " * 80, ["900 euros"], SHOWN, WEIGHTS).length == 1.0


def test_a_long_gold_answer_allows_as_many_words() -> None:
    gold = "one two three four five six"
    assert judge(gold, [gold], SHOWN, WEIGHTS).length == 0.0


@pytest.mark.parametrize(
    ("answer", "golds", "expected"),
    [
        (REFUSAL, [REFUSAL], 1.0),  # right refusal
        (REFUSAL, [], 1.0),
        (REFUSAL, ["900 euros"], 0.0),  # false refusal
        ("900 euros", [REFUSAL], 0.0),  # an answer where there is none, even verbatim, earns nothing
        ("The rent is 900 euros, payable each month.", [], -0.3),  # 8 words: and pays for being long
    ],
)
def test_refusals(answer: str, golds: list[str], expected: float) -> None:
    assert judge(answer, golds, SHOWN, WEIGHTS).total(WEIGHTS) == pytest.approx(expected)


def test_an_answer_that_does_not_end_earns_nothing_and_is_too_long() -> None:
    parts = judge("900 euros", ["900 euros"], SHOWN, WEIGHTS, truncated=True)
    assert parts.total(WEIGHTS) == pytest.approx(-0.3)


def test_predictions_are_judged_alike() -> None:
    direct = judge("900 euros", ["900 euros"], SHOWN, WEIGHTS)
    assert judged("900 euros", ["900 euros"], refused=False, quoted=True, weights=WEIGHTS) == direct
