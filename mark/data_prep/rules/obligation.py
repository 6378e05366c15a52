"""Duties, powers, rights and bans: what must, may or must not be done."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace

from mark.data_prep import verbs
from mark.data_prep.clauses import Clause
from mark.data_prep.phrases import brief, content_words, singular_role
from mark.data_prep.rules.agent import is_agent, lost_pointer
from mark.data_prep.rules.base import Draft, Source, clean_answer
from mark.data_prep.sentences import strip_item
from mark.data_prep.wording import Ask, replace_negation, short_condition
from mark.data_prep.words import word_set

_SPLIT_OBJECT = re.compile(
    r"(?<!referred)(?<!according)(?<!relating)(?<!subject)(?<!due)(?<!access)(?<!related) (to|with|"
    r"from|on|for|against|into|between) (?=(?:the|a|an|any|each|its|their|all|[A-Z][a-z]+)\b)"
)
_CONTENTS = (
    "include",
    "contain",
    "comprise",
    "cover",
    "specify",
    "state",
    "indicate",
    "constitute",
    "form",
    "become",
    "remain",
)
_NO_OBJECT = word_set(
    "be have ensure apply consist act comply give pay refer take make put bring come remain become "
    "constitute form mean do lay set comprise hold endeavour cause consult decide inform notify"
)


# A noun that calls for what was cut: `verify the compliance [with Article 60]`.
_INCOMPLETE = re.compile(
    r"(?:compliance|conformity|access|regard|respect|agreement|power|right|ability|opportunity|need|attention|"
    r"effect|account|matters?|along|measures|steps|information)$"
)


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions about what a clause demands, allows or forbids."""
    clause, ask = source.clause, source.ask()
    if clause is None or ask is None or clause.modal == "fact":
        return
    yield from _yes_no(source, ask, rng)
    if clause.passive:
        return
    yield from _what_about(source, ask, rng)
    yield from _object(source, ask, rng)
    yield from _ensure(source, ask, rng)


def _news(topic: str, subject: str) -> set[str]:
    """What a heading adds to the subject; nothing where it only repeats it."""
    if set(content_words(subject)) <= set(content_words(topic)):
        return set()
    return (
        set(content_words(topic))
        - set(content_words(subject))
        - {"obligations", "duties", "powers", "general"}
    )


def _main_answer(source: Source, clause: Clause) -> str:
    if source.statement.lead and clause.main not in source.statement.text:
        return strip_item(source.statement.text)
    return clean_answer(clause.main.split("; ")[0])


