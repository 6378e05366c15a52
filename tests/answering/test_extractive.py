"""The baseline without a model."""

from __future__ import annotations

import pytest

from mark.answering.extractive import extract, extractive_answer, sentences
from mark.prompting import Passage

LEASE = Passage(
    "c1",
    "Lease",
    "The tenant shall pay the rent within five days. Late payments bear interest; the landlord repairs the roof.",
)
OTHER = Passage("c2", "Policy", "The director reports a breach within 24 hours.")


def test_the_sentence_with_the_rare_words_wins() -> None:
    assert extractive_answer("Who must repair roofs?", [LEASE, OTHER]) == "the landlord repairs the roof."
    assert extractive_answer("When must the rent be paid?", [LEASE]).startswith("The tenant shall pay")


def test_only_the_top_passage_is_quoted() -> None:
    assert extractive_answer("Who reports a breach?", [LEASE, OTHER]) in sentences(LEASE.text)


def test_uncovered_is_the_weighted_share_of_missing_words() -> None:
    assert extract("landlord repairs roof", [LEASE]).uncovered == pytest.approx(0.0)
    assert extract("zebra quagga", [LEASE]).uncovered == pytest.approx(1.0)
    assert 0 < extract("landlord zebra", [LEASE]).uncovered < 1


def test_no_passage_no_words() -> None:
    assert extract("anything", []).text == ""
    assert extract("?!", [LEASE]).uncovered == 1.0
