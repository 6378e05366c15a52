"""All questions that the rules make, with their cheap filters, in a balanced order."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mark.answering.quotes import fold
from mark.config import DataPrep
from mark.data_prep.other_names import OtherNames
from mark.data_prep.overlap import overlap
from mark.data_prep.phrases import Casing, content_words, dangles
from mark.data_prep.rules import Draft, Rule, Source
from mark.data_prep.sources import chunk_sources
from mark.data_prep.wording import finish
from mark.records import Chunk, Style
from mark.seeding import derived_seed

VARIANTS = 3  # wordings of one question that may be tried
TRIES = 4  # paraphrases of one wording, of which the one furthest from the source is kept
FREE_RUN = 3  # words in a row that any question may share with its source
TERSE_SHARE = 0.1
MAX_QUESTION_WORDS = 45
# Headings lend themselves to questions that only repeat them.
WEIGHTS = {"provision": 0.5, "obligation": 1.2, "complement": 0.8}

_POOR_ANSWER = re.compile(
    r"(?i)^(?:it|they|them|he|him|she|this|that|these|those|such|there|which|who|and|or|so|of)\b|"
    r"^(?:in accordance with|pursuant to|under|referred to in) (?:paragraph|point|article|this|that|clause)|"
    r"[—–:(\[]$|\b(?:the|a|an|of|to|in|by|and|or|with|for|which|that|is|are|on|as|follows|following|particular|if|where|such|any|from|at|not|shall|may)$|"
    r"^(?:if it|for the purposes? of (?:clauses?|articles?|paragraphs?|points?|sub))\b"
)


@dataclass(frozen=True)
class Candidate:
    """A question that a rule made from a passage."""

    question: str
    answer: str
    style: Style
    rule: str
    quote: str
    chunk: Chunk
    variant: int  # 0 = the first wording of its draft
    draft: str  # the same for all wordings of a draft
    keep: str = ""  # a part that cannot be said otherwise


def make_candidates(
    chunks: Sequence[Chunk],
    rules: dict[str, Rule],
    casing: Casing,
    seed: int,
    split_of: Mapping[str, str] | None = None,
) -> Iterator[tuple[Candidate, Source]]:
    """Every wording of every draft.

    Args:
        chunks: Those that may be asked about, in document order.
        rules: The chosen families.
        casing: Of the whole corpus.
        seed: The run's seed.
        split_of: Chunk id -> split: a cross-reference is followed inside its split only.
    """
    others = OtherNames(chunks, split_of)
    for chunk, sources in chunk_sources(chunks, casing, split_of):
        for name, rule in rules.items():
            rng = random.Random(derived_seed(seed, "questions", name, chunk.chunk_id))
            for number, source in enumerate(sources):
                for part, draft in enumerate(rule(source, rng)):
                    named = f"{chunk.chunk_id}/{name}/{number}/{part}"
                    for candidate in _wordings(draft, source, name, others, rng):
                        yield replace(candidate, draft=named), source


def _wordings(
    draft: Draft, source: Source, rule: str, others: OtherNames, rng: random.Random
) -> list[Candidate]:
    questions = list(dict.fromkeys(draft.questions))
    picked = rng.sample(questions, min(VARIANTS, len(questions)))
    result = []
    for variant, wording in enumerate(picked):
        terse = bool(draft.terse) and rng.random() < TERSE_SHARE
        bare = rng.choice(draft.terse) if terse else wording
        if not draft.keep:
            bare = others.swapped(bare, source.chunk, rng)
        question = _reworded(bare, draft, source, rng, terse)
        result.append(
            Candidate(
                question,
                fold(draft.answer),
                draft.style,
                rule,
                _quote(draft, source),
                draft.chunk or source.chunk,
                variant,
                "",
                draft.keep,
            )
        )
    return result


def _reworded(bare: str, draft: Draft, source: Source, rng: random.Random, terse: bool) -> str:
    """The wording of a few tries that repeats the source least."""
    told = draft.quote if draft.quote != source.statement.text else source.sentence
    tries = [finish(bare, source.names, rng, draft.keep, terse)]
    while len(tries) < TRIES and overlap(tries[-1], told, draft.keep).run > FREE_RUN:
        tries.append(finish(bare, source.names, rng, draft.keep, terse))
    return min(tries, key=lambda text: overlap(text, told, draft.keep).run)


def _quote(draft: Draft, source: Source) -> str:
    """The statement that holds the answer: of a list item this may be its lead."""
    if fold(draft.answer) in fold(draft.quote):
        return draft.quote
    lead = source.statement.lead
    return lead if fold(draft.answer) in fold(lead) else draft.answer


CHEAP_FAULTS = (
    "answer_length",
    "poor_answer",
    "not_verbatim",
    "dangling",
    "question_length",
    "answer_in_question",
    "repeats_source",
)


def cheap_fault(candidate: Candidate, settings: DataPrep) -> str | None:
    """Why a question is dropped before retrieval, or None."""
    answer, question = candidate.answer, candidate.question
    words = answer.split()
    if not settings.min_answer_words <= len(words) <= settings.max_answer_words:
        return "answer_length"
    if _POOR_ANSWER.search(answer) or (
        answer.count("(") != answer.count(")") and not answer.startswith("(a)")
    ):
        return "poor_answer"
    if answer not in fold(candidate.chunk.text):
        return "not_verbatim"
    if dangles(question) or question.count("(") != question.count(")"):
        return "dangling"
    if len(question.split()) > MAX_QUESTION_WORDS or len(content_words(question)) < 3:
        return "question_length"
    if contains(question, answer):
        return "answer_in_question"
    told = overlap(question, candidate.quote, candidate.keep)
    if told.run > settings.max_overlap_run or told.share > settings.max_overlap_share:
        return "repeats_source"
    return None


def contains(question: str, answer: str) -> bool:
    """Whether the question gives its answer away.

    A long answer may share words with the question; it is given away when nearly all its words
    stand in the question.
    """
    if re.search(rf"(?<!\w){re.escape(answer.lower())}(?!\w)", question.lower()):
        return True
    wanted = set(content_words(answer))
    return bool(wanted) and len(wanted - set(content_words(question))) <= 0.2 * len(wanted)


def balanced(candidates: Iterable[Candidate], seed: int) -> list[Candidate]:
    """Order so that any beginning holds all rules, styles and documents in fair shares.

    Source: weighted fair queueing (Demers, Keshav, Shenker 1989): the j-th item of a group of
    weight w is due at (j + 1/2) / w.
    """
    groups: defaultdict[tuple[int, str, str], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.variant, candidate.rule, candidate.style].append(candidate)
    due: list[tuple[int, float, str, Candidate]] = []
    for (variant, rule, style), members in sorted(groups.items()):
        families = len({r for v, r, s in groups if v == variant and s == style})
        weight = WEIGHTS.get(rule, 1.0) / families
        for number, candidate in enumerate(_interleaved(members, seed)):
            due.append((variant, (number + 0.5) / weight, f"{rule}/{style}", candidate))
    due.sort(key=lambda item: item[:3])
    return [item[3] for item in due]


def _interleaved(members: Sequence[Candidate], seed: int) -> list[Candidate]:
    """Documents in turn, each in a seeded order."""
    by_document: defaultdict[str, list[tuple[int, str, Candidate]]] = defaultdict(list)
    for member in members:
        key = derived_seed(seed, "order", member.draft, member.question)
        by_document[member.chunk.document].append((key, member.question, member))
    turns: list[tuple[int, str, Candidate]] = []
    for document, entries in by_document.items():
        entries.sort(key=lambda entry: entry[:2])
        turns += [(turn, document, entry[2]) for turn, entry in enumerate(entries)]
    turns.sort(key=lambda turn: turn[:2])
    return [turn[2] for turn in turns]
