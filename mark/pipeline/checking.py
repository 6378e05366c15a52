"""The last check of an answer: what it quotes must stand, word for word, on a page of what was shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mark.answering.extractive import sentences
from mark.answering.quotes import find_quote, trim
from mark.pipeline.answer import PageQuote
from mark.pipeline.pages import PageTexts
from mark.prompting import Passage
from mark.records import Chunk

REMOVED = "[…]"  # stands where a quotation was taken out
_OPENERS = "\"“„«»”‟❝＂`‘'‚’‹›「『>"
_CLOSERS = "\"”“»«❞＂’‘'›‹」』"
_MIN_LETTERS = 3  # `No` stands in every `Regulation (EC) No 300/2008`
# Quotations, closed or running to the end of the text; an apostrophe inside a word opens nothing.
_QUOTED = re.compile(
    r"»[^«»]+(?:«|\Z)|[”‟][^“”]+(?:[“”]|\Z)|❝[^❞]+(?:❞|\Z)|＂[^＂]+(?:＂|\Z)|``[^`']+(?:''|\Z)|›[^‹›]+(?:‹|\Z)|"
    r"\"[^\"]+(?:\"|\Z)|“[^“”]+(?:[“”]|\Z)|„[^„“”]+(?:[“”]|\Z)|«[^»]+(?:»|\Z)|‹[^›]+(?:›|\Z)"
    r"|「[^」]+(?:」|\Z)|『[^』]+(?:』|\Z)|(?<!\w)[‘‚'’](?=\S)(?s:.+?)(?:[’‘'](?!\w)|\Z)|(?m:^[ \t]*>[^\n]*)"
)


@dataclass(frozen=True)
class Checked:
    """An answer after the check.

    Attributes:
        text: Without the quotations that were not found.
        quotes: What was found, in the order of the answer, each once.
        supported: Every sentence was found.
        removed: How many quotations were taken out.
    """

    text: str
    quotes: list[PageQuote]
    supported: bool
    removed: int


class QuoteCheck:
    """Checks answers against the passages that they were made from."""

    def __init__(self, shown: Sequence[Chunk], pages: PageTexts) -> None:
        """Look quotes up in these chunks, best first, and on their pages."""
        self._chunks = {chunk.chunk_id: chunk for chunk in shown}
        self._passages = [Passage.from_chunk(chunk) for chunk in shown]
        self._pages = pages

    def check(self, answer: str) -> Checked:
        """Find an answer in the documents as a whole, else its quotations and its sentences.

        Args:
            answer: What the model wrote.

        Returns:
            The answer without quotations that stand nowhere; it is supported where every sentence stands
            somewhere and nothing was taken out.
        """
        whole = self.find_words(answer)
        if whole:
            return Checked(answer, whole, supported=True, removed=0)
        text = self.without_fakes(answer)
        quotations = [self.find(_inner(match.group())) for match in _QUOTED.finditer(answer)]
        parts = [self.find_words(sentence) for sentence in sentences(text)]
        found = dict.fromkeys(quote for part in [*quotations, *parts] for quote in part)
        removed = quotations.count([])
        supported = bool(parts) and all(parts) and removed == 0
        return Checked(text, list(found), supported, removed)

    def without_fakes(self, text: str) -> str:
        """A text with every quotation that stands nowhere replaced by `[…]`."""
        kept = _QUOTED.sub(lambda m: m.group() if self.find(_inner(m.group())) else REMOVED, text)
        return re.sub(rf"{re.escape(REMOVED)}(?:\s*{re.escape(REMOVED)})+", REMOVED, kept)

    def find_words(self, text: str) -> list[PageQuote]:
        """Where words of an answer stand; their first letter may be of the other case: a sentence begins."""
        found = self.find(text)
        other = text.lstrip()
        return found or self.find(other[:1].swapcase() + other[1:])

    def find(self, text: str) -> list[PageQuote]:
        """Where a text stands verbatim, in whole words, in the best passage that holds it; none = nowhere."""
        wanted = trim(text)
        if sum(char.isalpha() for char in wanted) < _MIN_LETTERS and not any(map(str.isdigit, wanted)):
            return []
        place = find_quote(wanted, self._passages)
        if place is None:
            return []
        return self._pages.quotes(self._chunks[place.chunk_id], place.start, place.end)


def settled(text: str) -> str:
    """The part of a text still being written that ends before a quotation which may go on."""
    end = len(text.rstrip("\ufffd"))  # half a character
    for match in _QUOTED.finditer(text):
        if match.end() >= len(text):
            end = min(end, match.start())
    while end and text[end - 1] in _OPENERS:
        end -= 1
    return text[:end]


def _inner(quotation: str) -> str:
    """A quotation without its marks."""
    return quotation.strip().lstrip(_OPENERS + " ").rstrip(_CLOSERS + " ")
