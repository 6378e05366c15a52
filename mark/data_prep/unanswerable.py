"""Questions that no passage answers: other subjects, missing aspects, other documents' terms."""

from __future__ import annotations

import random
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from mark.data_prep import verbs
from mark.data_prep.bank import ASPECTS, BANK, SLOTS
from mark.data_prep.naming import DocumentNames
from mark.data_prep.near_misses import Terms, near_misses
from mark.data_prep.parties import lost_pointer, narrowed, says_little
from mark.data_prep.phrases import content_words, dangles
from mark.data_prep.rules import Source
from mark.data_prep.wording import Ask, finish
from mark.data_prep.words import word_set
from mark.seeding import derived_seed

NEAR_MISSES_AN_ASPECT = 4

_TERM = re.compile(r"[‘“](?P<term>[^‘’“”]{4,60}?)\s?[’”]{1,2}\s?(?:,? (?:also )?means?)\b")
_PARTY = re.compile(
    r"(?:authorit|bod(?:y|ies)|commission|court|board|council|agency|provider|operator|manufacturer|importer|deployer|"
    r"controller|processor|entit|company|companies|parliament|legislature|member states?|president|"
    r"governor|office|"
    r"committee|supplier|employer|owner|tenant|party|parties)s?\b",
    re.I,
)


@dataclass(frozen=True)
class Foreign:
    """A question without an answer."""

    question: str
    rule: str  # "bank", "aspect", "near_miss", "other_document" or "practice"
    forbidden: re.Pattern[str] | None  # a passage with this might hold an answer after all


def bank_questions(corpus: str, seed: int) -> list[Foreign]:
    """Questions about subjects that the corpus never names.

    Args:
        corpus: All text, lower-cased; a question is left out when all its key words occur there.
        seed: The run's seed.
    """
    rng = random.Random(derived_seed(seed, "bank"))
    words = set(re.findall(r"\w+", corpus))
    made: list[Foreign] = []
    for template, keys in BANK:
        slots = re.findall(r"\{(\w+)\}", template)
        fillings: Sequence[str] = SLOTS[slots[0]] if slots else [""]
        for filling in rng.sample(list(fillings), len(fillings)):
            question = template.format(**{slots[0]: filling}) if slots else template
            needed = [key for key in keys.split() if key != "_"] + (
                re.findall(r"\w+", filling.lower())[-1:] if "_" in keys.split() else []
            )
            if all(key in words for key in needed):
                continue
            made.append(
                Foreign(
                    question,
                    "bank",
                    re.compile("|".join(rf"\b{re.escape(k)}\b" for k in needed if k not in words), re.I),
                )
            )
    rng.shuffle(made)
    return made


def close_questions(sources: Sequence[Source], terms: Terms, seed: int) -> Iterator[Foreign]:
    """Near misses, and after every fourth of them a question about an aspect that no law regulates.

    Args:
        sources: Statements of the split's passages.
        terms: Of the whole corpus.
        seed: The run's seed.
    """
    aspects = aspect_questions(sources, seed)
    for number, miss in enumerate(near_misses(sources, terms, seed), 1):
        yield Foreign(miss.question, "near_miss", miss.forbidden)
        if number % NEAR_MISSES_AN_ASPECT == 0:
            yield from islice(aspects, 1)
    yield from aspects


def aspect_questions(sources: Sequence[Source], seed: int) -> Iterator[Foreign]:
    """Questions about a duty that is regulated, asking for what is not: its price, its form, its history.

    Args:
        sources: Statements of the split's passages.
        seed: The run's seed.
    """
    rng = random.Random(derived_seed(seed, "aspects"))
    for source in rng.sample(list(sources), len(sources)):
        ask = source.ask()
        if ask is None or not _plain(ask):
            continue
        duty = ask.clause.modal == "must"
        template, forbidden = rng.choice(
            [aspect for aspect in ASPECTS if duty or _OF_POWERS.search(aspect[0])]
        )
        if "template" in template and not _PAPER.search(ask.verb_phrase):
            continue
        if ask.plural:
            template = template.replace("Has {s}", "Have {s}")
        wording = template.format(
            s=ask.subject,
            vp=ask.verb_phrase,
            ing=verbs.gerund(ask.verb_phrase),
            claim="duty" if duty else "power",
        )
        question = finish(wording, source.names, rng)
        if not dangles(question):
            yield Foreign(question, "aspect", re.compile(forbidden, re.I))


_OF_POWERS = re.compile(r"\{claim\}|first|similar rule")  # a power that is rarely used has no staff or price
_PAPER = re.compile(
    r"\b(?:reports?|notifications?|declarations?|plan|polic(?:y|ies)|agreements?|contracts?|applications?|records?|"
    r"documentation|notices?|requests?|invoices?|register)\b"
)


def _plain(ask: Ask) -> bool:
    """Whether a duty or power is told in full by a few words."""
    clause, phrase = ask.clause, ask.verb_phrase
    if clause.passive or clause.negated or clause.modal not in ("must", "may"):
        return False
    if clause.verb in _NO_DEED or not _PARTY.search(ask.subject) or len(ask.subject.split()) > 5:
        return False
    if says_little(phrase) or lost_pointer(phrase, clause.rest) or narrowed(phrase, clause.rest):
        return False
    if re.search(r"\b(?:its|their|his|own|in|as)\b", phrase):
        return False
    return len(content_words(phrase)) >= 3 and len(phrase.split()) <= 9


# What costs nothing, takes no time and has no staff of its own.
_NO_DEED = word_set(
    "be have ensure apply consist act comply take make give put remain strive endeavour pay include contain "
    "represent cooperate decide"
)


def other_document_questions(
    sources: Sequence[Source], names: dict[str, DocumentNames], texts: Mapping[str, Container[str]], seed: int
) -> Iterator[Foreign]:
    """Terms of one document asked of another that never uses them.

    Args:
        sources: Statements of the split's passages.
        names: Of each document.
        texts: Lower-cased text of each document, or what tells whether a term stands in it.
        seed: The run's seed.
    """
    rng = random.Random(derived_seed(seed, "other documents"))
    for source in rng.sample(list(sources), len(sources)):
        match = _TERM.search(source.statement.text)
        if match is None:
            continue
        term = match.group("term").strip()
        others = [d for d in sorted(names) if d != source.chunk.document and term.lower() not in texts[d]]
        if not others:
            continue
        name = rng.choice(names[rng.choice(others)].names)
        wording = rng.choice(
            [
                "How does {name} define '{term}'?",
                "What does {name} mean by {term}?",
                "What does {name} say about {term}?",
                "Which article of {name} defines {term}?",
                "What is {term} according to {name}?",
            ]
        )
        question = wording.format(name=name, term=term)
        yield Foreign(question[0].upper() + question[1:], "other_document", None)
