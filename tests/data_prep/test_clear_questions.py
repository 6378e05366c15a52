"""Faults that readers found in questions: each statement here once gave an awkward or a wrong one."""

from __future__ import annotations

import random
import re

import pytest

from mark.data_prep.clauses import parse
from mark.data_prep.paraphrase import paraphrase
from mark.data_prep.parties import is_agent, says_little
from mark.data_prep.phrases import Casing
from mark.data_prep.rules import RULES
from mark.data_prep.sources import chunk_sources
from mark.data_prep.topics import spoken_topic
from mark.data_prep.unanswerable import aspect_questions
from mark.data_prep.wording import indirect
from tests.data_prep.passages import CASING, chunk, drafts
from tests.data_prep.test_rules import answers


def questions(rule: str, text: str, heading: str = "") -> list[str]:
    return [question for draft in drafts(rule, text, heading) for question in draft.questions]


YOU = (
    "You may not distribute copies of the program without permission.",
    "You must give recipients a copy of this License.",
    "You may add your own copyright statement to your modifications.",
    "If you convey an object code work, you must retain the installation information of the work.",
    "Your license grants you the right to copy. You must pay the fee to the licensor of the work.",
)


@pytest.mark.parametrize("text", YOU)
def test_you_takes_plural_verbs(text: str) -> None:
    asked = [q for rule in RULES for q in questions(rule, text, "Redistribution")]
    assert asked
    wrong = r"\b(?:is|does|has|was) (?:you|I|we)\b|\byou (?:is|has|does)\b|\bof you\b|\bYou\b"
    assert not [q for q in asked if re.search(wrong, q)]


def test_you_asks_are_you_and_keeps_your() -> None:
    asked = questions("obligation", YOU[2])
    assert "Are you permitted to add your own copyright statement to your modifications" in {
        q[0].upper() + q[1:] for seed in range(20) for q in _seeded("obligation", YOU[2], seed)
    }
    assert all("your modifications" in q for q in asked)


def _seeded(rule: str, text: str, seed: int) -> list[str]:
    [(_, [source])] = chunk_sources([chunk(text)], CASING)
    return [q.strip() for draft in RULES[rule](source, random.Random(seed)) for q in draft.questions]


def test_you_is_no_answer_to_who() -> None:
    assert not answers("agent", "You must give every recipient of the program a copy of the terms.")
    assert not is_agent("You") and is_agent("The Licensee")


def test_a_heading_run_into_a_sentence_is_no_subject() -> None:
    assert parse("Distribution of a Larger Work You may create and distribute a Larger Work.") is None


def test_things_are_neither_obliged_nor_allowed() -> None:
    text = "The yearly safety report shall be sent to the agency of the buyer."
    asked = [q for seed in range(20) for q in _seeded("obligation", text, seed)]
    assert asked and not [q for q in asked if re.search("obliged|required|allowed|permitted|entitled", q)]


