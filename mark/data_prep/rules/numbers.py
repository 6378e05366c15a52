"""Numbers, dates and spans of time as legal texts write them."""

from __future__ import annotations

import re
from dataclasses import replace

from mark.data_prep.rules.base import clean_answer
from mark.data_prep.wording import Ask

N = (
    r"(?:\d[\d.,]*(?: ?%)?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|"
    r"fourteen|fifteen|"
    r"twenty(?:[- ]\w+)?|thirty(?:[- ]\w+)?|forty|fifty|sixty(?:[- ]\w+)?|seventy|eighty|ninety|one "
    r"hundred)(?![a-z])"
)
UNIT = r"(?:calendar |working |business |clear )?(?:hours?|days?|weeks?|months?|years?)"
TIME = rf"{N}(?:[- ]{UNIT})"
DATE = (
    r"\d{1,2} (?:January|February|March|April|May|June|July|August|September|October|November|December) \d{4}"
)


def span(match: re.Match[str]) -> str:
    """The found span, without a date that its relative clause would have told."""
    text = re.sub(
        r",? (?:from|of|after|following) the (?:date|day|end|application|date of)$",
        "",
        clean_answer(match.group()),
    )
    return clean_answer(text)


def bare_of(ask: Ask, answer: str) -> Ask | None:
    """The question's predicate without the answer in it."""
    phrase = ask.verb_phrase
    at = phrase.find(answer[:10])
    if at >= 0:
        phrase = phrase[:at].strip(" ,")
    phrase = re.sub(r" (?:for|within|by|of|at|before|until|from|after|not|at least|and)$", "", phrase)
    return replace(ask, verb_phrase=phrase) if len(phrase.split()) >= 1 else None
