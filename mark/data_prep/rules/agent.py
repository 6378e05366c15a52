"""Who must, may or does something: the answer is the body or person."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mark.data_prep import verbs
from mark.data_prep.clauses import Clause
from mark.data_prep.parties import is_agent, is_body, lost_pointer, narrowed, pointed_end, says_little
from mark.data_prep.phrases import brief, content_words
from mark.data_prep.rules.base import Draft, Source, clean_answer, pointed_subject
from mark.data_prep.wording import Ask, short_condition, short_phrase, without_aside
from mark.data_prep.words import word_set

_NO_DEED = word_set("apply be comprise consist have include mean remain represent work")
_JUDGING = word_set("deem consider regard treat assist accompany follow affect")


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions whose answer is the one who acts."""
    clause = source.clause
    if clause is None:
        return
    if clause.passive:
        yield from _by_agent(source, clause, rng)
        return
    answer, phrase = clean_answer(without_aside(clause.subject)), short_phrase(clause)
    if phrase is None or _unfit(source, clause, phrase, answer):
        return
    condition = _condition(source, clause)
    told = clause.verb in ("inform", "notify", "consult", "assist") and not re.search(
        r" (?:of|about|that|on|when|with) ", phrase
    )
    if told and not condition:
        return
    questions = tuple(f"{q} {condition}".strip() for q in _asker(clause, phrase, answer, rng))
    opener = "who can" if clause.modal in ("may", "right") else "who"
    verb = phrase if clause.modal in ("may", "right") else verbs.third_person(phrase)
    terse = () if clause.negated or condition else (f"{opener} {verb}",)
    yield Draft(questions, answer, "short", source.statement.text, terse)


def _unfit(source: Source, clause: Clause, phrase: str, answer: str) -> bool:
    """Whether `who` cannot be asked: no party, or a phrase that many could fit."""
    lead = source.statement.lead
    if not is_agent(answer) or len(answer.split()) > 10 or re.fullmatch(r"an? \w+", answer):
        return True
    if clause.verb in _NO_DEED:
        return True
    if clause.negated and answer.lower().startswith("no "):
        return True
    if lead and (clause.main in lead or phrase.split()[0] not in source.statement.text):
        return True  # every item of the list would give the same question
    if lost_pointer(phrase, clause.rest) or says_little(phrase) or narrowed(phrase, clause.rest):
        return True
    if pointed_end(phrase, clause.predicate):
        return True
    # Whose is what is asked.
    return len(content_words(phrase)) < 3 or re.search(r"\b(?:its|their|his|own)\b", phrase) is not None


def _condition(source: Source, clause: Clause) -> str:
    """The case that opens the statement, or "": without it the question would be about another one."""
    for adjunct in clause.of_kind("condition"):
        condition = short_condition(adjunct.text, limit=16)
        if condition is not None and source.statement.text.startswith(adjunct.text[:10]):
            return condition
    return ""


def _asker(clause: Clause, phrase: str, answer: str, rng: random.Random) -> tuple[str, ...]:
    who = Ask(answer, verbs.is_plural(answer), phrase, clause).who(rng)
    if is_body(answer) and not clause.negated:
        modal = {"must": "must", "may": "may", "right": "can", "fact": "does"}[clause.modal]
        who += [
            f"Which body {modal} {phrase}",
            f"Which authority {modal} {phrase}",
            f"Which institution {modal} {phrase}",
        ]
    return tuple(who)


def _by_agent(source: Source, clause: Clause, rng: random.Random) -> Iterator[Draft]:
    """`The treasurer is appointed by the board`: who appoints the treasurer."""
    subject, answer = source.subject(12), _named_by(source, clause)
    verb, _, particle = clause.verb.partition(" ")
    base = verbs.base_of_participle(verb)
    rest = brief(clause.rest, 8) if clause.rest else ""
    if answer is None or subject is None or base is None or base in _JUDGING or rest is None:
        return
    if says_little(subject) or pointed_subject(clause) or len(content_words(f"{subject} {base} {rest}")) < 2:
        return
    base = f"{base} {particle}".strip()
    noun = re.sub(r"^no ", "any ", subject)
    questions = _passive_questions(clause, noun, base, rest, is_body(answer))
    terse = f"who {verbs.third_person(base)} {noun} {rest}".strip()
    yield Draft(tuple(questions), answer, "short", source.statement.text, (terse,))


def _named_by(source: Source, clause: Clause) -> str | None:
    """The party after `by`, or None where it is no party or not the only one."""
    text = source.statement.text
    # `where objections are raised by a State`: a case, no rule.
    low_start = clause.modal == "fact" and (
        text[:1].islower() or re.match(r"(?:Where|If|When)\b", text) is not None
    )
    unfit = not clause.agent or clause.negated or source.statement.lead
    if unfit or low_start or re.match(r"(?:and|or)\b", clause.rest):
        return None
    answer = re.split(
        r" (?:in accordance|pursuant|under|on|acting|after|for|in|to|from|with|shall|as|within|at|is|"
        r"are) |, (?!the |and )",
        clean_answer(clause.agent),
    )[0].strip(" ,")
    answer = re.split(r" by (?!the |a |each )| acting\b| against\b", answer)[0]
    if re.search(rf"{re.escape(answer)},? or,? (?:if|by|where)\b", clause.predicate):
        return None
    if clause.coordinated or re.search(r" and [^,]* shall ", clause.predicate):
        answer = answer.split(" and ")[0]
    if not is_agent(answer) or len(answer.split()) > 12 or re.fullmatch(r"an? \w+", answer):
        return None
    if re.search(r" (?:established|designated|appointed|chosen)$| those| and \w+ed\b", answer):
        return None
    return answer


def _passive_questions(clause: Clause, noun: str, base: str, rest: str, body: bool) -> list[str]:
    """Who does what is done: `who appoints the treasurer`, `by whom is the treasurer appointed`."""
    tail = f"{noun} {rest}".strip()
    be = "are" if verbs.is_plural(noun) else "is"
    modal = {"must": "must", "may": "may", "right": "may", "fact": be}[clause.modal]
    done = clause.verb if clause.modal == "fact" else f"be {clause.verb}"
    questions = [f"By whom {modal} {noun} {done} {rest}".strip()]
    if clause.modal == "may":
        return [
            *questions,
            f"Who can {base} {tail}",
            f"Who has the power to {base} {tail}",
            f"Who may {base} {tail}",
        ]
    questions += [
        f"Who {verbs.third_person(base)} {tail}",
        f"Who is responsible for {verbs.gerund(base)} {tail}",
        f"Whose task is it to {base} {tail}",
    ]
    return [*questions, f"Which body {verbs.third_person(base)} {tail}"] if body else questions
