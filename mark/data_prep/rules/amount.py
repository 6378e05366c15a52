"""Deadlines, periods and intervals here; ages, majorities, sums and counts in `sizes`."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mark.data_prep import verbs
from mark.data_prep.phrases import content_words
from mark.data_prep.rules.base import Draft, Source
from mark.data_prep.rules.numbers import DATE, TIME, UNIT, N, bare_of, span
from mark.data_prep.rules.sizes import size_drafts
from mark.data_prep.wording import Ask, short_condition

_DEADLINE = re.compile(
    rf"(?:without undue delay(?:,)? and,? (?:in any event,? |where feasible,? )?)?"
    rf"(?:within (?:a (?:maximum )?period of |a maximum of |the period of |the )?{TIME}(?: period)?|"
    rf"(?:no|not) later than (?:{TIME}|{DATE})|at the latest (?:within )?{TIME}|by {DATE}|before {DATE}|"
    rf"until {DATE}|as from {DATE}|from {DATE}|before the expiration of {TIME}|{TIME} before)"
    r"(?: (?:of|after|from|before|prior to|following|thereafter)(?: [^,;.]{3,90}?)?)?(?=[,;.]|$| "
    r"(?:unless|where|if|and|or|but|to the|which|shall|notify|inform|submit|except|whether)\b)",
    re.I,
)
_PERIOD = re.compile(
    rf"(?:for (?:a|an|the|a further|a maximum|a minimum|an initial) (?:\w+ )?(?:period|term|duration) "
    rf"of (?:at least |not less than |not more than |up to |not exceeding )?{TIME}|"
    rf"for (?:at least |up to |not more than |no longer than |a maximum of )?{TIME}|for {TIME}|"
    rf"(?:a|the) (?:maximum )?(?:period|term) (?:of |not exceeding )(?:at least |not more than "
    rf")?{TIME}|for a period not exceeding {TIME}|(?<=hold office )for a term of {TIME})"
    r"(?: (?:from|after) (?:the date|its|the day|the placing)[^,;.]{0,80}?)?(?=[,;.]|$| (?:unless|"
    r"where|if|and|or|but|from|which|after|shall|may|at)\b)",
    re.I,
)
_EVERY = re.compile(
    rf"(?:at least )?(?:once )?every (?:{TIME}|{N} {UNIT}|year|month|six months)|at least (?:once|"
    rf"twice) (?:a|per|every) (?:year|month|{TIME})|"
    rf"at least (?:annually|yearly)|(?:once|twice) a year|on an annual basis|annually",
    re.I,
)


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions whose answer is a number, a date, or a span of time."""
    clause, ask = source.clause, source.ask()
    text = source.statement.text
    timed = list(_is_term(source))
    if clause is not None and ask is not None:
        timed += _time(source, ask, text, rng)
    yield from timed
    if clause is None:
        return
    yield from size_drafts(source, ask, rng)


def _tail(source: Source, rng: random.Random) -> str:
    """The clause's condition, so that the question says which case it means."""
    assert source.clause is not None
    for adjunct in source.clause.of_kind("condition"):
        condition = short_condition(adjunct.text, 14)
        if condition is not None and not re.search(rf"{TIME}|{DATE}", condition):
            return f" {condition}"
    return ""


def _time(source: Source, ask: Ask, text: str, rng: random.Random) -> Iterator[Draft]:
    for pattern, family in ((_DEADLINE, "deadline"), (_EVERY, "every"), (_PERIOD, "period")):
        match = pattern.search(text)
        if match is None or _elsewhere(ask, match.group()):
            continue
        answer = span(match)
        bare = bare_of(ask, answer)
        if bare is None or (
            answer.startswith(("from ", "as from "))
            and family == "deadline"
            and ask.clause.modal == "must"
            and ask.clause.verb != "apply"
        ):
            continue
        phrase, s = bare.verb_phrase, bare.subject
        ing = verbs.gerund(phrase)
        tail = _tail(source, rng)
        questions, terse = _time_questions(family, bare, answer, ing, rng)
        if (len(content_words(phrase)) < 2 and not bare.clause.passive) or (
            len(content_words(f"{s} {phrase}")) < 3 and not tail
        ):
            continue
        spoken = tuple(f"{q}{tail}" for q in questions if not (q.startswith(s) and tail))
        yield Draft(spoken, answer, "short", source.statement.text, terse)


def _elsewhere(ask: Ask, found: str) -> bool:
    """Whether the span belongs to a condition, an exception or a second verb."""
    clause = ask.clause
    inside = [a.text for a in clause.adjuncts if a.kind in ("condition", "exception", "purpose")]
    early = " ".join(a.text for a in clause.adjuncts if a.text not in clause.predicate)
    late = clause.coordinated and found not in early
    return late or any(found[:20] in text for text in inside)


def _time_questions(
    family: str, bare: Ask, answer: str, ing: str, rng: random.Random
) -> tuple[list[str], tuple[str, ...]]:
    s, phrase = bare.subject, bare.verb_phrase
    if family == "every":
        return (
            [
                bare.ask("How often", rng),
                bare.ask("How often", rng),
                bare.ask("How frequently", rng),
                bare.ask("At what intervals", rng),
            ],
            (f"how often {phrase}", f"{ing} frequency")
            if not bare.clause.passive
            else (f"how often {s} {phrase.removeprefix('be ')}",),
        )
    if family == "period":
        questions = [
            bare.ask("How long", rng),
            bare.ask("For how long", rng),
            bare.ask("For what period", rng),
        ]
        return questions, (f"how long {s} {phrase.removeprefix('be ')}",)
    if answer.startswith(("from", "as from")):
        return [
            bare.ask("From when", rng),
            bare.ask("As of which date", rng),
            bare.ask("Since when", rng),
        ], ()
    questions = [bare.ask("By when", rng), bare.ask("When at the latest", rng)]
    dated = re.search(DATE, answer) is not None
    if dated:
        questions += [bare.ask("By what date", rng), bare.ask("By which date", rng), bare.ask("When", rng)]
    else:
        questions += [
            bare.ask("How quickly", rng),
            bare.ask("Within what time", rng),
            bare.ask("How soon", rng),
            bare.ask("How much time", rng).replace(
                "How much time must " + s, f"How much time {'do' if bare.plural else 'does'} {s} have to"
            ),
        ]
        questions = [q for q in questions if not q.startswith("How much time") or " have to " in q]
    if not bare.clause.passive and bare.clause.modal == "must":
        questions += [
            f"What is the deadline for {s} to {phrase}",
            f"What is the time limit for {ing}",
            f"How long {'do' if bare.plural else 'does'} {s} have to {phrase}",
        ]
        return questions, (f"deadline for {ing}", f"time limit {phrase}", f"{ing} deadline")
    return questions, (
        f"deadline {s} {phrase.removeprefix('be ')}",
        f"time limit {s} {phrase.removeprefix('be ')}",
    )


def _is_term(source: Source) -> Iterator[Draft]:
    """`The term of office shall be five years`."""
    clause, subject = source.clause, source.subject(12)
    if clause is None or subject is None or clause.verb not in ("be", "exceed", "last"):
        return
    match = re.match(rf"(?:(?:a period of|at least|not less than|not more than) )?{TIME}", clause.rest)
    if match is None:
        return
    be = "are" if verbs.is_plural(subject) else "is"
    questions = (f"How long {be} {subject}", f"What {be} {subject}", f"How long may {subject} last")
    yield Draft(questions, span(match), "short", source.statement.text, (f"{subject} length",))
