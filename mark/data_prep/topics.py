"""Headings as a question names them."""

from __future__ import annotations

import re

from mark.data_prep import verbs
from mark.data_prep.parties import is_agent
from mark.data_prep.phrases import Casing
from mark.data_prep.words import word_set

_MAX_WORDS = 7
_UNCOUNTED = word_set(
    """access cooperation compliance transparency governance protection security supervision confidentiality
    liability information guidance training documentation ownership consent erasure rectification portability
    storage processing insurance payment maintenance testing monitoring reporting accuracy robustness
    oversight literacy research traceability redistribution translation copying termination enforcement
    equality freedom education water property trade commerce"""
)
_DETERMINED = re.compile(r"(?:the|a|an|your|our|its|their|any|all|each) ")


def spoken_topic(topic: str, casing: Casing) -> str | None:
    """A heading as part of a sentence, or None where it does not become one.

    Args:
        topic: As `sources.topic_of` gives it.
        casing: Tells which words of a heading in capitals are names.
    """
    words = topic.split()
    if not 1 <= len(words) <= _MAX_WORDS or re.search(
        r"[\d;:/“”\"]|\bof[- ]", f"{topic} ".replace(" of ", " ")
    ):
        return None
    text = _small(words, casing)
    if _DETERMINED.match(text) or re.match(r"[a-z]+ing ", text) or verbs.is_plural(text):
        return text
    if re.match(r"(?:right|rights|power|duty) (?:to|of) ", text):
        return f"the {text}"
    head = re.split(
        r" (?:of|for|in|to|on|by|with|from|at|against|between|before|after|under|over|and|or) ", text
    )[0].split()[-1]
    named = not head.islower() and not is_agent(head)
    return text if head in _UNCOUNTED or named else f"the {text}"


def _small(words: list[str], casing: Casing) -> str:
    """`Accepting Warranty or Additional Liability` in small letters; names and acronyms stay."""
    long = [word for word in words if len(word) > 3]
    if len(words) == 1 and words[0].isupper() and len(words[0]) > 6:
        return words[0].lower()
    if len(long) >= 3 and all(word[:1].isupper() for word in long):
        return " ".join(casing.lower_first(word) for word in words)
    return " ".join(words)
