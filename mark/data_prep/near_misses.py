"""Questions that a document nearly answers: another actor, a missing detail, a provision that is not there.

Each is checked against the whole corpus by its key terms, so that no passage answers it.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mark.data_prep import verbs
from mark.data_prep.parties import is_agent, says_little
from mark.data_prep.phrases import content_words, dangles
from mark.data_prep.references import section_number
from mark.data_prep.rules import Source
from mark.data_prep.rules.numbers import DATE, TIME
from mark.data_prep.wording import Ask, finish
from mark.data_prep.words import word_set
from mark.records import Chunk
from mark.seeding import derived_seed

_STEM = 6  # letters by which words are compared
_ENOUGH = 3  # content words of a duty without which it is too vague to be denied


@dataclass(frozen=True)
class NearMiss:
    """A question without an answer, and what a passage would hold that answers it."""

    question: str
    forbidden: re.Pattern[str] | None


@dataclass(frozen=True)
class _Detail:
    """A plausible detail of a duty."""

    wordings: tuple[str, ...]  # {s} subject, {vp} verb phrase, {ing} its -ing form, {do} do or does
    told: str  # what a passage with such a detail holds


_DETAILS = (
    _Detail(
        (
            "Within how many days must {s} {vp}",
            "How many weeks {do} {s} have to {vp}",
            "What is the deadline for {s} to {vp}",
            "By what date must {s} {vp}",
            "How quickly must {s} {vp}",
        ),
        rf"{TIME}|{DATE}|\bdelay|immediately|promptly|forthwith|as soon as|deadline|time[- ]limit|"
        rf"period|timely|due course",
    ),
    _Detail(
        ("How often must {s} {vp}", "At what intervals must {s} {vp}", "How many times a year must {s} {vp}"),
        r"\b(?:every|annual\w*|yearly|month\w*|regular\w*|periodic\w*|interval\w*|once|twice|times?|frequen\w+|continu\w+)\b",
    ),
    _Detail(
        (
            "How much does it cost {s} to {vp}",
            "What fee is due for {ing}",
            "How high is the budget of {s} for {ing}",
        ),
        r"\b(?:fees?|costs?|charges?|budget\w*|fund\w*|expens\w+|pay\w*|financ\w+|free of)\b",
    ),
    _Detail(
        (
            "What fine {do} {s} face for not {ing}",
            "How high is the penalty if {s} {fail} to {vp}",
            "What prison sentence {do} {s} face for not {ing}",
        ),
        r"\b(?:fines?|penalt\w+|sanction\w*|punish\w*|imprison\w*|offences?)\b",
    ),
    _Detail(
        (
            "In which language must {s} {vp}",
            "Which languages may {s} use when {ing}",
        ),
        r"\blanguages?\b|translat",
    ),
    _Detail(
        (
            "On which website must {s} {vp}",
            "Which form must {s} fill in when {ing}",
            "Which software must {s} use when {ing}",
        ),
        r"\b(?:website|internet|online|portal|form|forms|template\w*|software|electronic\w*|platform|format|tool\w*)\b",
    ),
    _Detail(
        ("How many members of staff must {s} assign to {ing}", "How many experts {do} {s} need for {ing}"),
        r"\b(?:staff|personnel|experts?|members|employees?|persons|resources)\b",
    ),
    _Detail(
        ("Which court decides when {s} {do} not {vp}", "Before which court can {s} be sued for not {ing}"),
        r"\b(?:courts?|judicial|judges?|tribunal\w*|proceedings)\b",
    ),
    _Detail(
        ("For how many years must {s} keep proof of {ing}", "How long must {s} keep files about {ing}"),
        rf"{TIME}|\b(?:cop(?:y|ies)|keep|kept|retain\w*|records?|period)\b",
    ),
)


# What has no deadline, price or form.
_NO_DEED = word_set(
    "be have ensure apply include take make contain avoid act decide strive endeavour remain cooperate confer"
)
_ACTOR_WORDINGS = {
    "must": (
        "When must {s} {vp}",
        "How must {s} {vp}",
        "Why must {s} {vp}",
        "What happens if {s} {fail} to {vp}",
    ),
    "may": ("When may {s} {vp}", "Under which conditions may {s} {vp}", "Why may {s} {vp}"),
}
_SECTION_WORDINGS = (
    "What does {k} {n} of {d} say",
    "What is the subject of {k} {n} of {d}",
    "Who must comply with {k} {n} of {d}",
    "Which duties does {k} {n} of {d} lay down",
)


class Terms:
    """Which passages hold which words.

    Args:
        chunks: The whole corpus.
    """

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._where: defaultdict[str, set[int]] = defaultdict(set)
        self.texts = [f"{chunk.heading} {chunk.text}" for chunk in chunks]
        self._sections: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        self.last_section: dict[tuple[str, str], int] = {}  # (document, "Article") -> its highest number
        for index, chunk in enumerate(chunks):
            self._sections[chunk.document, chunk.section].add(index)
            for stem in {_stem(word) for word in content_words(self.texts[index])}:
                self._where[stem].add(index)
            kind, _, _ = chunk.section.partition(" ")
            if (number := section_number(chunk.section)).isdigit():
                key = (chunk.document, kind)
                self.last_section[key] = max(self.last_section.get(key, 0), int(number))

    def holding(self, text: str, missing: int = 0) -> set[int]:
        """Passages that hold all content words of a text but at most `missing`."""
        stems = {_stem(word) for word in content_words(text)}
        counts: defaultdict[int, int] = defaultdict(int)
        for stem in stems:
            for index in self._where.get(stem, ()):
                counts[index] += 1
        return {index for index, count in counts.items() if count >= len(stems) - missing}

    def section(self, chunk: Chunk) -> set[int]:
        """Passages of a chunk's section."""
        return self._sections[chunk.document, chunk.section]


