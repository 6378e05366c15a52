"""Who must, may or does something: the answer is the body or person."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mark.data_prep import verbs
from mark.data_prep.clauses import Clause
from mark.data_prep.phrases import brief, content_words, without_references
from mark.data_prep.rules.base import Draft, Source, clean_answer
from mark.data_prep.wording import short_condition, short_phrase

_AGENT_HEAD = re.compile(
    r"(?:[A-Z]|.*\b(?:authorit|bod(?:y|ies)|person|commission|court|board|council|state|president|governor|speaker|"
    r"chair|minister|parliament|legislature|house|member|judge|officer|provider|deployer|manufacturer|importer|"
    r"distributor|operator|controller|processor|entit|compan|undertaking|representative|agency|team|group|committee|"
    r"institution|employer|employee|citizen|subject|user|panel|office|secretariat|overseer|director|auditor|"
    r"holder|party|parties|buyer|seller|supplier|customer|owner|tenant|landlord|applicant|organisation))",
)


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions whose answer is the one who acts."""
    clause = source.clause
    if clause is None:
        return
    if clause.passive:
        yield from _by_agent(source, clause, rng)
        return
    answer = clean_answer(clause.subject)
    phrase = short_phrase(clause)
    if source.statement.lead and clause.main in source.statement.lead:
        return
    if (
        phrase is None
        or not is_agent(answer)
        or clause.verb in ("be", "mean", "apply", "consist", "include", "comprise")
    ):
        return
    if clause.negated and answer.lower().startswith("no "):
        return
    if lost_pointer(phrase, clause.rest) or re.search(
        r"\b(?:its|their|his|own)\b", phrase
    ):  # whose is what is asked
        return
    if len(content_words(phrase)) < 3 or phrase.split()[0] == "have" or len(answer.split()) > 10:
        return
    if source.statement.lead and phrase.split()[0] not in source.statement.text:
        return  # every item of the list would give the same question
    told = clause.verb in ("inform", "notify", "consult", "assist") and not re.search(
        r" (?:of|about|that|on|when|with) ", phrase
    )
    if told and not clause.of_kind("condition"):
        return
    questions = _with_condition(source, _asker(clause, phrase, answer, rng), rng)
    terse = (
        (f"who {verbs.third_person(phrase)}", f"responsible for {_noun_form(clause)}")
        if not clause.negated
        else ()
    )
    yield Draft(
        questions,
        answer,
        "short",
        source.statement.text,
        tuple(t for t in terse if t.strip() != "responsible for"),
    )


def lost_pointer(phrase: str, rest: str) -> bool:
    """Whether which one is meant stood in a reference that the phrase has lost: `exercise the powers`."""
    return (
        re.search(r"\bthe [a-z]+(?: [a-z]+ available)?$", phrase) is not None
        and without_references(rest) != rest
    )


def _asker(clause: Clause, phrase: str, answer: str, rng: random.Random) -> tuple[str, ...]:
    from mark.data_prep.wording import Ask

    who = Ask(answer, verbs.is_plural(answer), phrase, clause).who(rng)
    if _is_body(answer) and not clause.negated:
        modal = {"must": "must", "may": "may", "right": "can", "fact": "does"}[clause.modal]
        who += [
            f"Which body {modal} {phrase}",
            f"Which authority {modal} {phrase}",
            f"Which institution {modal} {phrase}",
        ]
    return tuple(who)


