"""How other passages of a split name a thing: `Acme Ltd ("the Supplier")`, `service level agreement (SLA)`.

A text that gives a second name in brackets uses both, mostly in different passages. A question about one
passage may so be asked in the words of another one.

Source: Schwartz and Hearst 2003, "A simple algorithm for identifying abbreviation definitions", for acronyms.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mark.records import Chunk

SHARE = 0.75  # of the questions in which a swap is possible

_NAME = r"[A-Z][\w&’'.-]*(?: (?:[A-Z][\w&’'.-]*|of|for|and|the|on)(?= ))*"
_LABEL = re.compile(
    rf"(?P<long>{_NAME}) \((?:(?:hereinafter|hereafter|collectively|together|also|referred to as|the|each|"
    r"an?),? )*[‘“\"'](?:the )?(?P<short>[A-Z][\w-]*(?: [A-Z][\w-]*){0,2})[’”\"']\)"
)
_ACRONYM = re.compile(r"(?P<before>(?:[\w-]+ ){2,9})\((?:the )?[‘“\"']?(?P<short>[A-Z]{2,6}s?)[’”\"']?\)")
_AFTER_NAME = "of|for|in|to|on|by|with|from|and|or|be|have|not|under|if|when|where|end|open|apply|bind|report"
_SMALL = ("of", "for", "and", "the", "on", "in", "to")


@dataclass(frozen=True)
class _Name:
    """A name and whether the split's passages put `the` before it."""

    text: str
    article: bool

    def found(self, question: str) -> re.Match[str] | None:
        """Where a question has the name, and not as a part of another one: no `AI` of the `AI Office`."""
        label = self.article and not self.text.isupper()  # `the Board`, not any `Board`
        the = r"(?P<the>\b[Tt]he )" + ("" if label else "?")
        return re.search(rf"{the}(?<![\w-]){re.escape(self.text)}(?![\w’'-]| [A-Z]| of [A-Z])", question)


class OtherNames:
    """Pairs of names, each known only to the split whose passages give it.

    Args:
        chunks: All that may be asked about.
        split_of: Chunk id -> split; without it the chunks are one split.
    """

    def __init__(self, chunks: Sequence[Chunk], split_of: Mapping[str, str] | None = None) -> None:
        self._split_of = split_of
        texts: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for chunk in chunks:
            texts[self._split(chunk), chunk.doc_id].append(chunk.text)
        self._pairs = {key: _pairs(" ".join(" ".join(found).split())) for key, found in texts.items()}

    def _split(self, chunk: Chunk) -> str:
        return "" if self._split_of is None else self._split_of[chunk.chunk_id]

    def swapped(self, question: str, chunk: Chunk, rng: random.Random) -> str:
        """The question with one name exchanged, or as it was.

        Args:
            question: A bare wording.
            chunk: What it asks about; names of its document and its split are used.
            rng: A seeded generator.
        """
        for pair in self._pairs.get((self._split(chunk), chunk.doc_id), ()):
            for here, there in (pair[::-1], pair):  # the long name first: it may hold the short one
                match = here.found(question)
                if match is None or there.text in question or _clumsy(question[match.end() :], here, there):
                    continue
                if rng.random() < SHARE:
                    return _put(question, match, here, there)
        return question


def _clumsy(after: str, here: _Name, there: _Name) -> bool:
    """Whether a long form would stand before a noun: `information and communication technology assets`."""
    compound = re.match(rf" (?!(?:{_AFTER_NAME})\b)[a-z]", after)
    return here.text.isupper() and len(there.text.split()) > 2 and compound is not None


def _put(question: str, match: re.Match[str], here: _Name, there: _Name) -> str:
    """Exchange a name and mend the article before it."""
    the = match.group("the") or ""
    if the and not there.article and here.article:
        the = ""
    elif not the and there.article and not here.article:
        the = "the "
    return question[: match.start()] + the + there.text + question[match.end() :]


def _pairs(text: str) -> list[tuple[_Name, _Name]]:
    """(short, long) names that a text gives; a short name with two long ones is left out."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for match in _LABEL.finditer(text):
        long = re.sub(r"^(?:The|An?|This|Between|And) ", "", match.group("long"))
        if long.lower() != match.group("short").lower() and len(long.split()) > 1:
            found[match.group("short")].add(long)
    for match in _ACRONYM.finditer(text):
        expanded = _expanded(match.group("before").split(), match.group("short"))
        if expanded is not None:
            found[match.group("short")].add(expanded)
    longs = {short: next(iter(names)) for short, names in found.items() if len(names) == 1}
    return [(_named(short, text), _named(long, text)) for short, long in sorted(longs.items())]


def _expanded(words: list[str], short: str) -> str | None:
    """The last words whose initials are the acronym, or None; both must be of one number."""
    letters = short.rstrip("s").lower()
    for start in range(len(words) - 1, -1, -1):
        part = words[start:]
        initials = "".join(piece[0] for word in part if word not in _SMALL for piece in word.split("-"))
        if initials.lower() == letters and part[0] not in _SMALL:
            long = " ".join(part)
            plural = long.endswith("s") and not long.endswith("ss")
            return long if plural == short.endswith("s") else None
    return None


def _named(name: str, text: str) -> _Name:
    """Small names keep whatever article the question has."""
    uses = len(re.findall(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))
    with_article = len(re.findall(rf"\b[Tt]he [‘“\"']?{re.escape(name)}(?![\w-])", text))
    introduced = re.search(rf"\b(?:[Tt]he|[Aa]n?) {re.escape(name)} \(", text) is not None
    return _Name(name, introduced or 0 < uses <= with_article * 2)
