"""How: the way in which something is done or decided."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace

from mark.data_prep.phrases import first_conjunct
from mark.data_prep.rules.base import Draft, Source, clean_answer
from mark.records import Style

_HOW = re.compile(
    r"(?:^|(?<=[ ,]))(?:by means of [^,;]+|by (?:a |an |the )?(?:simple |absolute |two-thirds |"
    r"qualified |special )?"
    r"(?:majority|order|public notification|notification|warrant under [^,;]+|writing under [^,;]+|"
    r"secret ballot|ballot|electronic means|registered post|lot|election|implementing act|delegated act)"
    r"(?: (?:of|by|under|in) [^,;]+?)?|in writing(?:, including in electronic form)?|free of charge|"
    r"on a regular basis|"
    r"in a (?:concise|clear|timely|transparent|structured)[^;]*? (?:form|manner|way|format|language)|"
    r"in accordance with the (?:system|procedure) of [^,;]+)(?=[,;.]|$| (?:unless|where|if|and|as|to|"
    r"for|from)\b)"
)


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions about a manner."""
    clause, ask = source.clause, source.ask()
    if clause is None or ask is None or clause.negated or clause.verb == "be" or clause.coordinated:
        return
    if first_conjunct(clause.predicate) != clause.predicate:  # the manner may belong to a second verb
        return
    match = _HOW.search(clause.predicate)
    if match is not None and any(
        match.group() in a.text for a in clause.adjuncts if a.kind in ("condition", "exception", "purpose")
    ):
        return  # `unless the owner objects in writing`
    if match is None or "Article" in match.group() or "paragraph" in match.group():
        return
    answer = clean_answer(match.group())
    phrase = ask.verb_phrase
    at = phrase.find(answer[:12])
    if at >= 0:
        phrase = phrase[:at].strip(" ,")
    if len(phrase.split()) < 2 or answer in phrase:
        return

    bare = replace(ask, verb_phrase=phrase)
    questions = [bare.ask("How", rng), bare.ask("In what way", rng), bare.ask("In which manner", rng)]
    if "majority" in answer:
        questions = [
            bare.ask("By what majority", rng),
            bare.ask("How", rng),
            bare.ask("Which majority", rng).replace("Which majority", "With which majority"),
        ]
    elif "writing" in answer or "form" in answer:
        questions += [bare.ask("In what form", rng)]
    style: Style = "short" if len(answer.split()) <= 9 else "full"
    yield Draft(
        tuple(questions),
        answer,
        style,
        source.statement.text,
        () if clause.passive else (f"how {ask.subject} {phrase}",),
    )
