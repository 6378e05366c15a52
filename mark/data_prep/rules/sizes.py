"""Ages, majorities, sums, percentages and counts: part of the family `amount`."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mark.data_prep import verbs
from mark.data_prep.phrases import brief, without_references
from mark.data_prep.rules.base import Draft, Source, clean_answer
from mark.data_prep.rules.numbers import N, bare_of, span
from mark.data_prep.wording import Ask

_AGE = re.compile(
    rf"(?:the age of )?(?:not less than |at least |below the age of |under the age of )?{N} years(?: "
    rf"old| of age)|(?:the )?age of {N}(?: years)?(?: to {N} years)?"
)
_AGE_TALK = re.compile(
    r"completed the age|attained the age|attains the age|minimum age|lower age|years? old|the age of "
    r"\w+ to|has not attained|until .{0,20}the age"
)
_MAJORITY = re.compile(
    r"(?:by )?(?:a |an )(?:simple |absolute |special |qualified |two-thirds )?majority of (?:not less "
    r"than |at least )?(?:two[- ]thirds|three[- ]fourths|the total|its|the|all)[^,;.]{0,90}?(?=[,;.]|"
    r"$| (?:unless|where|if|to|and|on|in a|has|is)\b)|"
    r"(?:not less than |at least )?(?:one[- ](?:third|half|fourth|tenth|sixth|twelfth)|two[- ]thirds|"
    r"three[- ]fourths|one-\w+) of the (?:total )?(?:number|members|membership)[^,;.]{0,60}?(?=[,;.]|"
    r"$| (?:unless|where|if|and|has|is)\b)"
)
_MONEY = re.compile(
    rf"(?:up to |not exceeding |not more than |at least |a maximum of (?:at least )?)?(?:(?:EUR|USD|"
    rf"GBP|€|\$|£|Rs\.?|rupees) ?\d[\d .,]*\d(?: (?:million|billion|lakh|crore))?|"
    rf"{N}(?: thousand| lakh| crore)?(?: and [a-z]+ hundred)? (?:rupees|euros?|dollars|pounds))(?: per \w+)?"
)
_PERCENT = re.compile(
    r"(?:up to |at least |not exceeding |more than |less than )?(?:\d[\d.,]* ?%|\w+ per cent\.?)(?: "
    r"of [^,;.]{3,80}?)?(?=[,;.]|$| (?:unless|where|if|and|or|whichever)\b)"
)
_COUNT = re.compile(
    rf"(?:not (?:more|less|fewer) than |at least |no more than |a minimum of |up to )?{N} (?:other |"
    rf"additional |elected |independent |nominated )?"
    r"(?:members|representatives|persons|experts|Judges|judges|seats|directors|copies|witnesses|Ministers|ministers|parties|officers|instalments|sessions)\b"
)


def size_drafts(source: Source, ask: Ask | None, rng: random.Random) -> Iterator[Draft]:
    """Questions about a size that is no span of time."""
    subject = source.subject(12)
    if source.clause is None or subject is None or subject.startswith("no "):
        return
    topic = source.topic or subject
    if ask is not None:
        yield from _majority(source, ask, topic, rng)
    yield from _age(source, topic)
    yield from _share(source, subject, topic)
    predicate = source.clause.predicate
    match = _COUNT.search(predicate)
    if match and not re.search(r"(?:and|hundred|\[)\s*$", predicate[: match.start()]):
        yield from _count(source, subject, match.group())


def _short(source: Source, questions: tuple[str, ...], answer: str, *terse: str) -> Draft:
    return Draft(questions, answer, "short", source.statement.text, terse)


def _majority(source: Source, ask: Ask, topic: str, rng: random.Random) -> Iterator[Draft]:
    match = _MAJORITY.search(source.statement.text)
    bare = bare_of(ask, span(match)) if match else None
    if match is None or bare is None or len(bare.verb_phrase.split()) < 2 or ask.clause.modal == "right":
        return
    questions = (bare.ask("By what majority", rng), bare.ask("With what majority", rng))
    yield _short(source, questions, span(match), f"majority needed {topic}")


def _age(source: Source, topic: str) -> Iterator[Draft]:
    text = source.statement.text
    match = _AGE.search(text)
    if match is None or not _AGE_TALK.search(text):
        return
    if leaving := re.search(rf"until .{{0,20}}(?:the )?age of {N}(?: years)?", text):
        yield from _leaving(
            source, clean_answer(re.sub(r"^until (?:he |she |they |it )?(?:attains? )?", "", leaving.group()))
        )
        return
    matter = re.sub(r"^(?:the )?(?:dis)?qualifications? (?:for|of) ", "", topic)
    questions: tuple[str, ...] = (
        f"What age limit applies to {matter}",
        f"What is the age requirement for {matter}",
        f"What age do the rules on {matter} set",
    )
    if " to " in span(match):
        questions = (f"Which ages are covered by the rules on {matter}", f"For which age does {matter} hold")
    yield _short(source, questions, span(match), f"age {matter}", f"{matter} age limit")


def _leaving(source: Source, answer: str) -> Iterator[Draft]:
    """An age that ends a right or an office."""
    holder = re.match(
        r"(?:Every|Each|An?|The) (?P<who>[A-Z]?[\w -]{3,50}?) (?:shall|may|must) ", source.statement.text
    )
    if holder is None or "hold office" not in source.statement.text:
        return
    who = holder.group("who")
    yield _short(
        source,
        (
            f"Until what age may a {who} hold office",
            f"At what age does a {who} have to leave office",
            f"What is the retirement age of a {who}",
        ),
        answer,
        f"retirement age {who}",
    )


def _share(source: Source, subject: str, topic: str) -> Iterator[Draft]:
    """Sums of money, and percentages where no sum stands."""
    text = source.statement.text
    money, percent = _MONEY.search(text), _PERCENT.search(text)
    if money is not None and re.search(r"\bfines?|penalt", text):
        aim = _infringement(text) or topic
        questions: tuple[str, ...] = (
            f"How high can the fine be for {aim}",
            f"What is the maximum fine for {aim}",
            f"What fine can be imposed for {aim}",
            f"How much can {aim} cost in fines",
        )
        yield _short(source, questions, span(money), f"maximum fine {aim}", f"fine for {aim}")
    elif money is not None:
        be = "are" if verbs.is_plural(subject) else "is"
        questions = (
            f"What sum is laid down for {topic}",
            f"How much money is at stake for {topic}",
            f"What amount applies to {topic}",
            f"How much {be} {subject}",
        )
        yield _short(source, questions, span(money), f"{topic} amount")
    elif percent is not None:
        questions = (
            f"What percentage applies to {topic}",
            f"Which percentage is fixed for {topic}",
            f"What share is laid down for {topic}",
        )
        yield _short(source, questions, span(percent), f"{topic} percentage")


def _count(source: Source, subject: str, answer: str) -> Iterator[Draft]:
    noun = answer.split()[-1]
    clause = source.clause
    assert clause is not None
    if (
        clause.verb == "consist"
        or (clause.verb == "composed" and clause.passive)
        or clause.verb == "comprise"
    ):
        questions = (
            f"How many {noun} does {subject} have",
            f"How many {noun} are there in {subject}",
            f"How many {noun} make up {subject}",
            f"What is the size of {subject} in {noun}",
        )
        yield Draft(
            questions, clean_answer(answer), "short", source.statement.text, (f"number of {noun} {subject}",)
        )


def _infringement(text: str) -> str | None:
    match = re.search(
        r"(?:[Nn]on-compliance with|[Ii]nfringements? of|supply of|[Ff]ailure to)[^,;:]{5,90}", text
    )
    if match is None:
        return None
    short = brief(without_references(match.group()), 12)
    return None if short is None or len(short.split()) < 4 else short[0].lower() + short[1:]