def _yes_no(source: Source, ask: Ask, rng: random.Random) -> Iterator[Draft]:
    """`May ...?` is answered by the rule itself."""
    clause = ask.clause
    if (
        len(content_words(ask.verb_phrase)) < 3
        or clause.verb in ("be", "have", "deemed", "construed")
        or lost_pointer(ask.verb_phrase, clause.rest)
        or (clause.verb in _CONTENTS and source.statement.lead)
    ):
        return
    plain = [ask.yes_no(rng) for _ in range(3)]
    role = singular_role(ask.subject)
    we = replace_negation(ask).we()
    if role is not None and we is not None and not clause.passive:
        plain += [
            f"I am {role}. {_upper(we.yes_no(rng)).replace(' we ', ' I ', 1).replace('Are I', 'Am I')}",
            f"We are {role}. {_upper(we.yes_no(rng))}",
            f"As {role}, {we.yes_no(rng)}",
        ]
        if clause.modal == "must" and not clause.negated:
            plain += [
                f"Is {role} obliged to {ask.verb_phrase}",
                f"{ask.subject} {verbs.gerund(ask.verb_phrase)}: mandatory or optional",
            ]
    if clause.negated:
        plain += [f"Is it forbidden for {replace_negation(ask).subject} to {ask.verb_phrase}"]
    condition = next((c for a in clause.of_kind("condition") if (c := short_condition(a.text, 16))), None)
    if condition is not None and source.statement.text.startswith(clause.adjuncts[0].text[:10]):
        plain = [f"{p} {condition}" for p in plain if ". " not in p]
    terse_modal = {"must": "mandatory", "may": "allowed", "right": "right"}.get(clause.modal, "allowed")
    terse: tuple[str, ...] = (
        f"{replace_negation(ask).subject} {ask.verb_phrase} "
        f"{terse_modal if not clause.negated else 'allowed'}",
    )
    if clause.passive:
        terse = ()
    if (
        source.statement.lead
        and not re.match(rf"(?:\W|\w+ly )*(?:be )?{clause.verb}\b", source.statement.text)
        and clause.main not in source.statement.text
    ):
        return
    answer = _main_answer(source, clause)
    yield Draft(tuple(plain), answer, "full", source.statement.text, terse)


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _what_about(source: Source, ask: Ask, rng: random.Random) -> Iterator[Draft]:
    """`What must the provider do about ...`: the answer is the predicate."""
    clause = ask.clause
    answer = clean_answer(clause.predicate)
    topic = source.topic
    if (
        len(answer.split()) < 5
        or re.search(r"\b(?:referred to in paragraph|delegated acts? shall)\b", answer)
        or re.match(r"(?:the )?(?:delegated|implementing) acts\b", ask.subject)
        or re.match(r"(?:\w+ ){1,3}(?:those|such|these)\b", answer)
        or (clause.negated and clause.modal == "right")
        or clause.verb in ("be", "apply", "mean", "have", "comply")
        or source.statement.lead
    ):
        return
    anchors: list[str] = []
    aim = next((a for a in clause.of_kind("purpose")), None)
    if topic and _news(topic, ask.subject):
        anchors += [
            f"regarding {topic}",
            f"when it comes to {topic}",
            f"in connection with {topic}",
            f"as to {topic}",
        ]
    if aim is not None and aim.text not in answer:
        short_aim = brief(re.sub(r"^(?:in order to|so as to|with a view to)", "", aim.text).strip(), 12)
        anchors += [aim.text] if short_aim is None else [f"{aim.text.split()[0]} {short_aim}"][:0]
    if not anchors:
        return
    anchor = rng.choice(anchors)
    what = {"must": "What", "may": "What", "right": "What"}[clause.modal]
    questions = [f"{what} {ask.duty(rng)} do {anchor}", f"{what} {ask.duty(rng)} do {anchor}"]
    party = is_agent(clean_answer(clause.subject))
    if clause.modal == "must" and not clause.negated and party:
        questions += [
            f"What are the duties of {ask.subject} {anchor}",
            f"What is expected of {ask.subject} {anchor}",
            f"What does the law demand of {ask.subject} {anchor}",
            f"What obligation falls on {ask.subject} {anchor}",
        ]
    if clause.modal == "right" and party:
        questions = [
            f"What rights {'do' if ask.plural else 'does'} {ask.subject} have {anchor}",
            f"What can {ask.subject} claim {anchor}",
        ]
    if clause.modal == "may" and not clause.negated and party:
        questions += [
            f"What powers {'do' if ask.plural else 'does'} {ask.subject} have {anchor}",
            f"What options {'do' if ask.plural else 'does'} {ask.subject} have {anchor}",
        ]
    kind = {"must": "duties", "may": "powers", "right": "rights"}.get(clause.modal, "rules")
    overlap = set(content_words(topic)) & set(content_words(ask.subject))
    terse = (f"{kind} of {ask.subject}: {topic}",) if topic and not overlap else ()
    questions = [q.replace(" barred from do ", " barred from doing ") for q in questions]
    yield Draft(tuple(questions), answer, "full", source.statement.text, terse)


