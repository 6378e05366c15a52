"""Why: the aim that a clause names."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mark.data_prep import verbs
from mark.data_prep.rules.base import Draft, Source, clean_answer

# The aim is told by another provision.
_LEANS = re.compile(
    r"\b(?:[Pp]aragraphs?|sub-?paragraphs?|[Aa]rticles?|[Cc]lauses?|[Ss]ections?|points?|its duties under)\b"
)


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions about a purpose."""
    clause, ask = source.clause, source.ask()
    if clause is None or ask is None or clause.negated or clause.coordinated or clause.verb == "have":
        return
    for adjunct in clause.of_kind("purpose"):
        answer = clean_answer(adjunct.text)
        answer = re.sub(r"^(?:for the purposes? of) (?=\w+ing\b)", "", answer)
        if _LEANS.search(answer) or source.statement.lead:
            continue
        if len(answer.split()) < 4 or re.match(
            r"(?i)(?:for the purposes? of|to) (?:the|this|that|these|those|clauses?|articles?|points?|"
            r"paragraphs?|a)\b",
            answer,
        ):
            continue
        phrase = ask.verb_phrase
        if re.fullmatch(r"(?:adopt|amend) (?:delegated|implementing) acts", phrase):  # which ones?
            continue
        if len(phrase.split()) < 3 and not clause.passive:
            continue
        questions = [
            ask.ask("Why", rng),
            ask.ask("For what purpose", rng),
            ask.ask("To what end", rng),
            ask.ask("With what aim", rng),
        ]
        if clause.modal == "must" and not clause.passive:
            questions += [
                f"What is the purpose of {ask.subject} {verbs.gerund(phrase)}",
                f"What is the point of {verbs.gerund(phrase)}",
                f"What is the reason for {verbs.gerund(phrase)}",
            ]
        terse = (f"purpose of {verbs.gerund(phrase)}", f"why {phrase}") if not clause.passive else ()
        yield Draft(tuple(questions), answer, "full", source.statement.text, terse)
