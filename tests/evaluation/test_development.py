"""The figures that sweeps are chosen by."""

from __future__ import annotations

import pytest

from mark.answering.refusal import Evidence, fit
from mark.evaluation.cells import Answer
from mark.evaluation.development import development, development_rows
from mark.evaluation.questions import Question
from mark.evaluation.significance import Bootstrap
from mark.records import Kind

ANSWERS = {
    "a": ("30 days", 0.1),
    "b": ("the owner", 0.6),
    "c": ("x", 0.4),
    "d": ("y", 0.9),
    "rule": ("z", 0.0),
}


def question(ident: str, kind: Kind, gold: str, rule: str = "handwritten") -> Question:
    accepted = (gold,) if kind == "answerable" else ()
    return Question(ident, f"What of {ident}?", accepted, kind, "short", rule, "lease", ident, (), ())


def figures(questions: list[Question]) -> dict[str, object]:
    answers = {
        ("tuned", q.id): Answer(*[ANSWERS[q.id][0]] * 2, Evidence(ANSWERS[q.id][1]), ()) for q in questions
    }
    rule = fit([Evidence(0.5)], [1.0], ["answerable"])
    return development(development_rows(questions, answers, {"tuned": rule}, {}), Bootstrap(200, 0.9, 1))


def test_handwritten_questions_alone_are_counted() -> None:
    found = figures(
        [
            question("a", "answerable", "30 days"),
            question("b", "answerable", "the owner of the house"),
            question("c", "unanswerable", ""),
            question("d", "unanswerable", ""),
            question("rule", "answerable", "nothing like it", "amount"),
        ]
    )
    tuned = found["tuned"]
    assert isinstance(tuned, dict)
    assert found["questions"] == 4 and found["handwritten"] is True
    # "a": 1. "b": articles dropped, owner of owner, of, house: precision 1, recall 1/3, F1 1/2. Mean 3/4.
    assert tuned["f1_if_answered"] == pytest.approx(0.75)
    assert 0.5 <= tuned["f1_if_answered_low"] <= 0.75 <= tuned["f1_if_answered_high"] <= 1
    # Of the pairs (.4, .1), (.4, .6), (.9, .1), (.9, .6) three are in order.
    assert tuned["refusal_auc"] == 0.75


def test_without_handwritten_questions_validation_stands_in() -> None:
    found = figures([question("rule", "answerable", "z", "amount")])
    tuned = found["tuned"]
    assert isinstance(tuned, dict)
    assert found["questions"] == 1 and found["handwritten"] is False
    assert tuned["f1_if_answered"] == 1.0 and "refusal_auc" not in tuned
