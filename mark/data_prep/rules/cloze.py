"""Who, what, when, where, how many: one fact of a plain sentence is blanked out and asked for.

It reads sentences of reports, recitals and contracts in the past or present, which the legal rules
(`shall`, `must`, `may`) do not ask about.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mark.data_prep import verbs
from mark.data_prep.parties import is_agent
from mark.data_prep.phrases import brief, content_words, dangles
from mark.data_prep.rules.base import Draft, Source, clean_answer
from mark.data_prep.rules.numbers import N

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December|"
    r"Jan\.|Feb\.|Mar\.|Apr\.|Aug\.|Sept?\.|Oct\.|Nov\.|Dec\.)"
)
_DAY = (
    rf"(?:(?:the )?\d{{1,2}}(?:st|nd|rd|th)?(?: day)?(?: of)? {_MONTH},? \d{{4}}|{_MONTH} \d{{1,2}}, \d{{4}}|"
    rf"{_MONTH} \d{{4}}|(?:1[5-9]|20)\d{{2}})"
)
_SUBJECT = r"(?P<subject>(?:The |A |An |Each |All |This [A-Z]\w+|[A-Z])[^,;:()]{1,90}?)"
_BE = re.compile(
    rf"^{_SUBJECT} (?P<aux>was|were|is|are|will be|has been|have been|had been) (?P<rest>[a-z0-9].+)$"
)
_PAST = re.compile(rf"^{_SUBJECT} (?P<verb>[a-z]+ed) (?P<rest>.+)$")
_HAVE = re.compile(
    rf"^{_SUBJECT} (?P<verb>has|have|had|employs?|comprises?|contains?|owns?|operates?) "
    rf"(?P<answer>(?:more than |at least |"
    rf"about |some )?{N}) (?P<noun>(?:[a-z-]+ ){{0,2}}[a-z-]+s)\b(?P<rest>.*)$"
)
_WHEN = re.compile(
    rf"(?:^| )(?P<answer>(?:on|in|since|from|until|by|before|as of|with effect from) {_DAY})(?=[,;. ]|$)"
)
_BY = re.compile(
    r" by (?P<answer>(?:the |an? )?[A-Z][^,;:()]*?)(?= (?:and (?:shall|such|is|are|was|[a-z]+ed)|in|"
    r"on|at|for|to|under|from|with|as|within|pursuant|who|which|by)\b|$)"
)
_WHERE = re.compile(
    r" (?P<answer>(?:in|at) [A-Z][\w’'-]+(?: (?:(?:of|the|de|and) )*[A-Z][\w’'-]+)*)(?=[,;.]| [a-z]|$)"
)
_NO_PLACE = re.compile(
    r"(?:in|at) (?:Part|Articles?|Sections?|Annex|Schedule|Chapters?|Title|Union|Member|Directives?|"
    r"Regulations?|Table|"
    r"Form|Act|Council|Parliament|Rule|Appendix|English|French|Hindi|Clause|[A-Z]+\b)"
)
_LEANS = re.compile(
    r"(?i)^(?:the (?:following|said|same|former|latter|above|first|second)|no|nothing|such|there|it|"
    r"he|she|they|if|"
    r"when|where|whenever|after|before|until|unless|on|at|in|for|by|with|to|from|as|subject|provided|notwithstanding|"
    r"further|references?|the references?|any reference|nothing|what|that|this|these|those)\b"
)
_THERE = re.compile(
    r"^There (?:shall be|is|must be|will be) (?P<answer>(?:an?|the) (?:[\w-]+ "
    r"){1,8}?)(?P<rest>(?:for|in|at) (?:each|every|the|all) .+)$"
)


@dataclass(frozen=True)
class _Fact:
    """A sentence with `be`, taken apart."""

    subject: str  # in small letters where it is common
    be: str  # first auxiliary
    more: str  # `been`, `be` or ""
    rest: str

    def asked(self, wh: str, rest: str) -> str:
        """`When` -> `When was the company founded`."""
        return " ".join(f"{wh} {self.be} {self.subject} {self.more} {rest}".split())


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions whose answer is one fact of a short sentence."""
    statement = source.statement
    text = re.sub(r"^(?:\d+\.|\(\w+\))\s+", "", statement.text).rstrip(" .;")
    if statement.cut or statement.lead or not 5 <= len(text.split()) <= 34 or re.search(r"[“”‘:\[\]*]", text):
        return
    fact = _be_fact(source, text)
    if fact is not None:
        yield from _of_fact(source, fact)
    yield from _of_past(source, text)
    yield from _of_complement(source)
    yield from _of_there(source, text)
    yield from _of_number(source, text)


def _subject(source: Source, text: str) -> str | None:
    subject = brief(text, 10)
    if subject is None or subject != text or _LEANS.match(subject) or dangles(subject):
        return None
    if re.search(r"\b(?:shall|may|must|which|who|that|is|are|was|were|has|have|if|when|where)\b", subject):
        return None
    return source.casing.lower_first(subject)


def _be_fact(source: Source, text: str) -> _Fact | None:
    match = _BE.match(text)
    subject = _subject(source, match.group("subject")) if match else None
    if match is None or subject is None or re.match(r"(?:not|no|that|what|it)\b", match.group("rest")):
        return None
    be, _, more = match.group("aux").partition(" ")
    return _Fact(subject, be, more, match.group("rest"))


