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
    equality freedom education water property trade commerce majeure news conduct use notice assignment
    arbitration publicity severability interpretation"""
)
_NO_TOPIC = re.compile(r"(?:miscellaneous|general|definitions|other|various|final|recitals|preamble)\b")
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
    text = " ".join(_small(words, casing))
    if _NO_TOPIC.match(text):
        return None
    if _DETERMINED.match(text) or re.match(r"[a-z]+ing(?: |$)", text) or verbs.is_plural(text):
        return text
    if re.match(r"(?:right|rights|power|duty) (?:to|of) ", text):
        return f"the {text}"
    head = re.split(
        r" (?:of|for|in|to|on|by|with|from|at|against|between|before|after|under|over|and|or) ", text
    )[0].split()[-1]
    named = not head.islower() and not is_agent(head)
    return text if head in _UNCOUNTED or named else f"the {text}"


def _small(words: list[str], casing: Casing) -> list[str]:
    """In small letters; acronyms stay in a heading that is not written in capitals, and what they name."""
    if all(word.isupper() for word in words):
        return [casing.small(word) for word in words]
    kept = [re.match(r"[A-Z]{2}", word) is not None for word in words]
    return [
        word if kept[i] or (i > 0 and kept[i - 1] and word[:1].isupper()) else casing.small(word)
        for i, word in enumerate(words)
    ]
