from __future__ import annotations

import pytest

from mark.data_prep.rules import chosen_rules
from mark.errors import ConfigError
from tests.data_prep.passages import drafts


def answers(rule: str, text: str, heading: str = "") -> set[str]:
    return {draft.answer for draft in drafts(rule, text, heading)}


def test_definition_asks_both_ways() -> None:
    text = "(1) ‘supplier’ means a person who delivers goods to a buyer against payment;"
    assert answers("definition", text) == {
        "a person who delivers goods to a buyer against payment",
        "supplier",
    }


def test_definition_by_reference_is_left_out() -> None:
    assert not drafts("definition", "‘agent’ means an agent as defined in Article 2 of Directive 2000/31/EC;")


def test_agent_active_and_passive() -> None:
    assert answers("agent", "The agency shall publish a yearly list of defects.") == {"The agency"}
    [draft] = drafts("agent", "The treasurer shall be appointed by the board of the club.")
    assert draft.answer == "the board of the club"
    assert "Who appoints the treasurer" in draft.questions


def test_agent_is_a_party_and_no_rule() -> None:
    assert not drafts("agent", "Paragraph 1 shall not affect the rights of the buyer.")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The supplier shall repair the goods within thirty days.", "within thirty days"),
        (
            "The agency shall inspect the warehouse at least once every two years.",
            "at least once every two years",
        ),
        ("The chair shall hold office for a term of five years.", "for a term of five years"),
        ("The term of office of the chair shall be five years.", "five years"),
        ("The board shall take decisions by a majority of its members.", "by a majority of its members"),
        ("The council shall consist of at least twelve members.", "at least twelve members"),
    ],
)
def test_amounts(text: str, answer: str) -> None:
    assert answer in answers("amount", text)


def test_amount_of_an_exception_is_not_the_duty_s() -> None:
    text = "The lease shall be renewed tacitly, unless the owner objects within two months."
    assert not drafts("amount", text)


def test_condition_exception_and_consequence() -> None:
    text = "Where the goods are defective, the buyer may refuse payment of the price, unless the defect is minor."
    found = drafts("condition", text)
    assert {"Where the goods are defective", "the defect is minor"} <= {draft.answer for draft in found}
    [consequence] = [d for d in found if d.answer.startswith("the buyer may refuse")]
    assert "What happens if the goods are defective" in consequence.questions


def test_purpose() -> None:
    text = "The agency shall inspect the goods in order to protect the health of the buyers."
    assert answers("purpose", text) == {"in order to protect the health of the buyers"}


def test_complement_and_recipient() -> None:
    assert "the agency" in answers("complement", "The supplier shall submit the yearly report to the agency.")
    assert "the President" in answers("complement", "The executive power shall be vested in the President.")


def test_manner() -> None:
    assert "by secret ballot" in answers("manner", "The members shall elect the chair by secret ballot.")


def test_obligation_asks_for_object_and_whole_rule() -> None:
    text = "The supplier shall provide a spare key to the tenant."
    found = drafts("obligation", text)
    assert {"a spare key", "The supplier shall provide a spare key to the tenant"} <= {
        d.answer for d in found
    }


def test_obligation_leaves_list_items_alone() -> None:
    # `Must suppliers keep records?` would be answered by a piece of a sentence.
    text = "Suppliers shall: (a) keep written records of all deliveries; (b) pay the fee."
    assert not drafts("obligation", text)


def test_listing_is_answered_by_the_whole_list() -> None:
    text = "The file shall contain: (a) the name of the buyer; (b) the date; and (c) the price."
    assert answers("listing", text) == {"(a) the name of the buyer; (b) the date; and (c) the price"}


def test_provision_takes_the_first_sentence_under_a_heading() -> None:
    text = "1. The buyer may return goods that are defective. The costs fall on the supplier."
    [draft] = drafts("provision", text, "Return of goods")
    assert draft.answer == "The buyer may return goods that are defective."


def test_unknown_family_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'defintion' is no rule family; did you mean definition\?"):
        chosen_rules(["agent", "defintion"])
