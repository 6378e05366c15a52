"""Finding an answer verbatim in a passage. "Verbatim" means equal after NFKC and white-space folding."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mark.prompting import Passage

_END_PUNCTUATION = " .,;:!?…。！？"
_QUOTE_MARKS = "\"'“”‘’«»„"


@dataclass(frozen=True)
class Quote:
    """Where a text stands: `passage.text[start:end]`, as written there."""

    chunk_id: str
    start: int
    end: int
    text: str


def fold(text: str) -> str:
    """NFKC, and every run of white space made one space; case is kept."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def find_quote(answer: str, passages: Sequence[Passage]) -> Quote | None:
    """The answer as it stands verbatim, in whole words, in the first passage that holds it.

    Args:
        answer: What was answered; outer punctuation and quotation marks are ignored.
        passages: In the order of search.

    Returns:
        The place in the passage's own text, or None.
    """
    wanted = trim(answer)
    if not wanted:
        return None
    for passage in passages:
        span = _find(wanted, passage.text)
        if span is not None:
            return Quote(passage.chunk_id, *span, passage.text[span[0] : span[1]])
    return None


def trim(text: str) -> str:
    """Folded, without punctuation at its end and quotation marks around it."""
    return fold(text).strip(_QUOTE_MARKS + " ").rstrip(_END_PUNCTUATION + _QUOTE_MARKS).strip()


def _find(wanted: str, text: str) -> tuple[int, int] | None:
    folded, starts, ends = fold_with_map(text)
    at = folded.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        if _is_edge(folded, at) and _is_edge(folded, end):
            return starts[at], ends[end - 1]
        at = folded.find(wanted, at + 1)
    return None


def _is_edge(text: str, at: int) -> bool:
    """Whether no word runs across position `at`."""
    return at in (0, len(text)) or not (text[at - 1].isalnum() and text[at].isalnum())


def fold_with_map(text: str) -> tuple[str, list[int], list[int]]:
    """`fold(text)` and, for each of its characters, where its source starts and ends in `text`."""
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _normal_segments(text):
        for char in unicodedata.normalize("NFKC", text[start:end]):
            if char.isspace():
                if not out or out[-1] == " ":
                    continue
                char = " "
            out.append(char)
            starts.append(start)
            ends.append(end)
    if out and out[-1] == " ":
        out.pop(), starts.pop(), ends.pop()
    return "".join(out), starts, ends


def _normal_segments(text: str) -> Iterator[tuple[int, int]]:
    """Shortest pieces whose NFKC forms, joined, are the NFKC form of the whole."""
    if text.isascii():
        yield from ((i, i + 1) for i in range(len(text)))
        return
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and not _splits(text[start:end], text[end]):
            end += 1
        yield start, end
        start = end


def _splits(head: str, char: str) -> bool:
    if char.isascii():
        return True  # an ASCII character never combines with what stands before it
    if unicodedata.combining(char):
        return False
    normal = unicodedata.normalize
    return normal("NFKC", head + char) == normal("NFKC", head) + normal("NFKC", char)
