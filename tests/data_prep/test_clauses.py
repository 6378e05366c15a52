from __future__ import annotations

import pytest

from mark.data_prep.clauses import Clause, parse


def read(sentence: str) -> Clause:
    clause = parse(sentence)
    assert clause is not None
    return clause


def test_duty_with_deadline_reference_and_exception() -> None:
    clause = read(
        "2. The supplier shall notify the defect to the agency within three days in accordance with Article 5, "
        "unless the agency knows of it."
    )
    assert (clause.subject, clause.modal, clause.verb) == ("The supplier", "must", "notify")
    assert clause.rest == "the defect to the agency"
    assert [(a.kind, a.text) for a in clause.adjuncts] == [
        ("deadline", "within three days"),
        ("reference", "in accordance with Article 5"),
        ("exception", "unless the agency knows of it"),
    ]


def test_leading_condition_with_commas_in_it() -> None:
    clause = read("Where the agent, the broker or the owner objects, the court may suspend the sale.")
    assert clause.adjuncts[0].text == "Where the agent, the broker or the owner objects"
    assert (clause.subject, clause.modal, clause.verb, clause.rest) == (
        "the court",
        "may",
        "suspend",
        "the sale",
    )


def test_passive_with_agent() -> None:
    clause = read("The chair shall be elected for a term of two years by the members of the club.")
    assert clause.passive and clause.verb == "elected"
    assert clause.adjuncts[0].text.startswith("for a term of two years")
    clause = read("The chair shall be elected by the members.")
    assert clause.agent == "the members"


@pytest.mark.parametrize(
    ("sentence", "modal", "verb", "negated"),
    [
        ("Every tenant shall have the right to inspect the books.", "right", "inspect", False),
        ("The board shall be entitled to ask for a report.", "right", "ask", False),
        ("The keeper is required to lock the gate.", "must", "lock", False),
        ("No member shall disclose the names.", "must", "disclose", True),
        ("A member may not sell the seat.", "may", "sell", True),
        ("It shall be the duty of the clerk to keep the register.", "must", "keep", False),
        ("A State may without the consent of the Union raise a loan.", "may", "raise", False),
        ("The seller shall comply with the order.", "must", "comply", False),
    ],
)
def test_modal_forms(sentence: str, modal: str, verb: str, negated: bool) -> None:
    clause = read(sentence)
    assert (clause.modal, clause.verb, clause.negated) == (modal, verb, negated)


@pytest.mark.parametrize(
    "sentence", ["The following rules apply.", "Because it shall rain, they may stay.", "Chapter II", ""]
)
def test_what_does_not_fit_is_left_out(sentence: str) -> None:
    assert parse(sentence) is None


def test_adjuncts_of_a_second_verb_are_flagged() -> None:
    assert read("The clerk shall draw up a list and keep it for two years.").coordinated
    assert not read("The clerk shall draw up a list of tools and spares.").coordinated
