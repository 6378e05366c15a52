"""Deadlines, periods, intervals, ages, majorities, sums and counts."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace

from mark.data_prep import verbs
from mark.data_prep.phrases import brief, content_words, without_references
from mark.data_prep.rules.base import Draft, Source, clean_answer
from mark.data_prep.wording import Ask, short_condition

_N = (
    r"(?:\d[\d.,]*(?: ?%)?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|"
    r"fourteen|fifteen|"
    r"twenty(?:[- ]\w+)?|thirty(?:[- ]\w+)?|forty|fifty|sixty(?:[- ]\w+)?|seventy|eighty|ninety|one hundred)"
)
_UNIT = r"(?:calendar |working |business |clear )?(?:hours?|days?|weeks?|months?|years?)"
_TIME = rf"{_N}(?:[- ]{_UNIT})"
_DATE = (
    r"\d{1,2} (?:January|February|March|April|May|June|July|August|September|October|November|December) \d{4}"
)

_DEADLINE = re.compile(
    rf"(?:without undue delay(?:,)? and,? (?:in any event,? |where feasible,? )?)?"
    rf"(?:within (?:a (?:maximum )?period of |a maximum of |the period of |the )?{_TIME}(?: period)?|"
    rf"(?:no|not) later than (?:{_TIME}|{_DATE})|at the latest (?:within )?{_TIME}|by {_DATE}|before {_DATE}|"
    rf"until {_DATE}|as from {_DATE}|from {_DATE}|before the expiration of {_TIME}|{_TIME} before)"
    r"(?: (?:of|after|from|before|prior to|following|thereafter)(?: [^,;.]{3,90}?)?)?(?=[,;.]|$| "
    r"(?:unless|where|if|and|or|but|to the|which|shall|notify|inform|submit|except|whether)\b)",
    re.I,
)
_PERIOD = re.compile(
    rf"(?:for (?:a|an|the|a further|a maximum|a minimum|an initial) (?:\w+ )?(?:period|term|duration) "
    rf"of (?:at least |not less than |not more than |up to |not exceeding )?{_TIME}|"
    rf"for (?:at least |up to |not more than |no longer than |a maximum of )?{_TIME}|for {_TIME}|"
    rf"(?:a|the) (?:maximum )?(?:period|term) (?:of |not exceeding )(?:at least |not more than "
    rf")?{_TIME}|for a period not exceeding {_TIME}|(?<=hold office )for a term of {_TIME})"
    r"(?: (?:from|after) (?:the date|its|the day|the placing)[^,;.]{0,80}?)?(?=[,;.]|$| (?:unless|"
    r"where|if|and|or|but|from|which|after|shall|may|at)\b)",
    re.I,
)
_EVERY = re.compile(
    rf"(?:at least )?(?:once )?every (?:{_TIME}|{_N} {_UNIT}|year|month|six months)|at least (?:once|"
    rf"twice) (?:a|per|every) (?:year|month|{_TIME})|"
    rf"at least (?:annually|yearly)|(?:once|twice) a year|on an annual basis|annually",
    re.I,
)
_AGE = re.compile(
    rf"(?:the age of )?(?:not less than |at least |below the age of |under the age of )?{_N} years(?: "
    rf"old| of age)|(?:the )?age of {_N}(?: years)?(?: to {_N} years)?"
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
    rf"{_N}(?: thousand| lakh| crore)?(?: and [a-z]+ hundred)? (?:rupees|euros?|dollars|pounds))(?: per \w+)?"
)
_PERCENT = re.compile(
    r"(?:up to |at least |not exceeding |more than |less than )?(?:\d[\d.,]* ?%|\w+ per cent\.?)(?: "
    r"of [^,;.]{3,80}?)?(?=[,;.]|$| (?:unless|where|if|and|or|whichever)\b)"
)
_COUNT = re.compile(
    rf"(?:not (?:more|less|fewer) than |at least |no more than |a minimum of |up to )?{_N} (?:other |"
    rf"additional |elected |independent |nominated )?"
    r"(?:members|representatives|persons|experts|Judges|judges|seats|directors|copies|witnesses|Ministers|ministers|parties|officers|instalments|sessions)\b"
)


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions whose answer is a number, a date, or a span of time."""
    clause, ask = source.clause, source.ask()
    text = source.statement.text
    timed = list(_is_term(source))
    if clause is not None and ask is not None:
        timed += _time(source, ask, text, rng)
    yield from timed or _by_topic(source)
    if clause is None:
        return
    yield from _size(source, ask, text, rng)


def _span(match: re.Match[str]) -> str:
    """The found span, without a date that its relative clause would have told."""
    text = re.sub(
        r",? (?:from|of|after|following) the (?:date|day|end|application|date of)$",
        "",
        clean_answer(match.group()),
    )
    return clean_answer(text)


def _bare(ask: Ask, answer: str) -> Ask | None:
    """The question's predicate without the answer in it."""
    phrase = ask.verb_phrase
    at = phrase.find(answer[:10])
    if at >= 0:
        phrase = phrase[:at].strip(" ,")
    phrase = re.sub(r" (?:for|within|by|of|at|before|until|from|after|not|at least|and)$", "", phrase)
    return replace(ask, verb_phrase=phrase) if len(phrase.split()) >= 1 else None


