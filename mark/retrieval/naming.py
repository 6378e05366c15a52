"""Documents that a question names: `under DORA`, `the Cyber Resilience Act`, a file name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from mark.records import Chunk
from mark.retrieval.bm25 import tokenise

_WORD = re.compile(r"[^\W_]+")
_PARENTHESIS = re.compile(r"\(([^()]+)\)")
_MAX_WORDS = 8  # a longer title is no name that anybody writes out
_MIN_CHARACTERS = 3
_NO_NAMES = frozenset(["copy", "doc", "document", "draft", "file", "final", "new", "scan", "untitled"])
_BEFORE = re.compile(
    r"(?:\b(?:according to|pursuant to|by|for|in|of|on|per|under|with(?:in)?)\s+)?(?:\bthe\s+)?$", re.I
)
_AFTER = re.compile(r"['’]s\b")
_MIN_TERMS = 2  # fewer would be left of the question: it asks about the document itself

Words = tuple[str, ...]


@dataclass(frozen=True)
class Mention:
    """A question that names documents.

    Attributes:
        documents: The documents' file names.
        rest: The question without their names, which say nothing about the passage; the whole question
            where next to nothing would be left.
    """

    documents: frozenset[str]
    rest: str


class DocumentNames:
    """Knows the names of a corpus's documents.

    A name is the file name, the title, what stands in parentheses in it, or its capitals (`CRA`). It
    must belong to one document, and must not occur in lower case in any text, as a common noun would:
    a file `lease.pdf` does not turn every question about a lease into one about that file.
    """

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        """Collect the names.

        Args:
            chunks: All chunks of the corpus.
        """
        owners: dict[Words, set[str]] = defaultdict(set)
        for document, title in sorted({(chunk.document, chunk.title) for chunk in chunks}):
            for name in _names(document, title):
                owners[name].add(document)
        single = {name: next(iter(found)) for name, found in owners.items() if len(found) == 1}
        common = _in_lower_case(single, chunks)
        self._owner = {name: document for name, document in single.items() if name not in common}
        self._lengths = _lengths(self._owner)

    def mention(self, question: str) -> Mention | None:
        """The documents that a question names; None where it names none."""
        spans = list(self._spans(question))
        if not spans:
            return None
        documents = frozenset(document for _, _, document in spans)
        return Mention(documents, _without(question, [(start, end) for start, end, _ in spans]))

    def _spans(self, question: str) -> Iterator[tuple[int, int, str]]:
        """Start, end and document of each name, left to right, the longest where several begin."""
        words = [(match[0].casefold(), match.start(), match.end()) for match in _WORD.finditer(question)]
        place = 0
        while place < len(words):
            step = 1
            for length in self._lengths.get(words[place][0], ()):
                name = tuple(word for word, _, _ in words[place : place + length])
                if len(name) == length and (document := self._owner.get(name)) is not None:
                    step = length
                    yield words[place][1], words[place + length - 1][2], document
                    break
            place += step


def _names(document: str, title: str) -> set[Words]:
    """Candidates, as case-folded words."""
    plain = _PARENTHESIS.sub(" ", title)
    capitals = "".join(word[0] for word in _WORD.findall(plain) if word[0].isupper())
    found = {_words(text) for text in (document, title, plain, capitals, *_PARENTHESIS.findall(title))}
    return {name for name in found if _is_name(name)}


def _is_name(name: Words) -> bool:
    joined = "".join(name)
    if len(name) > _MAX_WORDS or len(joined) < _MIN_CHARACTERS or joined.isdigit():
        return False
    return not all(word in _NO_NAMES or word.isdigit() for word in name)


def _words(text: str) -> Words:
    return tuple(word.casefold() for word in _WORD.findall(text))


def _lengths(names: Collection[Words]) -> dict[str, list[int]]:
    """First word -> lengths of the names that begin with it, longest first."""
    found: dict[str, set[int]] = defaultdict(set)
    for name in names:
        found[name[0]].add(len(name))
    return {word: sorted(lengths, reverse=True) for word, lengths in found.items()}


def _in_lower_case(names: Collection[Words], chunks: Sequence[Chunk]) -> set[Words]:
    """Names that a text writes without a capital."""
    lengths, found = _lengths(names), set()
    for chunk in chunks:
        words = _WORD.findall(chunk.text)
        for place, word in enumerate(words):
            for length in lengths.get(word, ()):
                name = tuple(words[place : place + length])
                if name in names:
                    found.add(name)
    return found


def _without(question: str, spans: Sequence[tuple[int, int]]) -> str:
    """The question with names, and the preposition and article that lead to them, left out."""
    kept, place = [], 0
    for start, end in spans:
        kept.append(_BEFORE.sub(" ", question[place:start]))
        after = _AFTER.match(question, end)
        place = after.end() if after else end
    rest = " ".join(" ".join([*kept, question[place:]]).split())
    return rest if len(set(tokenise(rest))) >= _MIN_TERMS else question
