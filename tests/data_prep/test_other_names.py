from __future__ import annotations

import random
import time

import pytest

from mark.data_prep.other_names import OtherNames
from mark.records import Chunk
from tests.data_prep.passages import chunk

GIVEN = chunk("Acme Ltd (“the Supplier”) delivers. The European Goods Board (EGB) is set up.", "Article 1")
TERMS = chunk(
    "The service level agreement (SLA) binds. AI is artificial intelligence (AI). The personal data officer (PDO) "
    "and the Single Goods Registry (SGR) report.",
    "Article 2",
)
BODY = chunk("The Supplier shall mend goods. The SLA ends. The SGR is open. The EGB meets.", "Article 3")
CORPUS = [GIVEN, TERMS, BODY]


def swaps(question: str, chunks: list[Chunk] = CORPUS, split: dict[str, str] | None = None) -> set[str]:
    names = OtherNames(chunks, split)
    return {names.swapped(question, BODY, random.Random(seed)) for seed in range(30)}


@pytest.mark.parametrize(
    ("question", "other"),
    [
        ("Who appoints the EGB", "Who appoints the European Goods Board"),
        ("Who appoints the European Goods Board", "Who appoints the EGB"),
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
    assert swaps("Who appoints the EGB", CORPUS, split) == {"Who appoints the EGB"}
    split[BODY.chunk_id] = "test"
    assert "Who appoints the European Goods Board" in swaps("Who appoints the EGB", CORPUS, split)


def test_an_acronym_of_two_things_is_no_name() -> None:
    other = chunk("The external growth bank (EGB) lends.", "Article 4")
    assert swaps("Who appoints the EGB", [*CORPUS, other]) == {"Who appoints the EGB"}


@pytest.mark.parametrize(
    "given",
    [
        'Acme, a corporation under the laws of the State of Delaware (the "Company"), shall repair the roof.',
        'A firm registered in England and Wales (the "Landlord") shall repair the roof.',
        'The flat at 4 Main Street ("Premises") is let.',
        'Jane Doe of New York (the "Seller") sells.',
    ],
)
def test_what_stands_before_a_label_is_no_name(given: str) -> None:
    corpus = [chunk(given, "Article 1"), BODY]
    for question in ("What must the Company repair", "Who pays the Landlord", "Who sells to the Seller"):
        assert swaps(question, corpus) == {question}


def test_many_acronyms_and_capitals_take_no_time() -> None:
    letters = [f"{a}{b}{c}" for a in "ABCDEFG" for b in "HIJKLMN" for c in "OPQRST"]
    words = {letter: f"{letter[0]}word {letter[1]}thing {letter[2]}case" for letter in letters}
    texts = [f"The {long} ({short}) is set up. {long} and {short} meet." for short, long in words.items()]
    corpus = [chunk(" ".join([*texts, *["NO WARRANTY OF ANY KIND IS GIVEN"] * 2000]), "Article 1"), BODY]
    started = time.process_time()
    names = OtherNames(corpus)
    for _ in range(300):
        names.swapped("What must the Supplier mend", corpus[0], random.Random(0))
    assert time.process_time() - started < 5  # 294 pairs, 150 kB
