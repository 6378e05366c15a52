from __future__ import annotations

import random

import pytest

from mark.data_prep.other_names import OtherNames
from mark.records import Chunk
from tests.data_prep.passages import chunk

GIVEN = chunk(
    "Acme Ltd (“the Supplier”) delivers. A European Goods Board (the ‘Board’) is set up.", "Article 1"
)
TERMS = chunk(
    "The service level agreement (SLA) binds. AI is artificial intelligence (AI). The personal data officer (PDO) "
    "and the Single Goods Registry (SGR) report.",
    "Article 2",
)
BODY = chunk("The Supplier shall mend goods. The SLA ends. The SGR is open.", "Article 3")
CORPUS = [GIVEN, TERMS, BODY]


def swaps(question: str, chunks: list[Chunk] = CORPUS, split: dict[str, str] | None = None) -> set[str]:
    names = OtherNames(chunks, split)
    return {names.swapped(question, BODY, random.Random(seed)) for seed in range(30)}


@pytest.mark.parametrize(
    ("question", "other"),
    [
        ("What must the Supplier mend", "What must Acme Ltd mend"),
        ("What must Acme Ltd mend", "What must the Supplier mend"),
        ("Who appoints the Board", "Who appoints the European Goods Board"),
        ("When does the SLA end", "When does the service level agreement end"),
        ("Who checks high-risk AI systems", "Who checks high-risk artificial intelligence systems"),
        ("Is the SGR open", "Is the Single Goods Registry open"),
    ],
)
def test_a_thing_is_named_as_another_passage_does(question: str, other: str) -> None:
    assert swaps(question) == {question, other}


@pytest.mark.parametrize(
    "question",
    [
        "What does the AI Office publish",  # a part of another name
        "Which SLA-based fees are due",
        "Who chairs a management Board",
        "Who pays for SLA staff",  # `service level agreement staff`
    ],
)
def test_a_name_is_left_alone_inside_another(question: str) -> None:
    assert swaps(question) == {question}


def test_names_never_cross_a_split() -> None:
    split = {GIVEN.chunk_id: "test", TERMS.chunk_id: "test", BODY.chunk_id: "train"}
    assert swaps("What must the Supplier mend", CORPUS, split) == {"What must the Supplier mend"}
    split[BODY.chunk_id] = "test"
    assert "What must Acme Ltd mend" in swaps("What must the Supplier mend", CORPUS, split)


def test_a_label_of_two_things_is_no_name() -> None:
    other = chunk("Bolt Inc (“the Supplier”) sells.", "Article 4")
    assert swaps("What must the Supplier mend", [*CORPUS, other]) == {"What must the Supplier mend"}