def near_misses(sources: Sequence[Source], terms: Terms, seed: int) -> Iterator[NearMiss]:
    """Questions close to what the passages say, none of which any passage answers.

    Args:
        sources: Statements of the split's passages.
        terms: Of the whole corpus.
        seed: The run's seed.
    """
    rng = random.Random(derived_seed(seed, "near misses"))
    actors = _actors(sources)
    gone: set[tuple[str, str]] = set()
    for source in rng.sample(list(sources), len(sources)):
        ask = _plain_duty(source)
        if ask is None:
            continue
        kind = rng.random()
        made = None
        if kind < 0.15:
            made = _absent_section(source, terms, gone, rng)
        elif kind < 0.5:
            made = _other_actor(source, ask, actors[source.chunk.document], terms, rng)
        made = made or _missing_detail(source, ask, terms, rng)
        if made is not None and not dangles(made.question):
            yield made


def _plain_duty(source: Source) -> Ask | None:
    ask = source.ask()
    if ask is None or ask.clause.passive or ask.clause.negated or ask.clause.modal not in ("must", "may"):
        return None
    if says_little(ask.verb_phrase):
        return None
    if ask.clause.verb in _NO_DEED:
        return None
    vague = len(content_words(ask.verb_phrase)) < _ENOUGH or len(ask.verb_phrase.split()) > 11
    return None if vague or not is_agent(ask.subject) or len(ask.subject.split()) > 5 else ask


def _actors(sources: Sequence[Source]) -> dict[str, list[str]]:
    """Who acts in each document, the frequent ones first."""
    found: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for source in sources:
        subject = source.subject(4)
        if (
            subject is not None
            and is_agent(subject)
            and "language" not in subject
            and re.match(r"(?:the |[A-Za-z-]+s\b|[A-Z])", subject)
        ):
            found[source.chunk.document][subject] += 1
    frequent = {
        d: sorted((s for s, n in actors.items() if n > 1), key=lambda s: -actors[s])
        for d, actors in found.items()
    }
    return defaultdict(list, frequent)


def _other_actor(
    source: Source, ask: Ask, actors: list[str], terms: Terms, rng: random.Random
) -> NearMiss | None:
    """The duty of one asked of another whom no passage names together with it."""
    for actor in rng.sample(actors, min(len(actors), 6)):
        if set(map(_stem, content_words(actor))) & set(
            map(_stem, content_words(f"{ask.subject} {ask.verb_phrase}"))
        ):
            continue
        if terms.holding(f"{actor} {ask.verb_phrase}", missing=1) & terms.holding(actor):
            continue
        wording = rng.choice(_ACTOR_WORDINGS[ask.clause.modal])
        plural = verbs.is_plural(actor)
        bare = wording.format(s=actor, vp=ask.verb_phrase, fail="fail" if plural else "fails")
        name = _stems_pattern(actor)
        return NearMiss(
            finish(bare, source.names, rng),
            re.compile(f"(?is)(?=.*{name})(?=.*{_stems_pattern(ask.verb_phrase)})"),
        )
    return None


def _stems_pattern(text: str) -> str:
    """All content words of a text, in any order."""
    return "".join(f"(?=.*\b{re.escape(_stem(word))})" for word in content_words(text))


def _missing_detail(source: Source, ask: Ask, terms: Terms, rng: random.Random) -> NearMiss | None:
    """A detail that neither the section nor any passage on the same matter gives."""
    for detail in rng.sample(_DETAILS, len(_DETAILS)):
        told = re.compile(detail.told, re.I)
        related = terms.section(source.chunk) | terms.holding(ask.verb_phrase, missing=1)
        if any(told.search(terms.texts[index]) for index in related):
            continue
        bare = rng.choice(detail.wordings).format(
            s=ask.subject,
            vp=ask.verb_phrase,
            ing=verbs.gerund(ask.verb_phrase),
            do="do" if ask.plural else "does",
            fail="fail" if ask.plural else "fails",
        )
        return NearMiss(finish(bare, source.names, rng), told)
    return None


def _absent_section(
    source: Source, terms: Terms, gone: set[tuple[str, str]], rng: random.Random
) -> NearMiss | None:
    """A number beyond the document's last one."""
    document = source.chunk.document
    for (owner, kind), last in sorted(terms.last_section.items()):
        if owner != document or kind not in ("Article", "Section", "Clause", "Rule") or last < 5:
            continue
        number = str(last + rng.randint(1, 60))
        cited = re.compile(rf"\b{kind}s? {number}\b", re.I)
        if (document, number) in gone or any(cited.search(text) for text in terms.texts):
            continue
        gone.add((document, number))
        name = rng.choice(source.names.names)
        wording = rng.choice(_SECTION_WORDINGS)
        return NearMiss(wording.format(k=kind, n=number, d=name) + "?", cited)
    return None


def _stem(word: str) -> str:
    return word[:_STEM].rstrip("siey") if len(word) > 4 else word
