"""The families crossref and cloze."""

from __future__ import annotations

import random

from mark.data_prep.candidates import make_candidates
from mark.data_prep.rules import RULES, Draft
from mark.data_prep.sources import chunk_sources
from mark.records import Chunk
from tests.data_prep.passages import CASING, chunk, drafts


def crossrefs(*chunks: Chunk) -> list[Draft]:
    split = {c.chunk_id: "train" for c in chunks}
    found: list[Draft] = []
    for _, sources in chunk_sources(chunks, CASING, split):
        for source in sources:
            found += RULES["crossref"](source, random.Random(0))
    return found


FIRST = chunk("The supplier shall publish the safety report referred to in Article 4(1).", "Article 9")
SECOND = chunk("1. The agency shall draw up a safety report for each warehouse. 2. It is free.", "Article 4")


def test_the_answer_of_a_cross_reference_stands_in_the_other_provision() -> None:
    [draft] = crossrefs(FIRST, SECOND)
    assert draft.answer == "The agency shall draw up a safety report for each warehouse."
    assert draft.chunk == SECOND and draft.answer in SECOND.text
    assert "Which safety report must the supplier publish" in draft.questions


def test_the_candidate_of_a_cross_reference_belongs_to_the_answer_s_passage() -> None:
    split = {FIRST.chunk_id: "train", SECOND.chunk_id: "train"}
    made = [c for c, _ in make_candidates([FIRST, SECOND], {"crossref": RULES["crossref"]}, CASING, 1, split)]
    assert made and all(c.chunk == SECOND and c.answer in SECOND.text for c in made)


def test_sections_of_a_statute_and_clauses_of_a_contract_refer_too() -> None:
    notice = chunk("The tenant may give a repair notice to the landlord in writing.", "Section 12")
    fee = chunk("The landlord shall answer any repair notice given under section 12.", "Section 15")
    [draft] = crossrefs(fee, notice)
    assert draft.answer == "The tenant may give a repair notice to the landlord in writing."


def test_a_reference_that_names_nothing_is_left_alone() -> None:
    vague = chunk("The supplier shall fulfil the conditions referred to in Article 4(1).", "Article 9")
    assert not crossrefs(vague, SECOND)
    assert not crossrefs(FIRST, chunk("1. The agency shall keep a list of all warehouses.", "Article 4"))


def cloze(text: str) -> dict[str, str]:
    return {draft.answer: draft.questions[0] for draft in drafts("cloze", text)}


def test_when_by_whom_where_of_a_report() -> None:
    text = "The company was founded by Ada Miller in 1998. The warehouse was opened in Lyon on 3 May 2011."
    assert cloze(text) == {
        "in 1998": "When was the company founded by Ada Miller",
        "Ada Miller": "By whom was the company founded",
        "on 3 May 2011": "When was the warehouse opened in Lyon",
        "in Lyon": "Where was the warehouse opened",
    }


def test_the_past_and_u_s_dates() -> None:
    assert cloze("The board approved the merger on March 4, 2020.") == {
        "on March 4, 2020": "When did the board approve the merger"
    }


def test_how_many() -> None:
    assert cloze("The fund owns 120 office buildings in the north.")["120"] == (
        "How many office buildings does the fund own in the north"
    )


def test_who_and_what_of_a_legal_fact() -> None:
    assert cloze("The director shall be chair of the audit committee.") == {
        "The director": "Who must be chair of the audit committee"
    }
    assert cloze("There shall be a safety officer for each warehouse.") == {
        "a safety officer": "What must there be for each warehouse"
    }


def test_conditions_and_pronouns_are_no_facts() -> None:
    assert not cloze("When a Bill was passed in 1998 it was sent back.")
    assert not cloze("It was founded by Ada Miller in 1998.")
