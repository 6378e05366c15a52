"""The families on contracts and on statutes of the U.S. and the U.K."""

from __future__ import annotations

import pytest

from mark.data_prep.clauses import parse
from mark.data_prep.sources import chunk_sources
from tests.data_prep.passages import CASING, chunk, drafts
from tests.data_prep.test_rules import answers


@pytest.mark.parametrize(
    ("family", "text", "answer"),
    [
        # Contracts
        ("agent", "The Licensee will provide written notice of any defect to the Licensor.", "The Licensee"),
        ("amount", "The Tenant agrees to pay the rent of the premises within ten days.", "within ten days"),
        ("obligation", "The Contractor undertakes to deliver the finished goods to the Buyer.", "the finished goods"),
        ("condition", "The Lender may terminate this facility agreement if the Borrower fails to pay interest.",
         "if the Borrower fails to pay interest"),
        ("definition", "“Confidential Information” means all information that a party marks as confidential.",
         "all information that a party marks as confidential"),
        ("complement", "The Supplier shall deliver monthly reports to the Customer.", "the Customer"),
        # United States
        ("obligation", "It is unlawful for any person to sell tainted food to a minor.",
         "It is unlawful for any person to sell tainted food to a minor"),
        ("amount", "The Secretary shall submit the report to Congress not later than 90 days after the audit.",
         "not later than 90 days after the audit"),
        ("agent", "The Administrator may waive the filing fee of an applicant.", "The Administrator"),
        ("definition", "(4) The term “covered vessel” means a vessel that carries more than 12 passengers.",
         "a vessel that carries more than 12 passengers"),
        # United Kingdom
        ("agent", "The Secretary of State may by regulations amend the list of fees.", "The Secretary of State"),
        ("condition", "The court may not grant an eviction order for the house unless the landlord has served notice.",
         "the landlord has served notice"),
        ("purpose", "The Authority must publish guidance on fees in order to protect the interests of consumers.",
         "in order to protect the interests of consumers"),
    ],
)  # fmt: skip
def test_families_on_other_texts(family: str, text: str, answer: str) -> None:
    assert answer in answers(family, text)


def test_a_ban_is_read_as_one() -> None:
    clause = parse("It is unlawful for any person to sell tainted food.")
    assert clause is not None and clause.negated and clause.modal == "may" and clause.subject == "any person"


def test_contract_verbs_are_duties() -> None:
    for text in (
        "The Tenant will pay the rent.",
        "The Tenant agrees to pay the rent.",
        "The Tenants agree to pay rent.",
    ):
        clause = parse(text)
        assert clause is not None and clause.modal == "must" and clause.verb == "pay"


def test_lists_of_a_contract() -> None:
    text = "The report shall include: (a) the number of users; (b) the amount due; and (c) the date of each payment."
    assert answers("listing", text) == {
        "(a) the number of users; (b) the amount due; and (c) the date of each payment"
    }


def test_a_relative_clause_that_narrows_is_not_dropped() -> None:
    text = "A notifying authority shall not provide any activities that conformity bodies perform."
    assert not drafts("agent", text)


def test_a_list_item_of_a_statute_keeps_its_own_question() -> None:
    source = chunk(
        "The landlord must: (a) repair the roof of the building; (b) insure the building against fire."
    )
    [(_, found)] = chunk_sources([source], CASING)
    assert [s.clause.verb for s in found if s.clause is not None] == ["repair", "insure"]
