"""How other passages of a split name a thing: `service level agreement (SLA)`.

A text that gives an acronym uses both names, mostly in different passages. A question about one passage may
so be asked in the words of another one. Labels such as `Acme Ltd ("the Supplier")` are no such pairs: what
stands before the bracket is as often a place (`... of the State of Delaware ("the Company")`).

Source: Schwartz and Hearst 2003, "A simple algorithm for identifying abbreviation definitions".
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from mark.records import Chunk

SHARE = 0.75  # of the questions in which a swap is possible

_ACRONYM = re.compile(r"\((?:the )?[‘“\"']?(?P<short>[A-Z]{2,6}s?)[’”\"']?\)")
_LOOK_BACK = 160  # characters before the bracket in which the long form stands
_MOST_WORDS = 9  # of a long form
_TOKEN = re.compile(r"(?P<the>\b[Tt]he [‘“\"']?)?(?<![\w-])(?P<name>[A-Z]{2,6}s?)(?![\w-])")
_AFTER_NAME = "of|for|in|to|on|by|with|from|and|or|be|have|not|under|if|when|where|end|open|apply|bind|report"
_SMALL = ("of", "for", "and", "the", "on", "in", "to")


@dataclass(frozen=True)
class _Name:
    """A name and whether the split's passages put `the` before it."""

    text: str
    article: bool

    def found(self, question: str) -> re.Match[str] | None:
        """Where a question has the name, and not as a part of another one: no `AI` of the `AI Office`."""
        return self._pattern.search(question) if self.text in question else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        label = self.article and not self.text.isupper()  # `the Board`, not any `Board`
        the = r"(?P<the>\b[Tt]he )" + ("" if label else "?")
        return re.compile(rf"{the}(?<![\w-]){re.escape(self.text)}(?![\w’'-]| [A-Z]| of [A-Z])")


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
    for match in _ACRONYM.finditer(text):
        before = text[max(0, match.start() - _LOOK_BACK) : match.start()].split()[-_MOST_WORDS:]
        expanded = _expanded(before, match.group("short"))
        if expanded is not None:
            found[match.group("short")].add(expanded)
    longs = {short: next(iter(names)) for short, names in found.items() if len(names) == 1}
    uses: Counter[str] = Counter()
    articles: Counter[str] = Counter()
    for match in _TOKEN.finditer(text):
        uses[match.group("name")] += 1
        articles[match.group("name")] += match.group("the") is not None
    pairs = []
    for short, long in sorted(longs.items()):
        by_text = text.count(f"the {long}") + text.count(f"The {long}")
        pairs.append(
            (_named(short, uses[short], articles[short], text), _named(long, text.count(long), by_text, text))
        )
    return pairs


def _expanded(words: list[str], short: str) -> str | None:
    """The last words whose initials are the acronym, or None; both must be of one number."""
    words = list(takewhile(lambda word: re.fullmatch(r"[\w-]+", word), reversed(words)))[::-1]
    letters = short.rstrip("s").lower()
    for start in range(len(words) - 1, -1, -1):
        part = words[start:]
        initials = "".join(piece[0] for word in part if word not in _SMALL for piece in word.split("-"))
        if initials.lower() == letters and part[0] not in _SMALL:
            long = " ".join(part)
            plural = long.endswith("s") and not long.endswith("ss")
            return long if plural == short.endswith("s") else None
    return None


def _named(name: str, uses: int, with_article: int, text: str) -> _Name:
    """Small names keep whatever article the question has."""
    introduced = any(f"{article} {name} (" in text for article in ("the", "The", "a", "A", "an", "An"))
    return _Name(name, introduced or 0 < uses <= with_article * 2)
