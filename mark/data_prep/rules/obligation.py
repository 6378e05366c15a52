"""Duties, powers, rights and bans: what must, may or must not be done."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace

from mark.data_prep.clauses import Clause
from mark.data_prep.parties import acts, is_agent, lost_pointer, narrowed, pointed_end, says_little
from mark.data_prep.phrases import brief, content_words, singular_role
from mark.data_prep.rules.base import Draft, Source, clean_answer
from mark.data_prep.topics import spoken_topic
from mark.data_prep.verbs import PRONOUNS
from mark.data_prep.wording import Ask, replace_negation, short_condition, starting_low
from mark.data_prep.words import word_set

_CONTENTS = word_set(
    "include contain comprise cover specify state indicate constitute form become remain consist represent"
)
# Verbs whose object does not say by itself what is done.
_NO_OBJECT = word_set(
    "be have ensure apply consist act comply give pay refer take make put bring come remain become "
    "constitute form mean do lay set comprise hold endeavour cause consult decide inform notify enter strive"
)
# The preposition that a verb calls for; any other belongs to the object: `a complaint against the seller`.
_CALLS_FOR = {
    "to": word_set(
        "submit send provide communicate transmit report assign grant deliver allocate entrust present "
        "forward disclose deny offer propose supply issue"
    ),
    "with": word_set("provide share exchange replace furnish supply"),
    "from": word_set("obtain request receive remove exclude recover seek collect demand require"),
    "on": word_set("impose confer publish place affix"),
    "for": word_set("provide prepare establish designate appoint pay reserve charge"),
    "into": word_set("integrate incorporate convert insert"),
    "against": word_set("bring impose"),
}
_SPLIT_OBJECT = re.compile(
    r"(?<!referred)(?<!according)(?<!relating)(?<!subject)(?<!due)(?<!access)(?<!related)(?<!specific)"
    r"(?<!applicable)(?<!similar)(?<!equal)(?<!equivalent)(?<!contrary)(?<!available) (to|with|from|on|for|"
    r"against|into) (?=(?:the|a|an|any|each|its|their|all|every|persons|[A-Z][a-z]+)\b)"
)
# A noun that calls for what was cut: `verify the compliance [with Article 60]`.
_INCOMPLETE = re.compile(
    r"(?:compliance|conformity|access|regard|respect|agreement|power|right|ability|opportunity|need|attention|"
    r"effect|account|matters?|along|measures|steps|information|specific|specified|acts?)$"
)


_POINTER = re.compile(
    r"\b(?:paragraphs? \d|points? \(|delegated acts?|implementing acts?|such|those|these|thereto|thereof|"
    r"said|that (?:Directive|Regulation))\b"
)


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions about what a clause demands, allows or forbids."""
    clause, ask = source.clause, source.ask()
    if clause is None or ask is None or clause.modal == "fact":
        return
    if source.statement.lead:  # the answer would be a piece of a list
        return
    case = _case(source, clause)
    if case is None:
        return
    yield from _yes_no(source, ask, case, rng)
    if clause.passive:
        return
    yield from _what_about(source, ask, rng)
    yield from _object(source, ask, case, rng)
    yield from _ensure(source, ask, rng)


def _case(source: Source, clause: Clause) -> str | None:
    """The condition that opens the statement; "" where none does, None where no question can name it."""
    for adjunct in clause.of_kind("condition"):
        if source.statement.text.startswith(adjunct.text[:10]):
            return short_condition(adjunct.text, 16)
    return ""


def _yes_no(source: Source, ask: Ask, case: str, rng: random.Random) -> Iterator[Draft]:
    """`May ...?` is answered by the rule itself."""
    clause, phrase = ask.clause, ask.verb_phrase
    if len(content_words(phrase)) < 3 or clause.verb in ("be", "have", "deemed", "construed"):
        return
    if lost_pointer(phrase, clause.rest) or says_little(phrase) or narrowed(phrase, clause.rest):
        return
    if pointed_end(phrase, clause.predicate):
        return
    if clause.verb in ("inform", "notify") and not re.search(r" (?:of|about|that|on|when) ", phrase):
        return
    if clause.verb in _CONTENTS or re.search(
        r"\b(?:only|also|otherwise)\b", f"{clause.predicate[:60]} {phrase}"
    ):
        return
    plain = [ask.yes_no(rng) for _ in range(3)]
    plain += _in_the_first_person(ask, rng)
    if clause.negated and acts(replace_negation(ask).subject) and ask.subject.lower() not in PRONOUNS:
        plain += [f"Is it forbidden for {replace_negation(ask).subject} to {phrase}"]
    if case:
        plain = [f"{p} {case}" for p in plain if ". " not in p]
    answer = clean_answer(clause.main.split("; ")[0])
    yield Draft(tuple(plain), answer, "full", source.statement.text, ())


