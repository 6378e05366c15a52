"""Lists: which elements a rule names, all of them or those of one kind."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mark.data_prep import verbs
from mark.data_prep.clauses import Clause, parse
from mark.data_prep.parties import says_little
from mark.data_prep.phrases import brief, content_words
from mark.data_prep.rules.base import Draft, Source
from mark.data_prep.sentences import ListBlock


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions answered by a whole list."""
    for block in source.blocks:
        if not block.complete or len(block.items) > 8:
            continue
        yield from _whole(source, block)


def _whole(source: Source, block: ListBlock) -> Iterator[Draft]:
    answer = block.text.rstrip(" ;,.")
    questions = _questions(source, re.sub(r"^(?:\d+\.|\(\w+\))\s+", "", block.lead).rstrip(" :—–-,"))
    if questions and not _FOOTNOTE.search(answer):
        yield Draft(tuple(questions), answer, "full", f"{block.lead} {block.text}", ())


_FOOTNOTE = re.compile(r"\d ?\[|\*")  # marks of the source inside the list


@dataclass(frozen=True)
class _Lead:
    """The clause that leads into a list."""

    text: str
    clause: Clause
    subject: str
    modal: str
    do: str  # "do" or "does"


def _questions(source: Source, text: str) -> list[str]:
    open_end = re.search(r" (?:shall|must|may)$", text) is not None
    clause = parse(f"{text} do things" if open_end else f"{text} things")
    subject = None if clause is None else brief(clause.subject, 9)
    if clause is None or subject is None or clause.subject.lower() in ("it", "they", "he"):
        return _scope(source, text)
    subject = source.casing.lower_first(subject)
    if clause.negated:
        return _only_if(subject, clause, text)
    plural = verbs.is_plural(subject)
    modal = {"must": "must", "may": "may", "right": "can", "fact": "are" if plural else "is"}[clause.modal]
    lead = _Lead(text, clause, subject, modal, "do" if plural else "does")
    if open_end:
        return _duties(lead, source.topic)
    return _contents(lead) or _conditions(lead) or _following(lead)


def _duties(lead: _Lead, topic: str) -> list[str]:
    if not topic:
        return []
    kind = "duties" if lead.modal == "must" else "powers"
    return [
        f"What {lead.modal} {lead.subject} do regarding {topic}",
        f"Which {kind} {lead.do} {lead.subject} have regarding {topic}",
        f"List the {kind} of {lead.subject} regarding {topic}",
    ]


_WRITTEN = re.compile(
    r"(?:reports?|documentation|plans?|polic(?:y|ies)|agreements?|contracts?|notifications?|notices?|applications?|"
    r"records?|declarations?|requests?|certificates?|statements?|invoices?|programmes?|strateg(?:y|ies)|files?)\b"
)


def _contents(lead: _Lead) -> list[str]:
    subject, modal, verb = lead.subject, lead.modal, lead.clause.verb
    if verb in ("include", "contain", "comprise", "cover", "specify", "state", "indicate"):
        if not _WRITTEN.search(subject):
            return [f"What {lead.do} {subject} {verb}"] * (
                verb in ("include", "comprise", "cover", "contain")
            )
        return [
            f"What {modal} {subject} {verb}",
            f"What belongs in {subject}",
            f"Which elements {modal} {subject} {verb}",
            f"What are the required contents of {subject}",
            f"List what {subject} {modal} {verb}",
        ]
    if verb == "consist" and re.search(r"consist of(?: the following.*)?$", lead.text):
        return [f"What does {subject} consist of", f"Who makes up {subject}", f"Which parts form {subject}"]
    kinds = re.findall(r"(?:tasks|powers|functions|rights)", lead.text)
    if verb == "have" and kinds:
        return [
            f"What {kinds[-1]} {lead.do} {subject} have",
            f"What are the {kinds[-1]} of {subject}",
            f"Which {kinds[-1]} are given to {subject}",
        ]
    return []


def _conditions(lead: _Lead) -> list[str]:
    if _IF.search(lead.text) is None:
        return []
    clause = lead.clause
    phrase = brief(clause.rest, 9) if clause.rest else ""
    be = "be " if clause.passive and clause.modal != "fact" else ""
    if phrase is None or len(content_words(f"{lead.subject} {clause.verb} {phrase}")) < 3:
        return []
    if says_little(f"{clause.verb} {phrase}") or says_little(lead.subject):
        return []
    tail = f"{lead.modal} {lead.subject} {be}{clause.verb} {phrase}"
    return [f"When {tail}", f"Under which conditions {tail}", f"In which cases {tail}"]


def _following(lead: _Lead) -> list[str]:
    clause = lead.clause
    if "the following" not in lead.text or clause.verb in ("demonstrate", "meet", "satisfy", "report"):
        return []
    if re.search(rf"\b{clause.verb},? (?:at least,? |all )?(?:of )?the following", lead.text) is None:
        return []
    noun = re.search(r"the following ([a-z]+(?: [a-z]+)?)$", lead.text)
    if noun:
        tail = f"{noun.group(1)} {lead.modal} {lead.subject} {'be ' if clause.passive else ''}{clause.verb}"
        return [f"Which {tail}", f"What {tail}"]
    thing = brief(re.sub(r"^at least |,? ?(?:at least )?the following.*$", "", clause.rest), 8)
    if thing and not clause.passive:
        return [f"What {lead.modal} {lead.subject} {clause.verb} {thing}"]
    return []


_IF = re.compile(
    r"\b(?:if|where|when)$|(?:if|where|provided that|on|in|one of|when|any of) "
    r"(?:any of |one of |at least one of |all |all of |both of )?the following "
    r"(?:conditions|grounds|cases|circumstances|situations)"
)


def _only_if(subject: str, clause: Clause, lead: str) -> list[str]:
    """`No person shall be eligible unless he (a) ...`: the list names the conditions."""
    phrase = brief(clause.rest, 10) if clause.rest else ""
    if "unless" not in lead or not subject.startswith("no ") or not phrase or not clause.verb:
        return []
    who = f"a {subject.removeprefix('no ')}"
    verb = f"be {clause.verb}" if clause.passive else clause.verb
    return [
        f"When can {who} {verb} {phrase}",
        f"Under which conditions can {who} {verb} {phrase}",
        f"What conditions must {who} meet to {verb} {phrase}",
        f"Which requirements apply for {who} to {verb} {phrase}",
    ]


def _scope(source: Source, text: str) -> list[str]:
    match = re.match(
        r"^This (?:Regulation|Directive|Act|Constitution|Agreement|Law) "
        r"(lays down|establishes|does not apply to|applies to|covers)$",
        text,
    )
    if match is None:
        return []
    name, verb = source.names.names[0], match.group(1)
    if verb in ("lays down", "establishes"):
        return [
            f"What does {name} lay down",
            f"What is regulated by {name}",
            f"What is the subject matter of {name}",
        ]
    if verb == "does not apply to":
        return [
            f"What falls outside the scope of {name}",
            f"To what does {name} not apply",
            f"What is excluded from {name}",
        ]
    return [f"To what does {name} apply", f"What is covered by {name}", f"Who falls under {name}"]
