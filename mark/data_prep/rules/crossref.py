"""Two hops: a provision points to another one, and the answer stands in the other one."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mark.data_prep.phrases import content_words, dangles
from mark.data_prep.references import references
from mark.data_prep.rules.base import Draft, Source, clean_answer
from mark.data_prep.sentences import Statement, strip_item
from mark.records import Chunk

_POINTED = (
    r"(?:as )?(?:referred to|set out|laid down|provided for|listed|specified|described|established|mentioned|"
    r"defined|required|made|issued|appointed|constituted|imposed|granted|given|conferred|designated|submitted|"
    r"notified|concluded|payable|due)"
)
_THING = re.compile(
    r"\b(?P<determiner>the|any|each|an?|its|their|those|all|every) (?P<noun>(?:[A-Za-z][\w-]* ){1,5}?)"
    rf"(?:{_POINTED} )?(?:in|by|under|at|pursuant to|in accordance with)(?: the (?:provisions|terms) of)? $"
)
_NO_NOUN = re.compile(
    r"\b(?:the|any|each|an?|its|their|those|all|shall|may|must|and|or|to|of|in|for|by|with|on|that|which|is|are|be|"
    r"not|such|out|as|carried|taken|processed|subject|established|designated|first|second|third|provided|having)\b|"
    r"ed$"
)
# Nouns that say nothing without their provision.
_BARE_NOUN = re.compile(
    r"(?:conditions?|requirements?|provisions?|cases?|obligations?|period|date|purposes?|matters?|means?|article|"
    r"paragraph|power|powers|accordance|manner|persons?|rules?|acts?|time|areas?|measures?|activities|tasks|"
    r"grounds|circumstances|rights?|objectives?|systems?|information|documentation|evaluation|decision|fines?|House|Houses|Bill|State|subparagraph|sentence|points?)$"
)


@dataclass(frozen=True)
class _Hop:
    """What the referring provision says and where the answer stands."""

    source: Source
    noun: str  # `simplified form` of `the simplified form referred to in Article 11(1)`
    direct: bool  # the noun is the object of the referring clause
    chunk: Chunk
    answer: str


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions that start in this provision and are answered by the one that it points to."""
    text = source.statement.text
    for reference in references(text):
        thing = _THING.search(text[: reference.start])
        noun = thing.group("noun").strip() if thing else ""
        if thing is None or not _says_something(noun):
            continue
        found = _telling(source.provisions.find(reference, source.chunk), noun, text)
        if found is None:
            continue
        chunk, answer = found
        if chunk.section == source.chunk.section and len(content_words(noun)) < 2:
            continue
        hop = _Hop(
            source, source.casing.lower_first(noun), _is_object(source, thing.group(), noun), chunk, answer
        )
        questions = [q for q in _questions(hop, rng) if not dangles(q)]
        if questions:
            yield Draft(tuple(questions), answer, "full", answer, keep=noun, chunk=chunk)
            return


def _says_something(noun: str) -> bool:
    return not (_NO_NOUN.search(noun) or _BARE_NOUN.search(noun) or not content_words(noun))


def _telling(found: list[tuple[Chunk, Statement]], noun: str, own: str) -> tuple[Chunk, str] | None:
    """The statement that introduces the noun, or the provision's first one if that names it."""
    introduces = re.compile(rf"\b(?:an?|one or more) (?:[\w-]+ ){{0,3}}{re.escape(noun)}")
    first = None
    for place, (chunk, statement) in enumerate(found):
        answer = _readable(statement)
        if answer is None or statement.text == own or not _names(answer, noun):
            continue
        if introduces.search(answer):
            return chunk, answer
        if place == 0:
            first = (chunk, answer)
    return first


def _readable(statement: Statement) -> str | None:
    answer = strip_item(re.sub(r"^(?:\d+\.|\(\w+\))\s+", "", statement.text))
    if (
        len(answer.split()) < 6
        or not answer[0].isupper()
        or answer.endswith((":", "—", "–"))
        or statement.lead
    ):
        return None
    leans = re.match(
        r"(?i)(?:it|they|this|that|those|these|such|he|she|however|where (?:it|they|such)|the "
        r"(?:said|same))\b",
        answer,
    )
    return None if leans else clean_answer(answer)


def _names(answer: str, noun: str) -> bool:
    """Whether all content words of the noun stand in the answer, in any form, without its own pointer."""
    there = _stems(answer)
    return _stems(noun) <= there and not re.search(
        rf"{re.escape(noun)} (?:as )?(?:referred to|set out|laid down|provided for|mentioned)", answer
    )


def _is_object(source: Source, phrase: str, noun: str) -> bool:
    clause = source.clause
    if clause is None or clause.passive or clause.negated or source.statement.lead:
        return False
    return re.match(rf"(?:\w+ )?{re.escape(noun)}\b", clause.rest) is not None and noun in phrase


def _questions(hop: _Hop, rng: random.Random) -> list[str]:
    source, noun = hop.source, hop.noun
    name, section = rng.choice(source.names.names), _section(source.chunk.section)
    questions = []
    if section:
        questions += [
            f"What does {name} say about the {noun} that {section} mentions",
            f"What is laid down about the {noun} to which {section} of {name} refers",
            f"{section} of {name} mentions the {noun}: what is laid down about the {noun}",
        ]
    subject, clause = source.subject(), source.clause
    if hop.direct and subject is not None and clause is not None:
        modal = {"must": "must", "may": "may", "right": "may", "fact": "can"}[clause.modal]
        questions += [
            f"Which {noun} {modal} {subject} {clause.verb}",
            f"What is the rule on the {noun} that {subject} {modal} {clause.verb}",
            f"{subject} {modal} {clause.verb} the {noun}: what is laid down about the {noun}",
        ]
    return questions


def _section(section: str) -> str:
    return section if re.match(r"(?:Article|Section) \d", section) else ""


def _stems(text: str) -> set[str]:
    return {word[:6] for word in content_words(text) if len(word) > 2}