def _object(source: Source, ask: Ask, rng: random.Random) -> Iterator[Draft]:
    """`What must X submit to Y`: the answer is the direct object."""
    clause = ask.clause
    if clause.negated or clause.verb.split()[0] in _NO_OBJECT or clause.coordinated or source.statement.lead:
        return
    match = _SPLIT_OBJECT.search(clause.rest)
    tail, direct = "", clause.rest
    if match is not None:
        direct = clause.rest[: match.start()]
        tail = brief(clause.rest[match.start() :].strip(), 8) or ""
    answer = clean_answer(direct)
    if _INCOMPLETE.search(answer) or _poor_object(answer) or is_agent(answer) or len(answer.split()) > 40:
        return
    anchor = _anchor(source, ask, tail, rng)
    if anchor is None:
        return
    bare = replace(ask, verb_phrase=f"{clause.verb} {anchor}".strip())
    questions = [bare.ask("What", rng), bare.ask("What", rng), bare.ask("What exactly", rng)]
    if re.search(r"(?i)\b(?:information|documentation|records?|data|details|particulars)\b", answer):
        questions += (
            [bare.ask("Which information", rng)]
            if "information" in answer.lower()
            else [bare.ask("Which records", rng)]
        )
    if re.search(r"(?i)\bmeasures\b", answer):
        questions = [bare.ask("What kind of measures", rng), bare.ask("Which measures", rng)]
    role, we = singular_role(ask.subject), bare.we()
    if role is not None and we is not None:
        questions += [f"As {role}, {_low(we.ask('What', rng))}", f"We are {role}. {we.ask('What', rng)}"]
    style = "short" if len(answer.split()) <= 10 else "full"
    yield Draft(tuple(questions), answer, style, source.statement.text, ())  # type: ignore[arg-type]


def _anchor(source: Source, ask: Ask, tail: str, rng: random.Random) -> str | None:
    """What tells which case the question means, or None where nothing can."""
    told = ask.clause.of_kind("condition")
    conditions = [c for a in told if (c := short_condition(a.text, 16))]
    if told and not conditions:
        return None
    anchor = tail
    if conditions:
        anchor = f"{tail} {conditions[0]}".strip()
    elif not tail and _news(source.topic, ask.subject):
        anchor = rng.choice([f"as regards {source.topic}", f"in relation to {source.topic}"])
    return None if not content_words(anchor) and len(content_words(ask.subject)) < 3 else anchor


def _low(text: str) -> str:
    return text[0].lower() + text[1:]


def _poor_object(answer: str) -> bool:
    if len(answer.split()) < 2 or re.search(r"\b(?:these|those|such|received)\b", answer):
        return True
    return (
        re.match(
            r"(?i)(?:\w+ly|also|it|them|him|that|those|this|these|such|to|in|on|for|with|by|as|at|from|of|"
            r"out|up|into|whether|and|only|less|more)\b|.*\b(?:referred|[a-z]+ing|each other)$",
            answer,
        )
        is not None
    )


def _ensure(source: Source, ask: Ask, rng: random.Random) -> Iterator[Draft]:
    """`What must X ensure about Y`: the answer is what has to be the case."""
    clause = ask.clause
    match = re.match(r"(?:the )?that (.+)$", clause.rest)
    if clause.verb != "ensure" or match is None:
        return
    content = (
        clause.predicate[len("ensure that ") :]
        if clause.predicate.startswith("ensure that ")
        else match.group(1)
    )
    answer = clean_answer(content)
    inner = re.match(
        r"(?:the |their |its |any |all |each )?([^,]+?) (?:is|are|has|have|can|may|does|do|meets?|"
        r"complies|comply|includes?|provides?|bears?|remains?|fulfils?)\b",
        answer,
    )
    theme = brief(inner.group(1), 9) if inner else None
    if (
        theme is None
        or len(answer.split()) < 5
        or set(content_words(theme)) <= set(content_words(ask.subject))
    ):
        return
    questions = [
        f"What {ask.duty(rng)} ensure with regard to {theme}",
        f"What {ask.duty(rng)} make sure of concerning {theme}",
        f"What is required of {ask.subject} as regards {theme}",
        f"What {ask.duty(rng)} guarantee about {theme}",
        f"What does the law want {ask.subject} to ensure about {theme}",
    ]
    yield Draft(
        tuple(questions), answer, "full", source.statement.text, (f"{ask.subject} must ensure {theme}",)
    )