def _of_fact(source: Source, fact: _Fact) -> Iterator[Draft]:
    for wh, pattern in (("When", _WHEN), ("By whom", _BY), ("Where", _WHERE)):
        match = pattern.search(f" {fact.rest}")
        if match is None or (wh == "Where" and _NO_PLACE.match(match.group("answer"))):
            continue
        answer = clean_answer(match.group("answer"))
        before = f" {fact.rest}"[: match.start()].strip(" ,")
        if not before or len(before.split()) > 14 or re.search(r"\b(?:and|or|which|who|that|if)\b|,", before):
            continue
        if len(content_words(f"{fact.subject} {before}")) < 2 or not _participle_first(before):
            continue
        opener = _when_word(answer) if wh == "When" else wh
        yield _draft(source, (fact.asked(opener, before), *_more_words(wh, answer, fact, before)), answer)


def _participle_first(before: str) -> bool:
    return verbs.is_participle(before.split()[0])


def _more_words(wh: str, answer: str, fact: _Fact, before: str) -> tuple[str, ...]:
    if wh == "When" and answer.split()[0] in ("on", "in"):
        opener = (
            "In which year"
            if re.fullmatch(r"in \d{4}", answer)
            else "On what date"
            if answer.startswith("on")
            else "When"
        )
        return (fact.asked(opener, before),)
    if wh == "Where":
        return (fact.asked("In which place", before),)
    return ()


def _when_word(answer: str) -> str:
    first = answer.split()[0]
    return {
        "since": "Since when",
        "from": "From when",
        "until": "Until when",
        "by": "By when",
        "as": "As of when",
    }.get(first, "When")


def _of_past(source: Source, text: str) -> Iterator[Draft]:
    """`Acme acquired Beta in 2019`: when did Acme acquire Beta?"""
    match = _PAST.match(text)
    subject = _subject(source, match.group("subject")) if match else None
    base = verbs.base_of_participle(match.group("verb")) if match else None
    if match is None or subject is None or base is None:
        return
    when = _WHEN.search(f" {match.group('rest')}")
    if when is None:
        return
    before = f" {match.group('rest')}"[: when.start()].strip(" ,")
    if (
        re.search(r"\b(?:and|or|which|who|that|if)\b|,|^(?:in|by|to|with)\b", before)
        or len(before.split()) > 14
    ):
        return
    answer = clean_answer(when.group("answer"))
    questions = (f"{_when_word(answer)} did {subject} {base} {before}".strip(),)
    if len(content_words(questions[0])) >= 3:
        yield _draft(source, questions, answer)


def _of_number(source: Source, text: str) -> Iterator[Draft]:
    """`The fund holds 120 properties`: how many properties?"""
    match = _HAVE.match(text)
    subject = _subject(source, match.group("subject")) if match else None
    if (
        match is None
        or subject is None
        or match.group("noun").split()[-1] in ("rights", "years", "days", "months", "hours")
    ):
        return
    verb = match.group("verb")
    do = "did" if verb == "had" else "do" if verbs.is_plural(subject) else "does"
    base = {"has": "have", "had": "have"}.get(verb, re.sub(r"s$", "", verb))
    rest = brief(match.group("rest").strip(), 8) or ""
    question = f"How many {match.group('noun')} {do} {subject} {base} {rest}".strip()
    yield _draft(
        source,
        (question, f"What number of {match.group('noun')} {do} {subject} {base} {rest}".strip()),
        match.group("answer"),
    )


def _of_complement(source: Source) -> Iterator[Draft]:
    """`The President shall be chair of the council`: who is chair of the council?"""
    clause = source.clause
    if clause is None or clause.verb != "be" or clause.passive or clause.negated or clause.coordinated:
        return
    subject = _subject(source, clause.subject)
    rest = brief(clause.rest, 12)
    if (
        subject is None
        or not rest
        or dangles(rest)
        or re.match(r"(?:that|to|in|of|for|as|on|at|by|not|such)\b", rest)
    ):
        return
    if re.search(r"\d|\b(?:effective|proportionate|considered|void)\b", rest) or len(content_words(rest)) < 2:
        return
    be = {"must": "must be", "may": "may be", "right": "may be"}.get(clause.modal, "is")
    if is_agent(clause.subject) and len(clause.subject.split()) <= 10:
        questions = (
            (f"Who {be} {rest}", f"Who is {rest}") if clause.modal == "must" else (f"Who {be} {rest}",)
        )
        yield _draft(source, questions, clean_answer(clause.subject))
        return
    if (
        rest != clause.rest
        or len(content_words(subject)) < 2
        or clause.modal != "must"
        or not re.match(r"[A-Z]|(?:the|an?) ", rest)
    ):
        return
    plural = "are" if verbs.is_plural(subject) else "is"
    yield _draft(source, (f"What {plural} {subject}", f"What must {subject} be"), clean_answer(rest))


def _of_there(source: Source, text: str) -> Iterator[Draft]:
    """`There shall be a High Court for each State`: what must there be for each State?"""
    match = _THERE.match(text)
    rest = brief(re.split(r" and | which ", match.group("rest"))[0], 10) if match else None
    if match is None or not rest or dangles(rest):
        return
    yield _draft(
        source,
        (f"What must there be {rest}", f"Which institution must there be {rest}"),
        clean_answer(match.group("answer")),
    )


def _draft(source: Source, questions: tuple[str, ...], answer: str) -> Draft:
    return Draft(tuple(dict.fromkeys(questions)), answer, "short", source.statement.text, ())
