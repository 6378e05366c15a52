"""Personal data out of a text before it leaves, and back into what returns.

Each value gets a mark, the same wherever it stands in one request: `<PERSON_1>`. Whatever found it, a
value is masked in every place where it stands as a whole word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mark.config import Llm
from mark.data_prep.llm.patterns import pattern_spans

_ANY_MARK = re.compile(r"<[A-Z][A-Z_]*_\d+>")


@dataclass(frozen=True)
class Span:
    """A stretch of a text that holds personal data."""

    start: int
    end: int
    kind: str  # e.g. "PERSON"


class Finder(Protocol):
    """Finds personal data."""

    def __call__(self, text: str) -> list[Span]:
        """Spans in a text, in any order; they may overlap."""
        ...


@dataclass(frozen=True)
class Masked:
    """Texts that may leave, and what their marks stand for."""

    texts: tuple[str, ...]
    values: dict[str, str] = field(default_factory=dict)  # "<PERSON_1>" -> value

    def restore(self, text: str) -> str:
        """Put the values back; a mark is known without its brackets and in small letters too."""
        for mark, value in self.values.items():
            name = re.escape(mark[1:-1])
            plain = value.replace("\\", r"\\")
            text = re.sub(rf"<{name}>|(?<![\w<]){name}(?![\w>])", plain, text, flags=re.I)
        return text


def has_unknown_mark(text: str, masked: Masked) -> bool:
    """Whether a restored text still names a hidden value that there never was, with or without brackets."""
    known = " ".join([*masked.texts, *masked.values.values()]).lower()
    kinds = {mark[1:].rpartition("_")[0] for mark in masked.values}
    found = _ANY_MARK.findall(text)
    if kinds:
        found += re.findall(rf"(?i)(?<!\w)(?:{'|'.join(sorted(kinds))})_\d+(?!\w)", text)
    return any(mark.lower() not in known for mark in found)


def mask(texts: Sequence[str], find: Finder) -> Masked:
    """Replace personal data in several texts of one request.

    Args:
        texts: Title, heading and passage.
        find: What finds it.
    """
    kinds: dict[str, str] = {}
    inside: set[str] = set()  # found within a run of letters: scripts without spaces
    for text in texts:
        for span in sorted(_merged(find(text)), key=lambda span: span.start):
            value = text[span.start : span.end].strip()
            if value:
                kinds.setdefault(value, span.kind)
                if not re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text):
                    inside.add(value)
    if not kinds:
        return Masked(tuple(texts))
    marks = _Marks(kinds, " ".join(texts))
    longest_first = sorted(kinds, key=lambda value: (-len(value), value))
    # One pass: a mark that was just written is never searched again.
    every = re.compile("|".join(_spelling(value, value in inside) for value in longest_first))
    masked = tuple(every.sub(lambda match: marks.of(match.group()), text) for text in texts)
    return Masked(masked, {mark: value for value, mark in marks.by_value.items()})


def _spelling(value: str, inside: bool) -> str:
    """A value in any case and over any line break; one word as it is: `Bill` is no bill."""
    words = [re.escape(word) for word in value.split()]
    spelled = r"\s+".join(words)
    if len(words) > 1:
        spelled = f"(?i:{spelled})"
    return spelled if inside else rf"(?<!\w){spelled}(?!\w)"


class _Marks:
    """Hands out marks, one for each spelling, so that each comes back as it was written."""

    def __init__(self, kinds: dict[str, str], text: str) -> None:
        self.by_value: dict[str, str] = {}
        self._kinds = {_key(value): kind for value, kind in kinds.items()}
        self._text = text
        self._counts: dict[str, int] = {}

    def of(self, value: str) -> str:
        """The mark of a value; one that the text happens to hold already is passed over."""
        if value not in self.by_value:
            kind = self._kinds.get(_key(value), "HIDDEN")
            while True:
                self._counts[kind] = self._counts.get(kind, 0) + 1
                name = f"{kind}_{self._counts[kind]}"
                if not re.search(rf"(?<!\w){name}(?!\w)", self._text, re.I):
                    break
            self.by_value[value] = f"<{name}>"
        return self.by_value[value]


def _key(value: str) -> str:
    return " ".join(value.lower().split())


def _merged(spans: Sequence[Span]) -> list[Span]:
    """Overlapping spans as one, with the kind of the longest."""
    result: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end, span.kind)):
        last = result[-1] if result else None
        if last is None or span.start >= last.end:
            result.append(span)
        elif span.end > last.end:
            longer = span if span.end - span.start > last.end - last.start else last
            result[-1] = Span(last.start, span.end, longer.kind)
    return result


def find_patterns(text: str) -> list[Span]:
    """What has a fixed form: addresses, numbers with a checksum, labelled identifiers. No names of people."""
    return [Span(start, end, kind) for start, end, kind in pattern_spans(text)]


def find_nothing(text: str) -> list[Span]:
    """For masking=none."""
    return []


def chosen_finder(settings: Llm) -> Finder:
    """The finder that `data_prep.llm.masking` names.

    Raises:
        ConfigError: Presidio or its language model is chosen and not installed. Nothing takes its place.
    """
    if settings.masking == "none":
        return find_nothing
    if settings.masking == "patterns":
        return find_patterns
    from mark.data_prep.llm.presidio import presidio_finder

    named: Callable[[str], list[tuple[int, int, str]]] = presidio_finder(
        settings.masking_model, settings.masking_entities
    )
    # Both: a telephone number that one of them misses, the other may know.
    return lambda text: [Span(*found) for found in named(text)] + find_patterns(text)
