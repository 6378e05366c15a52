"""What a rule family reads and what it makes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mark.data_prep.clauses import Clause
from mark.data_prep.naming import DocumentNames
from mark.data_prep.parties import says_little
from mark.data_prep.phrases import Casing, without_references
from mark.data_prep.references import Provisions
from mark.data_prep.sentences import ListBlock, Statement
from mark.data_prep.wording import Ask, short_phrase, short_subject
from mark.records import Chunk, Style


@dataclass(frozen=True)
class Source:
    """A statement of a passage and what the rules may know about it."""

    chunk: Chunk
    statement: Statement
    sentence: str  # lead and item joined, or the statement itself
    clause: Clause | None
    topic: str  # the innermost heading without its number, as people say it; "" where generic
    opens_section: bool  # the passage is the first of its section
    names: DocumentNames
    casing: Casing
    blocks: tuple[ListBlock, ...]  # lists of the passage, given with its first statement only
    provisions: Provisions  # where its cross-references lead

    def subject(self, limit: int = 9) -> str | None:
        """The clause's subject in small letters."""
        if self.clause is None:
            return None
        subject = short_subject(self.clause, limit)
        return None if subject is None else self.casing.lower_first(subject)

    def ask(self) -> Ask | None:
        """The pieces of a question about the clause."""
        from mark.data_prep import verbs

        subject = self.subject()
        if subject is None or self.clause is None or pointed_subject(self.clause) or says_little(subject):
            return None
        phrase = short_phrase(self.clause)
        if phrase is None:
            return None
        plural = verbs.is_plural(subject)
        if not plural and re.search(r"\btheir\b", phrase):  # somebody else's
            return None
        return Ask(subject, plural, phrase, self.clause)


def pointed_subject(clause: Clause) -> bool:
    """Whether only a reference told which one acts: `the authorisation [referred to in paragraph 1]`."""
    short = without_references(clause.subject)
    if short == clause.subject:
        return False
    kind = re.search(r"\b(?:referred to|listed|set out|mentioned|specified|covered) ", clause.subject)
    return kind is not None or re.fullmatch(r"[Tt]he [a-z-]+(?: [a-z-]+)?", short) is not None


@dataclass(frozen=True)
class Draft:
    """A question before naming, paraphrase and filters."""

    questions: tuple[str, ...]  # alternative wordings, without question mark
    answer: str  # verbatim in the passage
    style: Style
    quote: str  # the statement that holds the answer
    terse: tuple[str, ...] = ()  # keyword forms
    keep: str = ""  # never paraphrased
    chunk: Chunk | None = None  # the passage that holds answer and quote, where it is not the source's own


Rule = Callable[[Source, random.Random], Iterable[Draft]]


def clean_answer(text: str) -> str:
    """An answer span without the punctuation and conjunctions at its ends."""
    text = text.strip().strip(",;:").strip()
    previous = None
    while previous != text:
        previous = text
        text = _LOOSE_END.sub("", text).strip().strip(",;").strip()
    return text


_LOOSE_END = re.compile(r"(?:[;,]| (?:and|or|in|of|to|for|with|by|on|at|from|as|the|a))$")