def _in_the_first_person(ask: Ask, rng: random.Random) -> list[str]:
    """`We are a provider. Must we ...`: the same asked by the one whom it binds."""
    clause = ask.clause
    role, we = singular_role(ask.subject), replace_negation(ask).we()
    if role is None or we is None or clause.passive:
        return []
    asked = [f"We are {role}. {_upper(we.yes_no(rng))}", f"As {role}, {we.yes_no(rng)}"]
    if not re.search(r"\b(?:our|us)\b", we.verb_phrase):
        spoken = _upper(we.yes_no(rng)).replace(" we ", " I ", 1).replace("Are I", "Am I")
        asked.append(f"I am {role}. {spoken}")
    if clause.modal == "must" and not clause.negated:
        asked.append(f"Is {role} obliged to {ask.verb_phrase}")
    return asked


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _what_about(source: Source, ask: Ask, rng: random.Random) -> Iterator[Draft]:
    """`What must the provider do about ...`: the answer is the predicate."""
    clause, answer = ask.clause, clean_answer(ask.clause.predicate)
    topic = spoken_topic(source.topic, source.casing)
    party = acts(ask.subject) and acts(clean_answer(clause.subject))
    if topic is None or not party or clause.subject.lower().startswith("no "):
        return
    if clause.verb in _CONTENTS | {"be", "apply", "mean", "have", "hold", "comply", "enter", "strive"}:
        return
    if len(answer.split()) < 5 or _leans(answer) or (clause.negated and clause.modal == "right"):
        return
    if not _tells_apart(source, ask, topic, answer):
        return
    opener = rng.choice(["regarding", "when it comes to", "in connection with", "as regards"])
    anchor = f"{opener} {topic}"
    duty = re.sub(r" barred from$", " not allowed to", ask.duty(rng))
    questions = [f"What {duty} do {anchor}", f"What {duty} do {anchor}", *_nouns(ask, anchor)]
    yield Draft(tuple(questions), answer, "full", source.statement.text, ())


def _nouns(ask: Ask, anchor: str) -> list[str]:
    """`What are the duties of the provider regarding ...`, `what are your duties regarding ...`."""
    if ask.clause.negated:
        return []
    kinds = {"must": ["duties", "obligations"], "may": ["powers", "options"], "right": ["rights", "rights"]}
    if ask.clause.modal == "may" and not is_agent(ask.subject):  # whoever is spoken to has no powers
        kinds["may"] = ["options", "rights"]
    do = "do" if ask.plural else "does"
    first, second = kinds[ask.clause.modal]
    if ask.subject.lower() in PRONOUNS:
        owner = {"you": "your", "we": "our", "i": "my"}[ask.subject.lower()]
        return [f"What are {owner} {first} {anchor}", f"What {second} {do} {ask.subject} have {anchor}"]
    return [f"What {first} {do} {ask.subject} have {anchor}", f"What is expected of {ask.subject} {anchor}"][
        : 2 if ask.clause.modal == "must" else 1
    ]


def _leans(answer: str) -> bool:
    """Whether an answer needs what the reader of the question does not see."""
    return _POINTER.search(answer) is not None or says_little(answer.split(",")[0])