@pytest.mark.parametrize(
    ("rule", "text", "heading"),
    [
        # The heading repeated as a topic; `what exactly`; objects that only a heading would explain.
        ("obligation", "Downstream users may lodge a complaint.", "Monitoring actions"),
        ("obligation", "The Commission shall submit a report.", "Review of the progress"),
        # Which one was told by a reference.
        ("obligation", "The notification referred to in paragraph 5 shall include all details of the product.", ""),
        ("condition", "The period referred to in paragraph 2 shall be reduced if the goods are dangerous.", ""),
        ("agent", "The Member State shall inform the Commission about the measures taken pursuant to paragraph 1.", ""),
        # Narrowed by what was cut.
        ("obligation", "The authorities shall request only data that is strictly necessary for the assessment.", ""),
        ("agent", "Financial entities shall use solutions and processes that are appropriate to the risk.", ""),
        # A second clause's exception, and a condition that restricts a duty.
        ("condition", "No judgment shall be delivered save in open Court, and no report shall be made save in "
         "accordance with an opinion also delivered in open Court.", ""),
        ("condition", "The database shall contain personal data only in so far as necessary for collecting fees.", ""),
        ("condition", "Notified bodies shall avoid unnecessary burdens for providers when performing their tasks.", ""),
        # Parties that are none, or too vague to be an answer.
        ("agent", "The EU database shall comply with the applicable accessibility requirements.", ""),
        ("agent", "The Commission shall be assisted by a committee.", ""),
        ("agent", "The bill is deemed to have been passed by the Council and accepted by the Assembly.", ""),
        # More of the same follows; a number is no person.
        ("complement", "The agency shall pay attention to the needs of makers, including small ones.", ""),
        ("complement", "The Assembly of the State of Goa shall consist of not less than thirty members.", ""),
        # Marks of the source's footnotes.
        ("listing", "The House of the People shall consist of: (a) not more than 4 [five hundred] members; and "
         "(b) not more than 5 [twenty] members.", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_clearly_is_left_out(rule: str, text: str, heading: str) -> None:
    found = drafts(rule, text, heading)
    assert not [d for d in found if "in open Court, and" not in d.answer and d.answer != "in open Court"]


def test_an_exception_is_answered_without_its_starter() -> None:
    [ban] = drafts("condition", "No tax shall be levied or collected except by authority of law.")
    assert ban.answer == "by authority of law"
    assert ban.questions == ("How may a tax be levied or collected",)
    [duty] = drafts("condition", "The buyer shall pay the agreed price, unless the goods are defective.")
    assert duty.answer == "the goods are defective"
    assert "When does the buyer not have to pay the agreed price" in duty.questions


def test_an_answer_keeps_the_clause_that_narrows_it() -> None:
    text = "The seller shall submit an application for notification to the authority of the State in which it lives."
    assert "the authority of the State in which it lives" in answers("complement", text)
    both = "The agency shall submit the yearly report to the Council and to the public."
    assert "to the Council and to the public" in answers("complement", both)


def test_by_whom_is_split_into_who() -> None:
    [draft] = drafts("agent", "The members of the panel may be removed by the Council.")
    assert draft.answer == "the Council"
    assert "Who can remove the members of the panel" in draft.questions


@pytest.mark.parametrize(
    ("topic", "spoken"),
    [
        ("scientific panel of independent experts", "the scientific panel of independent experts"),
        ("cooperation with authorities", "cooperation with authorities"),
        ("equality before law", "equality before law"),
        ("reporting obligations", "reporting obligations"),
        ("MODIFICATIONS", "modifications"),
        ("AI Office", "the AI Office"),
        ("procedure at national level for dealing with AI systems presenting a risk", None),
    ],
)
def test_headings_become_parts_of_a_sentence(topic: str, spoken: str | None) -> None:
    assert spoken_topic(topic, Casing(["office, an office, accepting"])) == spoken


def test_phrases_that_say_too_little() -> None:
    for phrase in ("publish the list", "inform the board about the measures taken", "adopt delegated acts"):
        assert says_little(phrase)
    for phrase in ("publish the list of defects", "repair the goods", "submit a yearly report to the agency"):
        assert not says_little(phrase)


def test_tell_me_stands_only_before_a_subject_question() -> None:
    rng = random.Random(0)
    odd = [indirect("Who does the Commission have to send a report to", rng) for _ in range(200)]
    assert not [q for q in odd if q.startswith("Tell me")]
    assert any(indirect("Who is responsible for the report", rng).startswith("Tell me") for _ in range(200))


def test_aspects_are_what_people_ask() -> None:
    text = "The agency shall publish a yearly report on defects. Providers may inspect the warehouse of a supplier."
    [(_, sources)] = chunk_sources([chunk(text)], CASING)
    asked = [q.question for seed in range(60) for q in aspect_questions(sources, seed)]
    assert asked
    assert not [
        q for q in asked if re.search(r"subsidy|tax refund|bonus|weekday|how many pages|telephone", q)
    ]
    assert not [q for q in asked if re.search(r"(?i)\bhas providers\b|template for inspecting", q)]


def test_only_is_no_particle() -> None:
    clause = parse("The permit shall be issued only if the board agrees to the plan.")
    assert clause is not None and clause.verb == "issued"


def test_a_power_is_not_what_must_be_done() -> None:
    asked = questions(
        "condition", "If your program is a library, you may permit linking of other programs with it."
    )
    assert asked and not [q for q in asked if re.search("must be done|law require", q)]


def test_findings_and_appointments() -> None:
    told = (
        "The Member States shall inform the Commission and the other States of a finding under paragraph 1."
    )
    assert not drafts("complement", told) and not drafts("agent", told)
    assert not drafts("agent", "The Commission shall ensure that the list is kept up to date.")
    assert paraphrase("Who appoints every judge who is appointed", random.Random(1), 1.0) == (
        "Who appoints every judge who is appointed"
    )
    assert "constituted-I" in paraphrase("What must the board constituted-I review", random.Random(1), 1.0)


def test_the_first_of_several_meanings_is_no_definition() -> None:
    assert not drafts("definition", '"Control" means (a) the power to cause the direction of an entity, or')


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("complement", "When preparing the guidance pursuant to this Article, the agency shall consult relevant buyers."),
        ("obligation", "High-risk goods referred to in point 2 of Annex III shall be registered at national level."),
        ("obligation", "Seats shall be reserved also for the autonomous districts in the Assembly of the State."),
    ],
)  # fmt: skip
def test_cases_that_a_cut_reference_told(rule: str, text: str) -> None:
    assert not drafts(rule, text)


@pytest.mark.parametrize(
    "party",
    ["the lessee", "The guarantor", "an insurer", "each vendor", "franchisees", "the trustee", "the bank",
     "shareholders", "the carrier", "the attorney", "an arbitrator", "the school", "Member States", "the Landlord",
     "competent authorities", "the European Data Protection Board", "the tenant", "a person", "the children"],
)  # fmt: skip
def test_parties_act(party: str) -> None:
    assert is_agent(party)


@pytest.mark.parametrize(
    "thing",
    ["personal data", "the statement", "statements", "the entitlement", "the court fees", "a household",
     "the user interface", "the directory", "The Lease", "The Invoice", "The Equipment", "The Royalty", "Payment",
     "Interest", "Arbitration", "the order", "the newsletter", "a register", "the transfer", "the guarantee"],
)  # fmt: skip
def test_things_do_not_act(thing: str) -> None:
    assert not is_agent(thing)


def test_a_manner_inside_an_exception_is_none() -> None:
    text = "You may sublicense the Work to your customers unless the owner objects in writing."
    assert drafts("manner", text) == []
    assert drafts("manner", "The members shall elect the chair by secret ballot.")


@pytest.mark.parametrize(
    ("topic", "spoken"),
    [
        ("Subletting", "subletting"), ("Late Payment", "late payment"), ("Force Majeure", "force majeure"),
        ("LIMITATION OF LIABILITY", "the limitation of liability"), ("Repairs", "repairs"),
        ("Miscellaneous", None), ("General Provisions", None), ("Rules for SMEs", "rules for SMEs"),
    ],
)  # fmt: skip
def test_headings_of_contracts_are_written_small(topic: str, spoken: str | None) -> None:
    assert spoken_topic(topic, Casing(["the parties agree on the limits"])) == spoken
