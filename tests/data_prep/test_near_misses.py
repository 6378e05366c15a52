from __future__ import annotations

import re

from mark.data_prep.near_misses import Terms, near_misses
from mark.data_prep.rules import Source
from mark.data_prep.sources import chunk_sources
from mark.data_prep.unanswerable import close_questions
from mark.records import Chunk
from tests.data_prep.passages import CASING, chunk

SUPPLIER = chunk(
    "The supplier shall send a yearly safety report to the agency. The supplier may sell spare keys at the gate. "
    "The supplier shall store spare keys in a locked steel box.",
    "Article 7",
)
AGENCY = chunk(
    "The agency shall inspect every locked warehouse of a producer. The agency may publish the names of bad producers.",
    "Article 9",
)
CORPUS = [SUPPLIER, AGENCY]


def sources(chunks: list[Chunk]) -> list[Source]:
    return [source for _, found in chunk_sources(chunks, CASING) for source in found]


def test_terms_find_passages_by_word_stems() -> None:
    terms = Terms(CORPUS)
    assert terms.holding("inspects warehouses") == {1}
    assert terms.holding("inspects ships") == set()
    assert terms.holding("inspects ships", missing=1) == {1}
    assert terms.section(SUPPLIER) == {0}
    assert terms.last_section == {("code", "Article"): 9}


def test_near_misses_are_answered_by_no_passage() -> None:
    made = [miss for seed in range(12) for miss in near_misses(sources(CORPUS), Terms(CORPUS), seed)]
    assert len({miss.question for miss in made}) > 12
    for miss in made:
        assert miss.forbidden is not None
        assert not any(
            miss.forbidden.search(f"{c.heading} {c.text}") for c in CORPUS if "Article" in miss.question
        )


def test_another_actor_is_one_whom_no_passage_names_with_the_duty() -> None:
    both = chunk("The agency and the supplier shall store spare keys in a locked steel box.", "Article 8")
    shared = [SUPPLIER, AGENCY, both]
    questions = [m.question for seed in range(30) for m in near_misses(sources(shared), Terms(shared), seed)]
    assert questions
    assert not [
        q
        for q in questions
        if re.search(r"(?i)(?:when|how|why) (?:must|may) the agency (?:store|keep)|if the agency fails to", q)
    ]


def test_a_detail_that_the_section_gives_is_not_asked() -> None:
    timed = chunk("The supplier shall send a yearly safety report to the agency within 30 days.", "Article 7")
    corpus = [timed, AGENCY]
    questions = [m.question for seed in range(30) for m in near_misses(sources([timed]), Terms(corpus), seed)]
    assert questions
    assert not [
        q for q in questions if re.search(r"(?i)how many days|deadline|by what date|how quickly|how often", q)
    ]


def test_numbers_beyond_the_last_article() -> None:
    made = [m.question for seed in range(60) for m in near_misses(sources(CORPUS), Terms(CORPUS), seed)]
    numbers = {int(n) for q in made for n in re.findall(r"Article (\d+)", q)}
    assert numbers and min(numbers) > 9


def test_close_questions_mix_near_misses_and_aspects() -> None:
    kinds = [foreign.rule for foreign in close_questions(sources(CORPUS), Terms(CORPUS), 3)]
    assert {"near_miss", "aspect"} == set(kinds)