def _tells_apart(source: Source, ask: Ask, topic: str, answer: str) -> bool:
    """Whether subject and heading lead to this statement and no other one of the passage."""
    subject = set(content_words(ask.subject))
    news = set(content_words(topic)) - subject - {"obligations", "duties", "powers", "general", "rights"}
    if not news or subject & set(content_words(topic)):
        return False
    wanted = {word[:5] for word in news}
    if len(wanted & {word[:5] for word in content_words(answer)}) < max(min(2, len(wanted)), len(wanted) - 1):
        return False
    name = re.escape(ask.clause.subject)
    modals = r"(?: \w+)? (?:shall|must|may|can|will|is|are|has|have)\b"
    return len(re.findall(rf"\b{name}{modals}", source.chunk.text, re.I)) == 1


def _object(source: Source, ask: Ask, case: str, rng: random.Random) -> Iterator[Draft]:
    """`What must X submit to Y`: the answer is the direct object."""
    clause = ask.clause
    verb = clause.verb.split()[0]
    if clause.negated or verb in _NO_OBJECT | _CONTENTS or clause.coordinated or not acts(ask.subject):
        return
    match = _SPLIT_OBJECT.search(clause.rest)
    tail, direct = "", clause.rest
    if match is not None and verb in _CALLS_FOR[match.group(1)]:
        direct = clause.rest[: match.start()]
        tail = brief(clause.rest[match.start() :].strip(), 8) or ""
    answer = clean_answer(direct)
    if _poor_object(answer) or is_agent(answer) or len(answer.split()) > 40 or says_little(tail):
        return
    anchor = f"{tail} {case}".strip()
    if not content_words(anchor) or lost_pointer(tail, clause.rest):
        return
    if set(content_words(tail)) & set(content_words(ask.subject)):  # `authorities from other authorities`
        return
    bare = replace(ask, verb_phrase=f"{clause.verb} {anchor}".strip())
    questions = [bare.ask("What", rng), bare.ask("What", rng)]
    if re.search(r"(?i)^(?:\w+ )*information\b", answer):
        questions += [bare.ask("Which information", rng)]
    if re.search(r"(?i)^(?:\w+ )*measures\b", answer):
        questions = [bare.ask("What kind of measures", rng), bare.ask("Which measures", rng)]
    role, we = singular_role(ask.subject), bare.we()
    if role is not None and we is not None:
        asked = (we.ask("What", rng), we.ask("What", rng))
        questions += [f"As {role}, {starting_low(asked[0])}", f"We are {role}. {asked[1]}"]
    style = "short" if len(answer.split()) <= 10 else "full"
    yield Draft(tuple(questions), answer, style, source.statement.text, ())  # type: ignore[arg-type]


def _poor_object(answer: str) -> bool:
    if len(answer.split()) < 2 or _INCOMPLETE.search(answer) or says_little(answer):
        return True
    if re.search(r"\b(?:these|those|such|received)\b", answer) or re.fullmatch(r"an? \w+", answer):
        return True
    return (
        re.match(
            r"(?i)(?:\w+ly|also|it|them|him|that|those|this|these|such|to|in|on|for|with|by|as|at|from|of|"
            r"out|up|into|whether|and|only|less|more)\b|.*\b(?:referred|[a-z]+ing|each other|necessary)$",
            answer,
        )
        is not None
    )


def _ensure(source: Source, ask: Ask, rng: random.Random) -> Iterator[Draft]:
    """`What must X ensure about Y`: the answer is what has to be the case."""
    clause = ask.clause
    match = re.match(r"(?:the )?that (.+)$", clause.rest)
    if clause.verb != "ensure" or match is None or not acts(ask.subject):
        return
    content = (
        clause.predicate[len("ensure that ") :]
        if clause.predicate.startswith("ensure that ")
        else match.group(1)
    )
    answer = clean_answer(content)
    inner = re.match(
        r"(?:any |all |each )?([^,]+?) (?:is|are|has|have|can|may|does|do|meets?|"
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
    if (
        says_little(theme)
        or _leans(theme)
        or re.search(r"\b(?:appropriate|adequate|necessary|relevant)\b", theme)
    ):
        return
    if len(set(content_words(answer)) - set(content_words(theme))) < 3:
        return
    questions = [
        f"What {ask.duty(rng)} ensure with regard to {theme}",
        f"What {ask.duty(rng)} ensure about {theme}",
        f"What {ask.duty(rng)} make sure of concerning {theme}",
    ]
    yield Draft(tuple(questions), answer, "full", source.statement.text, ())
