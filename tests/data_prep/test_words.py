from __future__ import annotations

import random

import pytest

from mark.data_prep.naming import document_names
from mark.data_prep.paraphrase import paraphrase, with_right_articles
from mark.data_prep.verbs import base_of_participle, gerund, is_plural, third_person


@pytest.mark.parametrize(
    ("phrase", "ing", "s"),
    [
        ("carry out a check", "carrying out a check", "carries out a check"),
        ("submit the file", "submitting the file", "submits the file"),
        ("oversee the work", "overseeing the work", "oversees the work"),
        ("establish or name a body", "establishing or naming a body", "establishes or names a body"),
        ("draw up and publish the list", "drawing up and publish the list", "draws up and publish the list"),
        ("be heard", "being heard", "is heard"),
    ],
)
def test_verb_forms(phrase: str, ing: str, s: str) -> None:
    assert gerund(phrase) == ing
    assert third_person(phrase) == s


def test_participles() -> None:
    pairs = {
        "appointed": "appoint",
        "submitted": "submit",
        "notified": "notify",
        "drawn": "draw",
        "assessed": "assess",
    }
    assert {word: base_of_participle(word) for word in pairs} == pairs
    assert base_of_participle("need") is None


def test_plural_subjects() -> None:
    assert (
        is_plural("Member States")
        and is_plural("the board and the chair")
        and is_plural("providers of a tool")
    )
    assert not is_plural("the provider of tools") and not is_plural("each Member State")


@pytest.mark.parametrize(
    ("title", "name", "terse"),
    [
        ("General Data Protection Regulation (GDPR)", "the GDPR", "GDPR"),
        ("Digital Operational Resilience Act (DORA)", "DORA", "DORA"),
        ("NIS 2 Directive", "NIS2", "NIS2"),
        ("Cyber Resilience Act", "the CRA", "CRA"),
        ("Constitution of India", "the Constitution", "Constitution of India"),
        ("Lease", "the Lease", "Lease"),
    ],
)
def test_document_names(title: str, name: str, terse: str) -> None:
    names = document_names(title)
    assert name in names.names
    assert names.terse == terse


def test_initials_in_use_make_a_short_name() -> None:
    assert "the AI Act" in document_names("Artificial Intelligence Act", {"AI", "EU"}).names


def test_paraphrase_changes_words_but_not_what_is_kept() -> None:
    rng = random.Random(1)
    text = paraphrase(
        "Who must submit 'natural persons' to the supervisory authority", rng, 1.0, "natural persons"
    )
    assert "natural persons" in text and "submit" not in text
    assert "implementing acts" in paraphrase("Who adopts implementing acts", rng, 1.0)


def test_articles() -> None:
    assert with_right_articles("a adequate and an suitable a European an hour") == (
        "an adequate and a suitable a European an hour"
    )
