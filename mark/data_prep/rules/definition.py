"""Defined terms: the answer is the definiens, or the term itself."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mark.data_prep.phrases import brief, without_references
from mark.data_prep.rules.base import Draft, Source, clean_answer

_QUOTED = r"[‘“\"'](?P<term>[^‘’“”\"]{2,80}?)\s?[’”\"']{1,2}"
_MEANS = re.compile(
    rf"{_QUOTED}(?:,? or [‘“\"'][^’”\"]{{2,60}}[’”\"'])?,? (?:also )?(?P<verb>means?|includes?|shall "
    rf"mean|has the meaning of|refers to|shall include):? (?P<definiens>.+)$"
)
_BY_REFERENCE = re.compile(
    r"(?:as|has the meaning|within the meaning|the same meaning|defined in|means:? \(a\))"
)


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions about a definition."""
    match = _MEANS.search(source.statement.text)
    if match is None or source.statement.cut:
        return
    if match.start() > 60 and not source.statement.text.lower().startswith(("for the", "in this", "unless")):
        return
    term = re.sub(r"^(?:an?|the) ", "", match.group("term").strip(" ,‘“'\""))
    if match.group("definiens").rstrip().endswith((":", "—")):
        return
    definiens = clean_answer(match.group("definiens").rstrip(" .;"))
    words = definiens.split()
    definiens = re.split(r",? (?:and|or) [‘“]", definiens)[0]
    if (
        len(words) < 3
        or re.match(r"\((?:a|i|1)\)", definiens)  # the first of several meanings
        or definiens.endswith(":")
        or definiens.lower().startswith(term.lower())
        or (len(words) < 9 and re.match(rf"(?i)(?:an?|the) {re.escape(term)}\b", definiens))
        or re.match(r"(?:an? |the |any )?[\w -]{0,70}?(?:as )?defined in ", definiens)
    ):
        return
    if (
        re.match(
            r"(?:a |an |the )?(?:[\w-]+ ){0,4}(?:as referred to|referred to|within the meaning of) ",
            definiens,
        )
        and len(words) < 14
    ):
        return
    yield _what_is(source, term, definiens, match.group("verb"), rng)
    reverse = _reverse(source, term, definiens)
    if reverse is not None and "mean" in match.group("verb"):
        yield reverse


def _what_is(source: Source, term: str, definiens: str, verb: str, rng: random.Random) -> Draft:
    article = "" if term[:1].isupper() or _mass(term) else ("an " if term[0].lower() in "aeiou" else "a ")
    if verb.startswith(("include", "shall include")):
        questions: tuple[str, ...] = (
            f"What does the term '{term}' include",
            f"What counts as {term}",
            f"What falls under '{term}'",
            f"What is covered by the word '{term}'",
        )
    else:
        questions = (
            f"What is {article}{term}",
            f"What does '{term}' mean",
            f"What is meant by {term}",
            f"How is '{term}' defined",
            f"What is the definition of {term}",
            f"What counts as {article}{term}",
            f"Explain the term {term}",
            f"What do we understand by {article}{term}",
            f"When people speak of {article}{term}, what do they mean",
            f"What exactly is {article}{term}",
            f"What does the law mean by {article}{term}",
            f"How does the law define {term}",
        )
    terse = (f"{term} definition", f"define {term}", f"meaning of {term}", f"{term} meaning")
    return Draft(questions, definiens, "full", source.statement.text, terse, keep=term)


def _reverse(source: Source, term: str, definiens: str) -> Draft | None:
    """From the description to the term."""
    whole = without_references(definiens)
    short = whole if len(whole.split()) <= 18 else brief(definiens, 18)
    if short is None or len(short.split()) < 6 or term.lower() in short.lower() or len(term.split()) > 6:
        return None
    stems = {w[:5].lower() for w in term.split() if len(w) > 4}
    if stems & {w[:5].lower() for w in short.split()}:
        return None
    questions = (
        f"What is the term for {short}",
        f"What do you call {short}",
        f"Which term describes {short}",
        f"What name is given to {short}",
        f"Which word stands for {short}",
    )
    return Draft(questions, term, "short", source.statement.text, (f"term for {short}",))


def _mass(term: str) -> bool:
    head = term.split(" of ")[0].split()[-1].lower()
    return head.endswith(
        (
            "ing",
            "ion",
            "ity",
            "ment",
            "data",
            "ware",
            "ness",
            "ance",
            "ence",
            "acy",
            "s",
            "risk",
            "use",
            "market",
            "consent",
            "testing",
        )
    )