def _tail(source: Source, rng: random.Random) -> str:
    """The clause's condition, so that the question says which case it means."""
    assert source.clause is not None
    for adjunct in source.clause.of_kind("condition"):
        condition = short_condition(adjunct.text, 14)
        if condition is not None and not re.search(rf"{_TIME}|{_DATE}", condition):
            return f" {condition}"
    return ""


def _time(source: Source, ask: Ask, text: str, rng: random.Random) -> Iterator[Draft]:
    for pattern, family in ((_DEADLINE, "deadline"), (_EVERY, "every"), (_PERIOD, "period")):
        match = pattern.search(text)
        if match is None or _elsewhere(ask, match.group()):
            continue
        answer = _span(match)
        bare = _bare(ask, answer)
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
    dated = re.search(_DATE, answer) is not None
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
    match = re.match(rf"(?:(?:a period of|at least|not less than|not more than) )?{_TIME}", clause.rest)
    if match is None:
        return
    be = "are" if verbs.is_plural(subject) else "is"
    questions = (f"How long {be} {subject}", f"What {be} {subject}", f"How long may {subject} last")
    yield Draft(questions, _span(match), "short", source.statement.text, (f"{subject} length",))


def _by_topic(source: Source) -> Iterator[Draft]:
    """Where the clause cannot be read: the only time span under a heading."""
    text = source.statement.text
    found = [(p, m) for p in (_DEADLINE, _EVERY, _PERIOD) if (m := p.search(text))]
    spans = re.findall(f"{_TIME}|{_DATE}", source.chunk.text)
    if not source.topic or len(found) != 1 or len(spans) != 1 or source.statement.cut:
        return
    topic = source.topic
    pattern, match = found[0]
    if pattern is _EVERY:
        questions: tuple[str, ...] = (
            f"What interval is laid down for {topic}",
            f"How often is something due under the rules on {topic}",
        )
    elif pattern is _PERIOD:
        questions = (
            f"What period is laid down for {topic}",
            f"Which period applies to {topic}",
            f"What duration do the rules on {topic} set",
        )
    elif re.search(_DATE, match.group()):
        questions = (f"Which date matters for {topic}", f"What date do the rules on {topic} set")
    else:
        questions = (
            f"What time limit applies to {topic}",
            f"What deadline do the rules on {topic} set",
            f"Which deadline is laid down for {topic}",
            f"How much time do the rules on {topic} allow",
        )
    yield Draft(
        questions,
        _span(match),
        "short",
        text,
        (f"{topic} deadline",) if pattern is _DEADLINE else (f"{topic} period",),
    )


def _size(source: Source, ask: Ask | None, text: str, rng: random.Random) -> Iterator[Draft]:
    clause = source.clause
    assert clause is not None
    subject = source.subject(12)
    if subject is None or subject.startswith("no "):
        return
    be = "are" if verbs.is_plural(subject) else "is"
    topic = source.topic or subject
    if match := _MAJORITY.search(text):
        answer = _span(match)
        bare = _bare(ask, answer) if ask else None
        if bare is not None and len(bare.verb_phrase.split()) >= 2 and clause.modal != "right":
            questions = [
                bare.ask("By what majority", rng),
                bare.ask("What majority", rng).replace("What majority", "With what majority"),
                bare.ask("How many votes are needed before", rng).replace(
                    "needed before must", "needed before"
                ),
            ]
            yield Draft(
                (questions[0], questions[1]),
                answer,
                "short",
                source.statement.text,
                (f"majority needed {topic}",),
            )
    if (match := _AGE.search(text)) and _AGE_TALK.search(text):
        answer = _span(match)
        matter = re.sub(r"^(?:the )?(?:dis)?qualifications? (?:for|of) ", "", topic)
        yield Draft(
            (
                f"What age limit applies to {matter}",
                f"What is the age requirement for {matter}",
                f"Which age matters for {matter}",
                f"At what age does the rule on {matter} apply",
            ),
            answer,
            "short",
            source.statement.text,
            (f"age {matter}", f"{matter} age limit"),
        )
    if match := _MONEY.search(text):
        answer = _span(match)
        fine = re.search(r"\bfines?|penalt", text) is not None
        aim = _infringement(text)
        if fine:
            questions = [
                f"How high can the fine be for {aim or topic}",
                f"What is the maximum fine for {aim or topic}",
                f"What fine threatens for {aim or topic}",
                f"How much can {aim or topic} cost in fines",
            ]
            yield Draft(
                tuple(questions),
                answer,
                "short",
                source.statement.text,
                (f"maximum fine {aim or topic}", f"fine for {aim or topic}"),
            )
        else:
            yield Draft(
                (
                    f"What sum is laid down for {topic}",
                    f"How much money is at stake for {topic}",
                    f"What amount applies to {topic}",
                    f"How much {be} {subject}",
                ),
                answer,
                "short",
                source.statement.text,
                (f"{topic} amount",),
            )
    elif match := _PERCENT.search(text):
        answer = _span(match)
        yield Draft(
            (
                f"What percentage applies to {topic}",
                f"Which percentage is fixed for {topic}",
                f"What share is laid down for {topic}",
            ),
            answer,
            "short",
            source.statement.text,
            (f"{topic} percentage",),
        )
    match = _COUNT.search(clause.predicate)
    if match and not re.search(r"(?:and|hundred|\[)\s*$", clause.predicate[: match.start()]):
        yield from _count(source, subject, match.group(), rng)


def _count(source: Source, subject: str, answer: str, rng: random.Random) -> Iterator[Draft]:
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
