"""Where a text may be cut: after sentences, clauses, commas, words, and at last between characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

Cut = Callable[[str, int, int], list[int]]  # where `text[start:end]` may be cut

_ABBREVIATION = re.compile(
    r"(?:\b(?:no|nos|art|arts|para|paras|p|pp|vol|ch|cl|sec|cf|e\.g|i\.e|etc|viz|vs?|mr|mrs|ms|dr|st|co|ltd"
    r"|inc|cent|approx|ibid|abs|nr|ziff|bzw|vgl|al|ss|reg|supp|f\.(?:2d|3d))|\b[A-Z]"
    r"|^\W*\d{1,3}(?:\.\d{1,3})*)\.$",
    re.IGNORECASE,
)
_CLOSERS = "['\"’”»)\\]]*"
_SENTENCE_END = re.compile(
    rf"[.!?…؟۔։]{_CLOSERS}(?=\s+['\"‘“«(\[]*[^\W\d_a-z])"  # a capital, or a letter of a script without case
    r"|[。！？｡][」』）》”’]*(?=[^\s」』）》”’])"  # Chinese and Japanese: no space follows
    r"|[।॥።။។](?=\s*\S)"  # Devanagari, Ethiopic, Burmese, Khmer
    r"|[.!?…؟۔։。！？](?=\n)"
)
_CLAUSE_END = re.compile(r"[;؛](?=\s)|；(?=\S)")
_COMMA = re.compile(r"[,،:—–](?=\s)|[，、：](?=\S)")
_SPACE = re.compile(r"(?=\s)")
_MIN_LEARNT_CHARS = 2000  # a shorter text teaches Punkt nothing


def sentence_ends(text: str, start: int, end: int) -> list[int]:
    """Ends of the sentences in `text[start:end]`; the script tells whether a space must follow."""
    return _ends(text, start, end, frozenset())


def learnt_sentence_ends(text: str) -> Cut:
    """Sentence ends that know the abbreviations of one document, found without supervision.

    For documents without headings, where sentences are all that there is to cut by.

    Args:
        text: The document.

    Source:
        Kiss and Strunk 2006, Unsupervised Multilingual Sentence Boundary Detection (nltk's PunktTrainer).
    """
    if len(text) < _MIN_LEARNT_CHARS:
        return sentence_ends
    from nltk.tokenize.punkt import PunktTrainer

    abbreviations = frozenset(PunktTrainer(text).get_params().abbrev_types)
    return lambda whole, start, end: _ends(whole, start, end, abbreviations)


def _ends(text: str, start: int, end: int, abbreviations: frozenset[str]) -> list[int]:
    found = []
    for match in _SENTENCE_END.finditer(text, start, end):
        before = text[start : match.start() + 1].rsplit(None, 1)
        word = before[-1] if before else ""
        following = text[match.end() : end].lstrip()[:1]
        if match[0][0] == "." and (
            _ABBREVIATION.search(word) is not None
            or word.lstrip("('\"“‘").rstrip(".").lower() in abbreviations
            or following.islower()
        ):
            continue
        found.append(match.end())
    return found


def clause_ends(text: str, start: int, end: int) -> list[int]:
    """Places after a semicolon."""
    return [match.end() for match in _CLAUSE_END.finditer(text, start, end)]


def comma_ends(text: str, start: int, end: int) -> list[int]:
    """Places after a comma, colon or dash."""
    return [match.end() for match in _COMMA.finditer(text, start, end)]


def word_ends(text: str, start: int, end: int) -> list[int]:
    """Places between words."""
    return [match.start() for match in _SPACE.finditer(text, start, end)]


def character_ends(text: str, start: int, end: int) -> list[int]:
    """Places between characters, none before a combining mark: for a long run without spaces."""
    return [at for at in range(start + 1, end) if not unicodedata.combining(text[at])]
