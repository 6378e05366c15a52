"""Reading what a language model wrote: JSON behind a preamble, in a fence, before more text, or no JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_THOUGHTS = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.S | re.I)
_STARTS = re.compile(r"[{\[]")
_MOST_STARTS = 2000  # a reply of nothing but brackets must not take minutes


@dataclass(frozen=True)
class Item:
    """A question as the model proposed it; placeholders still stand in it."""

    question: str
    answer: str | None  # None = without an answer
    missing: tuple[str, ...] = ()  # words that an answering text would contain


@dataclass(frozen=True)
class Parsed:
    """A reply that was the JSON asked for."""

    items: tuple[Item, ...]
    malformed: int  # entries of its list that are no questions


def parse_reply(text: str) -> Parsed | None:
    """The questions of a reply, or None where it holds no such JSON.

    What stands around the JSON is ignored. Of several objects the one with the most questions counts:
    a preamble may repeat the form that was asked for.
    """
    best: Parsed | None = None
    for value in _values(_THOUGHTS.sub("", text)):
        parsed = _parsed(value)
        if parsed is not None and (best is None or len(parsed.items) > len(best.items)):
            best = parsed
    return best


def _values(text: str) -> Iterator[Any]:
    """Every outermost JSON object or list in a text."""
    decoder = json.JSONDecoder(strict=False)  # models write line breaks into strings
    at = 0
    for _ in range(_MOST_STARTS):
        start = _STARTS.search(text, at)
        if start is None:
            return
        try:
            value, at = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            at = start.end()
            continue
        yield value


def _parsed(value: Any) -> Parsed | None:
    entries = value.get("questions") if isinstance(value, dict) else value
    if not isinstance(entries, list) or not any(isinstance(e, dict) and "question" in e for e in entries):
        return None
    items = [item for entry in entries if (item := _item(entry)) is not None]
    return Parsed(tuple(items), len(entries) - len(items))


def _item(entry: Any) -> Item | None:
    if not isinstance(entry, dict):
        return None
    question, answer, answerable = _text(entry.get("question")), entry.get("answer"), entry.get("answerable")
    if question is None or question == "..." or not isinstance(answerable, bool | None):
        return None
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = json.dumps(answer)  # `"answer": 30`
    answer = _text(answer)
    if answerable is None:
        answerable = answer is not None
    if answerable != (answer is not None):
        return None
    if answerable:
        return Item(question, answer)
    missing = entry.get("missing")
    words = [missing] if isinstance(missing, str) else missing
    if not isinstance(words, list) or not words or not all(_text(word) for word in words):
        return None
    return Item(question, None, tuple(" ".join(str(word).split()) for word in words))


def _text(value: Any) -> str | None:
    """A string with something in it, in one line."""
    if not isinstance(value, str):
        return None
    return " ".join(value.split()) or None
