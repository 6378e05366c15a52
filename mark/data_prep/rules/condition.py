"""When, if, unless; and what follows once a condition is met."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mark.data_prep.adjuncts import Adjunct
from mark.data_prep.clauses import Clause
from mark.data_prep.parties import acts, lost_pointer, narrowed, pointed_end, says_little
from mark.data_prep.phrases import content_words, singular_role, without_references
from mark.data_prep.rules.base import Draft, Source, clean_answer
from mark.data_prep.wording import Ask, replace_negation, short_condition


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions that ask for a condition, an exception, or a consequence."""
    clause, ask = source.clause, source.ask()
    if clause is None:
        return
    if ask is not None and not clause.coordinated and not _vague(ask):
        for adjunct in clause.of_kind("condition"):
            if _own(clause, adjunct):
                yield from _when(source, ask, adjunct, rng)
        for adjunct in clause.of_kind("exception"):
            if _own(clause, adjunct):
                yield from _unless(source, ask, adjunct)
    yield from _then(source, clause, ask, rng)


def _vague(ask: Ask) -> bool:
    """Whether the question would not say which rule it means."""
    phrase, rest = ask.verb_phrase, ask.clause.rest
    pointed = lost_pointer(phrase, rest) or pointed_end(phrase, ask.clause.predicate)
    return pointed or says_little(phrase) or narrowed(phrase, rest)


def _own(clause: Clause, adjunct: Adjunct) -> bool:
    """Whether an adjunct belongs to the clause's verb and not to a later one."""
    at = clause.predicate.find(adjunct.text)
    return at < 0 or re.search(r"\b(?:shall|may|must)\b", clause.predicate[:at]) is None


def _says_nothing(ask: Ask, answer: str) -> bool:
    """Whether a condition is empty (`when performing their tasks`) or restricts a duty (`only if`)."""
    clause = ask.clause
    if clause.verb in ("remain", "strive") and clause.modal == "must":
        return True
    at = clause.predicate.find(answer)
    only = answer.lower().startswith("only") or clause.predicate[: max(at, 0)].rstrip().endswith(" only")
    if only and clause.modal == "must":
        return True
    told = content_words(answer.partition(" ")[2])
    finite = re.match(r"(?i)(?:if|where|when|in (?:the )?cases? where) (?!\w+ing\b)", answer)
    return len(told) < (2 if finite else 3)


def _when(source: Source, ask: Ask, adjunct: Adjunct, rng: random.Random) -> Iterator[Draft]:
    answer = clean_answer(adjunct.text)
    if re.match(r"(?i)(?:when|before|after|while|upon) [a-z]+ing\b", answer):
        answer = answer.split(",")[0]
    if _says_nothing(ask, answer):
        return
    if len(answer.split()) < 3 or len(ask.verb_phrase.split()) < 3 or _leans(answer) or "those " in answer:
        return
    if (
        re.match(r"(?i)before the (?:law|court|courts)\b|(?:up)?on request,|where a [a-z]+ would\b", answer)
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
            "Under what conditions" if ask.clause.modal == "may" else "In which case",
            "Under which circumstances",
        ]
    )
    questions = [ask.ask(w, rng) for w in openers]
    if not time and ask.clause.modal == "may" and not ask.clause.negated:
        questions += [f"What must be the case for {ask.subject} to {ask.verb_phrase}"]
    yield Draft(tuple(questions), answer, "full", source.statement.text, ())


_PROVIDED = re.compile(r"(?i)(?:save|except) as (?:otherwise )?(?:provided|expressly)")


# Told by another provision, or run on into the next clause.
_POINTS = re.compile(r"\b(?:under|in|to) (?:paragraphs?|points?|clauses?|subsections?)\b|, \w+ing\b")


def _leans(answer: str) -> bool:
    """Whether the answer needs the sentence before it."""
    return re.search(
        r"\b(?:such|those|this|that|these|latter|former)\b", " ".join(answer.split()[:4])
    ) is not None or answer.endswith(("—", "–"))


def _unless(source: Source, ask: Ask, adjunct: Adjunct) -> Iterator[Draft]:
    """An exception; its starter stays out of the answer: `unless` would turn it round."""
    told = clean_answer(adjunct.text)
    starter = re.match(
        r"(?i)(?:unless|except(?: for)?|save(?: as| that)?|with the exception of) (?!that\b|as\b)", told
    )
    if starter is None or _PROVIDED.match(told) or _leans(told) or source.statement.lead:
        return
    answer = told[starter.end() :]
    if len(answer.split()) < 4:
        return
    unless = starter.group().lower().startswith("unless")
    questions = _ban_lifted(ask, answer, unless) if ask.clause.negated else _duty_lifted(ask, unless)
    yield Draft(tuple(questions), answer, "full", source.statement.text, ())


def _ban_lifted(ask: Ask, answer: str, unless: bool) -> list[str]:
    """`No tax shall be levied except by authority of law`: how may a tax be levied."""
    asked = replace_negation(ask)
    s, phrase = asked.subject, asked.verb_phrase
    if unless or re.match(r"(?:where|when|if|in cases?)\b", answer):
        be = [f"What must be true of {s} to {phrase}"] if ask.clause.verb == "be" else []
        return [f"When may {s} {phrase}", f"Under what condition may {s} {phrase}", *be]
    if re.match(r"(?:by|through|in accordance)\b", answer):
        return [f"How may {s} {phrase}"]
    return [f"Under what condition may {s} {phrase}", f"On what condition may {s} {phrase}"]


def _duty_lifted(ask: Ask, unless: bool) -> list[str]:
    """`The buyer must pay unless the goods are defective`: when does the buyer not have to pay."""
    s, phrase = ask.subject, ask.verb_phrase
    do, be = ("do", "are") if ask.plural else ("does", "is")
    if ask.clause.modal == "fact":
        return [f"When {be} {s} not {phrase}"]
    if ask.clause.modal in ("may", "right"):
        return [f"When may {s} not {phrase}", f"In which case may {s} not {phrase}"]
    exception = f"What is the exception to the rule that {s} must {phrase}"
    if not acts(s):
        return [exception]
    lifted = [f"When {do} {s} not have to {phrase}", f"In which case is there no need for {s} to {phrase}"]
    return [*lifted, exception] if unless else [exception]


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
        or says_little(condition)
        or re.match(r"(?i)(?:although|though|while|even)\b", answer)
        or ", or where" in condition
        or len(answer.split()) < 5
        or condition.startswith(("until", "while", "before"))
    ):
        return
    questions = [
        f"What happens {condition}",
        f"What follows {condition}",
        f"What is the rule {condition}",
        f"What applies {condition}",
        f"{condition}, what happens",
    ]
    if clause.modal == "must":
        questions += [f"What does the law require {condition}", f"{condition}, what must be done"]
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
        yield Draft(tuple(questions), answer, "full", source.statement.text, ())