def _with_condition(source: Source, questions: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    clause = source.clause
    assert clause is not None
    for adjunct in clause.of_kind("condition"):
        condition = short_condition(adjunct.text, limit=18)
        if condition and rng.random() < 0.5:
            return tuple(f"{q} {condition}" for q in questions if not q.startswith("On whom"))
    return questions


def _by_agent(source: Source, clause: Clause, rng: random.Random) -> Iterator[Draft]:
    text = source.statement.text
    # `where objections are raised by a State`: a case, no rule.
    low_start = clause.modal == "fact" and (
        text[:1].islower() or re.match(r"(?:Where|If|When)\b", text) is not None
    )
    if not clause.agent or source.statement.lead or low_start or re.match(r"(?:and|or)\b", clause.rest):
        return
    answer = clean_answer(clause.agent)
    answer = re.split(
        r" (?:in accordance|pursuant|under|on|acting|after|for|in|to|from|with|shall|as|within|at|is|"
        r"are) |, (?!the |and )",
        answer,
    )[0].strip(" ,")
    answer = re.split(r" by (?!the |a |each )| acting\b| against\b", answer)[0]
    if re.search(rf"{re.escape(answer)},? or,? (?:if|by|where)\b", clause.predicate):
        return
    if clause.coordinated or re.search(r" and [^,]* shall ", clause.predicate):
        answer = answer.split(" and ")[0]
    subject = source.subject(12)
    base = verbs.base_of_participle(clause.verb.split()[0])
    if subject is None or not is_agent(answer) or len(answer.split()) > 12 or base is None:
        return
    if re.search(r" (?:established|designated|appointed|chosen)$", answer) or " those" in answer:
        return
    particle = clause.verb.partition(" ")[2]
    base = f"{base} {particle}".strip()
    rest = brief(clause.rest, 8) if clause.rest else ""
    if rest is None:
        return
    noun = re.sub(r"^no ", "any ", subject)
    tail = f"{noun} {rest}".strip()
    modal = clause.modal
    be = "are" if verbs.is_plural(subject) else "is"
    modal_be = {"must": "must", "may": "may", "right": "may", "fact": be}[modal]
    inner = (
        f"{noun} {clause.verb} {rest}".strip()
        if modal == "fact"
        else f"{noun} be {clause.verb} {rest}".strip()
    )
    if clause.negated:
        return
    questions = [
        f"By whom {modal_be} {inner}",
        f"Who {verbs.third_person(base)} {tail}",
        f"Who {modal_be} {inner} by",
    ]
    if modal == "may":
        questions += [
            f"Who can {base} {tail}",
            f"Who has the power to {base} {tail}",
            f"Who may {base} {tail}",
        ]
    else:
        questions += [
            f"Who is responsible for {verbs.gerund(base)} {tail}",
            f"Whose task is it to {base} {tail}",
        ]
        if _is_body(answer):
            questions += [f"Which body {verbs.third_person(base)} {tail}"]
    yield Draft(
        tuple(questions), answer, "short", source.statement.text, (f"who {verbs.third_person(base)} {tail}",)
    )


def is_agent(text: str) -> bool:
    """Whether a noun phrase names a body or person."""
    if re.match(r"(?i)(?:it|they|he|she|this|that|these|those|such|there|nothing|both|all)\b", text):
        return False
    if re.search(
        r"\b(?:Bill|Ordinance|Proclamation|Resolution|Treaty|Annex|AI systems?|AI models?)$|^AI systems?\b",
        text,
    ):
        return False
    if re.search(r"(?:\bAct|\b[Ll]aw|[Cc]odes? of \w+|\border|\breport|\bacting)$", text):
        return False
    if re.search(
        r"(?i)\b(?:referred|listed|paragraphs?|articles?|clauses?|points?|subparagraph|annex|shall|which|section)\b",
        text,
    ):
        return False
    bare = re.sub(r"^(?:[Tt]he|[Aa]n?|[Ee]ach|[Ee]very|[Aa]ny|[Nn]o) ", "", text)
    if re.match(r"[a-z-]+ (?:made|of|to|under|adopted|issued)\b", bare) and not _AGENT_HEAD.match(
        bare.split()[0]
    ):
        return False
    return _AGENT_HEAD.match(bare) is not None and not re.match(
        r"(?i)the (?:said|same|latter|former)\b", text
    )


def _is_body(text: str) -> bool:
    return (
        re.search(
            r"(?i)\b(?:authorit|commission|court|board|council|parliament|legislature|agency|group|committee|office|enisa|team|esas?)",
            text,
        )
        is not None
    )


def _noun_form(clause: Clause) -> str:
    rest = brief(clause.rest, 8)
    return f"{verbs.gerund(clause.verb)} {rest}" if rest and not clause.passive else ""
