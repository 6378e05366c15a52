"""When, if, unless; and what follows once a condition is met."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mark.data_prep import verbs
from mark.data_prep.adjuncts import Adjunct
from mark.data_prep.clauses import Clause
from mark.data_prep.phrases import singular_role, without_references
from mark.data_prep.rules.agent import lost_pointer
from mark.data_prep.rules.base import Draft, Source, clean_answer
from mark.data_prep.wording import Ask, replace_negation, short_condition


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions that ask for a condition, an exception, or a consequence."""
    clause, ask = source.clause, source.ask()
    if clause is None:
        return
    if ask is not None and not clause.coordinated:
        for adjunct in clause.of_kind("condition"):
            yield from _when(source, ask, adjunct, rng)
        for adjunct in clause.of_kind("exception"):
            yield from _unless(source, ask, adjunct, rng)
    yield from _then(source, clause, ask, rng)


def _when(source: Source, ask: Ask, adjunct: Adjunct, rng: random.Random) -> Iterator[Draft]:
    answer = clean_answer(adjunct.text)
    if re.match(r"(?i)(?:when|before|after|while|upon) [a-z]+ing\b", answer):
        answer = answer.split(",")[0]
    if len(answer.split()) < 3 or len(ask.verb_phrase.split()) < 3 or _leans(answer) or "those " in answer:
        return
    if (
        re.match(r"(?i)before the (?:law|court|courts)\b", answer)
        or lost_pointer(ask.verb_phrase, ask.clause.rest)
        or f"even {answer}" in source.statement.text
        or _POINTS.search(answer)
    ):
        return
    if answer.lower().startswith("until"):
        openers = ["Until when", "How long", "For how long"]
        yield Draft(tuple(ask.ask(w, rng) for w in openers), answer, "full", source.statement.text, ())
        return
    time = re.match(r"(?i)(?:before|after|until|as soon as|upon|during|once|prior)\b", answer)
    openers = (
        ["When"]
        if time
        else [
            "When",
            "When",
            "In which cases",
            "In what circumstances",
            "Under what conditions",
            "Under which circumstances",
        ]
    )
    questions = [ask.ask(w, rng) for w in openers]
    if not time and ask.clause.modal == "may" and not ask.clause.negated:
        questions += [
            f"What condition applies for {ask.subject} to {ask.verb_phrase}",
            f"What must be the case for {ask.subject} to {ask.verb_phrase}",
        ]
    terse = () if ask.clause.passive else (f"conditions for {verbs.gerund(ask.verb_phrase)}",)
    yield Draft(
        tuple(questions), answer, "full", source.statement.text, terse if not ask.clause.negated else ()
    )


_PROVIDED = re.compile(r"(?i)(?:save|except) as (?:otherwise )?(?:provided|expressly)")


# Told by another provision, or run on into the next clause.
_POINTS = re.compile(r"\b(?:under|in|to) (?:paragraphs?|points?|clauses?|subsections?)\b|, \w+ing\b")


def _leans(answer: str) -> bool:
    """Whether the answer needs the sentence before it."""
    return re.search(
        r"\b(?:such|those|this|that|these)\b", " ".join(answer.split()[:4])
    ) is not None or answer.endswith(("—", "–"))


def _unless(source: Source, ask: Ask, adjunct: Adjunct, rng: random.Random) -> Iterator[Draft]:
    answer = clean_answer(adjunct.text)
    if len(answer.split()) < 4 or _leans(answer) or source.statement.lead or _PROVIDED.match(answer):
        return
    s, phrase = ask.subject, ask.verb_phrase
    if ask.clause.negated:
        open_ask = replace_negation(ask)
        s = open_ask.subject
        questions = [
            f"When may {s} {phrase} after all",
            f"In which exceptional cases may {s} {phrase}",
            f"What is the exception to the ban on {s} {verbs.gerund(phrase)}",
            f"Is there any case in which {s} may {phrase}",
        ]
        if answer.startswith("unless"):
            questions.append(f"When can {s} {phrase}")
        if ask.clause.verb == "be" and not ask.clause.passive:
            questions = [f"What must be true of {s} to {phrase}", f"What does it take for {s} to {phrase}"]
    else:
        do = "do" if ask.plural else "does"
        questions = [
            f"When {do} {s} not have to {phrase}",
            f"What is the exception to the rule that {s} must {phrase}",
            f"Is there an exception to the rule that {s} must {phrase}",
            f"In which case is there no need for {s} to {phrase}",
        ]
        if ask.clause.modal in ("may", "right", "fact"):
            be = "are" if ask.plural else "is"
            questions = [f"When may {s} not {phrase}", f"What limits the power of {s} to {phrase}"]
            if ask.clause.modal == "fact":
                questions = [f"When {be} {s} not {phrase}", f"What is the exception to {s} being {phrase}"]
    yield Draft(tuple(questions), answer, "full", source.statement.text, ())


def _then(source: Source, clause: Clause, ask: Ask | None, rng: random.Random) -> Iterator[Draft]:
    """The condition is given, the consequence is asked."""
    conditions = clause.of_kind("condition")
    if not conditions or not source.statement.text.startswith(conditions[0].text[:12]):
        return
    condition = short_condition(conditions[0].text)
    if without_references(conditions[0].text) != conditions[0].text:  # which case is told elsewhere
        return
    answer = clean_answer(clause.main)
    if (
        condition is None
        or re.match(r"(?i)(?:although|though|while|even)\b", answer)
        or ", or where" in condition
        or len(answer.split()) < 5
        or condition.startswith(("until", "while", "before"))
    ):
        return
    questions = [
        f"What happens {condition}",
        f"What does the law require {condition}",
        f"What follows {condition}",
        f"What is the rule {condition}",
        f"What applies {condition}",
        f"{condition}, what happens",
        f"{condition}, what must be done",
    ]
    if re.match(r"\w+ [a-z]+ing\b", condition) or re.search(r"\b(?:their|its|it|they)\b", condition):
        questions = []
    if ask is not None and not clause.passive and clause.modal == "must" and not clause.negated:
        questions += [
            f"What must {ask.subject} do {condition}",
            f"{condition}, what {ask.duty(rng)} do",
            f"What {ask.duty(rng)} do {condition}",
        ]
        role = singular_role(ask.subject)
        if role is not None:
            questions += [f"I work for {role}. What do we have to do {condition}"]
    if questions:
        yield Draft(tuple(questions), answer, "full", source.statement.text, (f"what {condition}",))
