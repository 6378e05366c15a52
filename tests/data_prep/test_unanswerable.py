from __future__ import annotations

import re

from mark.data_prep.bank import ASPECTS, BANK, SLOTS
from mark.data_prep.naming import document_names
from mark.data_prep.sources import chunk_sources
from mark.data_prep.unanswerable import aspect_questions, bank_questions, other_document_questions
from tests.data_prep.passages import CASING, chunk


def test_bank_leaves_out_subjects_of_the_corpus() -> None:
    questions = {q.question for q in bank_questions("the tenant pays the landlord", 1)}
    assert "How long is the warranty on a used car?" in questions
    assert "What is the notice period when a tenant moves out?" not in questions


def test_bank_is_seeded_and_has_no_repeats() -> None:
    first = [q.question for q in bank_questions("nothing", 1)]
    assert first == [q.question for q in bank_questions("nothing", 1)]
    assert len(first) == len(set(first)) > 200


def test_templates_are_complete() -> None:
    for template, _ in BANK:
        assert all(slot in SLOTS for slot in re.findall(r"\{(\w+)\}", template))
    for template, forbidden in ASPECTS:
        assert re.compile(forbidden) and "{" in template


def test_aspects_name_what_is_regulated() -> None:
    text = "The supplier shall submit a yearly report to the agency. The agency may inspect the warehouse of a supplier."
    sources = [s for _, found in chunk_sources([chunk(text)], CASING) for s in found]
    made = list(aspect_questions(sources, 2))
    assert made and all(q.rule == "aspect" and q.forbidden is not None for q in made)


def test_terms_are_asked_of_a_document_that_lacks_them() -> None:
    source = chunk("‘night supplier’ means a supplier who delivers goods at night;")
    sources = [s for _, found in chunk_sources([source], CASING) for s in found]
    names = {"code": document_names("Supply Code"), "lease": document_names("Lease Act")}
    texts = {"code": source.text.lower(), "lease": "the tenant pays"}
    [foreign] = list(other_document_questions(sources, names, texts, 1))
    assert "night supplier" in foreign.question and "the Lease Act" in foreign.question
    texts["lease"] = "no night supplier may enter"
    assert not list(other_document_questions(sources, names, texts, 1))
