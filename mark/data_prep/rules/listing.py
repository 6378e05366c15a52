"""Lists: which elements a rule names, all of them or those of one kind."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mark.data_prep import verbs
from mark.data_prep.clauses import Clause, parse
from mark.data_prep.phrases import brief, content_words, without_references
from mark.data_prep.rules.base import Draft, Source
from mark.data_prep.sentences import ListBlock


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions answered by a whole list."""
    for block in source.blocks:
        if not block.complete or len(block.items) > 8:
            continue
        yield from _whole(source, block, rng)


def _whole(source: Source, block: ListBlock, rng: random.Random) -> Iterator[Draft]:
    answer = block.text.rstrip(" ;,.")
    lead = re.sub(r"^(?:\d+\.|\(\w+\))\s+", "", block.lead).rstrip(" :—–-,")
    questions = _questions(source, lead, rng)
    if questions:
        yield Draft(tuple(questions), answer, "full", f"{block.lead} {block.text}", ())


def _questions(source: Source, lead: str, rng: random.Random) -> list[str]:
    clause = parse(f"{lead} thing")
    if clause is None or clause.subject.lower() in ("it", "they", "he"):
        return _tasks(source, lead)
    subject = brief(clause.subject, 9)
    if subject is None:
        return []
    subject = source.casing.lower_first(subject)
    plural = verbs.is_plural(subject)
    modal = {"must": "must", "may": "may", "right": "can", "fact": "are" if plural else "is"}[clause.modal]
    if clause.negated:
        return _only_if(source, subject, clause, lead)
    words = without_references(lead).split()
    tail = words[-1] if words else ""
    verb = clause.verb
    if verb in ("include", "contain", "comprise", "cover", "specify", "state", "indicate"):
        return [f"What {modal} {subject} {verb}", f"What belongs in {subject}", f"Which elements {modal} {subject} {verb}",
                f"What are the required contents of {subject}", f"List what {subject} {modal} {verb}"]  # fmt: skip
    if verb == "consist" and re.search(r"consist of(?: the following.*)?$", lead):
        return [f"What does {subject} consist of", f"Who makes up {subject}", f"Which parts form {subject}"]
    if verb == "have" and re.search(r"(?:tasks|powers|functions|rights)", lead):
        kind = re.findall(r"(?:tasks|powers|functions|rights)", lead)[-1]
        return [f"What {kind} {'do' if plural else 'does'} {subject} have", f"What are the {kind} of {subject}", f"Which {kind} are given to {subject}"]
    if tail in ("shall", "must", "may") or verb == "thing":
        aim = f" regarding {source.topic}" if source.topic else ""
        if not aim:
            return []
        return [f"What {modal} {subject} do{aim}", f"Which {'duties' if modal == 'must' else 'powers'} {'do' if plural else 'does'} {subject} have{aim}"]
    if re.search(r"\b(?:if|where|when)$", lead) or re.search(r"(?:if|where|provided that|on|in|one of|when|any of) (?:any of |one of |at least one of |all |all of )?the following (?:conditions|grounds|cases|circumstances|situations)", lead):
        phrase = brief(clause.rest, 9) if clause.rest else ""
        be = "be " if clause.passive and clause.modal != "fact" else ""
        if phrase is None or not content_words(f"{verb} {phrase}"):
            return []
        return [f"When {modal} {subject} {be}{verb} {phrase}", f"Under which conditions {modal} {subject} {be}{verb} {phrase}", f"In which cases {modal} {subject} {be}{verb} {phrase}"]
    if "the following" in lead and clause.rest and verb not in ("demonstrate", "meet", "satisfy", "report"):
        thing = brief(re.sub(r"^at least |^the following ?|,? ?(?:at least )?the following.*$", "", clause.rest), 8)
        noun = re.search(r"the following ([a-z ]{4,40})$", lead)
        if noun:
            return [f"Which {noun.group(1)} {modal} {subject} {'be ' if clause.passive else ''}{verb}", f"What {noun.group(1)} {modal} {subject} {'be ' if clause.passive else ''}{verb}"]
        if thing and not clause.passive:
            return [f"What {modal} {subject} {verb} {thing}"]
    return []


def _only_if(source: Source, subject: str, clause: Clause, lead: str) -> list[str]:
    """`No person shall be eligible unless he (a) ...`: the list names the conditions."""
    phrase = brief(clause.rest, 10) if clause.rest else ""
    if "unless" not in lead or not subject.startswith("no ") or not phrase or not clause.verb:
        return []
    who = f"a {subject.removeprefix('no ')}"
    verb = f"be {clause.verb}" if clause.passive else clause.verb
    return [f"When can {who} {verb} {phrase}", f"Under which conditions can {who} {verb} {phrase}",
            f"What conditions must {who} meet to {verb} {phrase}", f"Which requirements apply for {who} to {verb} {phrase}"]  # fmt: skip


def _tasks(source: Source, lead: str) -> list[str]:
    match = re.match(r"^This (?:Regulation|Directive|Act|Constitution) (lays down|establishes|does not apply to|applies to|covers)$", lead)
    if match is None:
        return []
    name = rng_free_name(source)
    verb = match.group(1)
    if verb == "lays down" or verb == "establishes":
        return [f"What does {name} lay down", f"What is regulated by {name}", f"What is the subject matter of {name}"]
    if verb == "does not apply to":
        return [f"What falls outside the scope of {name}", f"To what does {name} not apply", f"What is excluded from {name}"]
    return [f"To what does {name} apply", f"What is covered by {name}", f"Who falls under {name}"]


def rng_free_name(source: Source) -> str:
    """The document's first name: already in the question, so none is added."""
    return source.names.names[0]
