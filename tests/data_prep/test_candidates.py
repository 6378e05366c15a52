from __future__ import annotations

from collections import Counter

import pytest

from mark.data_prep.candidates import Candidate, balanced, cheap_fault, contains
from mark.records import Style
from tests.data_prep.passages import chunk, settings

TEXT = "The supplier shall repair defective goods within thirty days, and such goods (if any) are kept."


def candidate(
    question: str, answer: str, rule: str = "amount", style: Style = "short", document: str = "code"
) -> Candidate:
    return Candidate(question, answer, style, rule, TEXT, chunk(TEXT, document=document), 0, question)


@pytest.mark.parametrize(
    ("question", "answer", "fault"),
    [
        ("How quickly must the supplier repair goods?", "within thirty days", None),
        ("How quickly must the supplier repair goods?", "within thirty weeks", "not_verbatim"),
        ("Must goods be repaired within thirty days?", "within thirty days", "answer_in_question"),
        ("How quickly must it repair goods?", "within thirty days", "dangling"),
        ("What is kept in the store?", "such goods", "poor_answer"),
        ("What is kept in the store?", "goods (if", "poor_answer"),
        ("Goods?", "within thirty days", "question_length"),
        (
            "How quickly must the supplier repair goods?",
            "within thirty days, and such goods (if any) are",
            "answer_length",
        ),
    ],
)
def test_cheap_filters(question: str, answer: str, fault: str | None) -> None:
    assert cheap_fault(candidate(question, answer), settings(max_answer_words=6)) == fault


def test_an_answer_is_given_away_by_its_words() -> None:
    assert contains(
        "Who must keep the written records of all deliveries?", "keep written records of all deliveries"
    )
    assert not contains("Who keeps records?", "keep written records of all deliveries")


def test_the_beginning_of_the_order_is_balanced() -> None:
    many = [candidate(f"q{i} about a", "a", "agent", "short", "one") for i in range(40)]
    few = [candidate(f"q{i} about b", "b", "amount", "short", "two") for i in range(10)]
    other = [candidate(f"q{i} about c", "c", "agent", "full", "three") for i in range(10)]
    head = balanced([*many, *few, *other], seed=3)[:20]
    # Styles share alike, families within a style share alike: full 10, short 5 + 5.
    assert Counter((c.rule, c.style) for c in head) == {
        ("agent", "full"): 10, ("agent", "short"): 5, ("amount", "short"): 5
    }  # fmt: skip


def test_the_order_does_not_depend_on_the_input_order() -> None:
    rows = [candidate(f"q{i} about a", "a", document=f"d{i % 3}") for i in range(12)]
    assert balanced(rows, 1) == balanced(rows[::-1], 1)
