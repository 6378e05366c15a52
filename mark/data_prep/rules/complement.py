"""To whom, of what, in whom, from where: the complement that a verb takes after a preposition."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace

from mark.data_prep import verbs
from mark.data_prep.parties import is_agent, lost_pointer, pointed_end, says_little
from mark.data_prep.phrases import NOUN_TOO, brief, content_words, without_references
from mark.data_prep.rules.base import Draft, Source, clean_answer
from mark.data_prep.wording import Ask, starting_low
from mark.data_prep.words import word_set

_PERSON = re.compile(
    r"(?:the |a |an |each |any |its |their |that )?(?:[A-Z]|competent|supervisory|market surveillance|"
    r"notifying|data subject|"
    r"authorit|member|person|recipient|body|bodies|board|court|governor|president|public|provider|user|manufacturer|"
    r"relevant|national|management|operators?|entit|notified|(?:third )?countries|Member States|providers?|"
    r"manufacturers?|economic "
    r"operators|importers?|deployers?|financial)"
)
_COMPLEMENT = re.compile(
    r"(?:^|\s)(to|of|in|on|from|with|before|as|by) (?=(?:the|a|an|one|two|any|each|not|its|their|all|"
    r"such|every|at|[A-Z]|[a-z]+))"
)
_VERBS = {
    "to": word_set(
        """submit submitted communicate communicated report reported transmit transmitted notify notified
    send sent provide provided make address addressed addressed forward forwarded give given grant
    granted apply disclose disclosed deliver delivered pay paid transfer transferred assign assigned
    attributed delegated delegate present presented make lodge award awarded belong"""
    ),
    "of": word_set(
        "consist consists composed inform informed notify notified comprised deprive deprived made up"
    ),
    "in": word_set(
        "vest vested published publish entered recorded laid registered placed deposited specified"
    ),
    "on": word_set("conferred confer impose imposed based depend published rely based"),
    "from": word_set(
        "obtain obtained request requested seek receive received chosen excluded exempt exempted "
        "derive benefit"
    ),
    "with": word_set(
        "comply cooperate share provide provided charged conclude lodge lodged consult exchange lodged"
    ),
    "before": word_set("laid lay made subscribe make brought"),
    "as": word_set("act construed considered regarded treated serve deemed used"),
    "by": frozenset(),
}


_BOUND = re.compile(
    r"(?:^|\s)(?:referred|according|relating|related|subject|due|access|regard|respect|addition|prior|as|members?|part)$"
)
_POINTER = re.compile(
    r"(?:the )?(?:paragraphs?|points?|[Aa]rticles?|accordance|respect|relation|particular|first|"
    r"second|clauses?|sub|line|conformity|order|writing|so|that|this|those|such|case|Annex|Regulation|Directive|Chapter|Section)\b"
)


def make(source: Source, rng: random.Random) -> Iterator[Draft]:
    """Questions about a recipient, a composition, a place."""
    clause, ask = source.clause, source.ask()
    if (
        clause is None
        or ask is None
        or not clause.rest
        or re.match(r"(?:any |the )?references?\b", ask.subject)
    ):
        return
    yield from _direct_person(source, ask, rng)
    if source.statement.lead:  # one item would pass for the whole list
        return
    for match in _COMPLEMENT.finditer(clause.rest):
        preposition, before = match.group(1), clause.rest[: match.start()]
        if clause.verb.split()[0] not in _VERBS[preposition] or _BOUND.search(before) or clause.negated:
            continue
        if _POINTER.match(clause.rest[match.end() :]):
            continue
        draft = _asked(source, ask, match, rng)
        if draft is not None:
            yield draft
            return


def _asked(source: Source, ask: Ask, match: re.Match[str], rng: random.Random) -> Draft | None:
    """The question for one complement, or None where it would not be clear or not be answered in full."""
    clause, preposition = ask.clause, match.group(1)
    before, rest = clause.rest[: match.start()].strip(), clause.rest
    answer = _widened(clean_answer(_answer(rest[match.end() :], preposition)), rest)
    short_before = brief(before, 9) if before else ""
    if short_before is None or _unfit(answer, preposition) or len(answer.split()) > 25:
        return None
    after = rest[match.end() :][len(answer) :].strip(" ,")
    if preposition in ("of", "with") and after and not _is_person(answer):  # it would be half of it
        return None
    if _entangled(before, rest, preposition) or _goes_on(answer, source.statement.text):
        return None
    if (
        says_little(short_before)
        or "attention" in f"{ask.subject} {short_before}"
        or lost_pointer(short_before, before)
    ):
        return None
    if len(content_words(f"{ask.subject} {short_before}")) < 2 or re.match(r"(?:not|at|no) ", answer):
        return None
    if not short_before and not clause.passive and clause.verb not in ("consist", "belong"):
        return None
    lead = "" if not clause.passive or clause.modal == "fact" else "be "
    verb = "report" if preposition == "to" and clause.verb == "notify" else clause.verb
    bare = replace(ask, verb_phrase=f"{lead}{verb} {short_before}".strip())
    style = "short" if len(answer.split()) <= 12 else "full"
    questions = _questions(bare, preposition, answer, rng)
    return Draft(questions, _to_each(answer, rest), style, source.statement.text)  # type: ignore[arg-type]


def _to_each(answer: str, rest: str) -> str:
    """`to the Council and to the public` needs its first `to` as well."""
    whole = f"to {answer}"
    return whole if " and to " in answer and whole in rest else answer


def _widened(answer: str, rest: str) -> str:
    """The answer with the relative clause that narrows it: `the authority in whose area they work`."""
    after = rest[rest.find(answer) + len(answer) :]
    match = re.match(r" (?:(?:in|with|to|of|for|by) )?(?:which|whom|whose|that|who)\b[^,;.]*", after)
    return answer if match is None else clean_answer(answer + match.group())


def _goes_on(answer: str, text: str) -> bool:
    """Whether the statement names more of the same: `to the needs of makers, including ..., of users`."""
    after = text[text.find(answer) + len(answer) :] if answer in text else ""
    return re.match(r",? (?:including|such as|as well as|even)\b|, (?:of|or|and to)\b", after) is not None


def _entangled(before: str, rest: str, preposition: str) -> bool:
    """Whether other complements make it unclear to what this one belongs."""
    busy = any(f" {word} " in f" {before} " for word in ("by", "with", preposition))
    return busy or "each other" in rest


def _unfit(answer: str, preposition: str) -> bool:
    """Whether a complement is no answer: an infinitive, a pronoun, a common noun alone."""
    if not answer or answer.lower().startswith(("that ", "those ", "this ", "such ", "it ", "them")):
        return True
    if re.fullmatch(r"an? \w+", answer) and not _is_person(answer):
        return True
    if re.match(r"\w+ing\b", answer) or (len(answer.split()) == 1 and not answer[:1].isupper()):
        return True
    if preposition == "of" and re.match(r"(?:the|that|a) (?:Member|State|Union)|Member State", answer):
        return True
    if re.search(r" (?:established|designated|issued|taken)$", answer):
        return True
    if re.search(r"\b(?:such|its|their|[Aa]rticles?|paragraphs?)\b", answer) and preposition != "to":
        return True
    return re.split(r"\W", answer)[0] in verbs.BASE_VERBS - NOUN_TOO


def _is_person(answer: str) -> bool:
    if re.match(
        r"(?:the |an? |any |each )?(?:AI |[a-z-]+ )?(?:systems?|models?|products?|services)\b", answer
    ):
        return False
    return _PERSON.match(answer) is not None or is_agent(answer)


def _answer(text: str, preposition: str) -> str:
    """The complement up to the next clause or adjunct."""
    if preposition == "to":  # `to the Council and to the public` is one answer
        text = text.replace(" and to the ", " and \0 the ")
    return re.split(
        r"(?:, (?:and|which|who|in|of|and shall|including|as|with|even|where)| which | who | in "
        r"(?:accordance|respect|relation)| "
        r"pursuant | under Article| for the | and shall | and (?=(?:to|in|on|from|with|give|put|make|"
        r"exchange|inform|take|send|keep) )| as to | upon | about | on | with regard| to "
        r"(?=(?:supplement|adopt|take|make|carry|give|be|ensure|provide) ))",
        text,
    )[0].replace(" and \0 the ", " and to the ")


def _questions(ask: Ask, preposition: str, answer_hint: str, rng: random.Random) -> tuple[str, ...]:
    person = _is_person(answer_hint) and preposition != "as"
    what = ("whom", "who") if person else ("what", "what")
    if preposition == "of" and ask.clause.verb in ("consist", "composed", "comprised"):
        return _make_up(ask, person)
    if ask.clause.verb == "vested":
        be = "are" if ask.plural else "is"
        return (f"In {what[0]} {be} {ask.subject} vested", f"Who holds {ask.subject}")
    fronted = ask.ask(f"{preposition.capitalize()} {what[0]}", rng)
    stranded = f"{ask.ask(what[1].capitalize(), rng)} {preposition}"
    if ask.clause.passive:
        return (fronted,)
    if preposition in ("with", "of") and not person:
        return (stranded,)
    if preposition == "to" and person:
        return (fronted, stranded, fronted)
    if preposition == "on" and re.search(r"website|journal|page", answer_hint):
        return (ask.ask("Where", rng),)
    if preposition == "in" and not person:
        return (ask.ask("Where", rng), ask.ask("In what", rng), stranded)
    if preposition == "from" and not person:
        return (ask.ask("From what", rng), stranded)
    return (fronted, stranded)


def _make_up(ask: Ask, person: bool) -> tuple[str, ...]:
    """What or who makes up a body."""
    do, be = ("do", "are") if ask.plural else ("does", "is")
    who = "Who makes up" if person else "What makes up"
    return (
        f"What {do} {ask.subject} consist of",
        f"{who} {ask.subject}",
        f"Of {'whom' if person else 'what'} {be} {ask.subject} composed",
    )


def _direct_person(source: Source, ask: Ask, rng: random.Random) -> Iterator[Draft]:
    """Whom to inform or consult."""
    clause = ask.clause
    if (
        clause.passive
        or clause.negated
        or clause.verb not in ("inform", "notify", "consult", "advise", "hear")
    ):
        return
    match = re.match(
        r"((?:the |a |an |its |their |any |all |each )?[^,]+?)(?: (?:of(?! (?:the Member|that|the "
        r"State|the Union|[A-Z]))|about|on|that|with|when|in|as|to|thereof)\b(.*))?$",
        clause.rest,
    )
    if match is None or not _PERSON.match(match.group(1)):
        return
    answer = clean_answer(without_references(match.group(1)))
    after = brief(clause.rest[len(match.group(1)) :].strip(), 10) if match.group(2) else ""
    if not answer or after is None or len(answer.split()) > 10 or answer not in clause.rest:
        return
    bare = replace(ask, verb_phrase=f"{clause.verb} {after}".strip())
    short = [a for a in clause.of_kind("condition") if len(a.text.split()) < 18]
    purposeful = [a for a in short if not lost_pointer(without_references(a.text), a.text)]
    tail = f" {starting_low(without_references(purposeful[0].text))}" if purposeful else ""
    if (
        (not after and not tail)
        or says_little(f"{after}{tail}".strip())
        or pointed_end(after, clause.predicate)
        or _goes_on(answer, source.statement.text)
    ):
        return
    questions = (
        bare.ask("Whom", rng) + tail,
        bare.ask("Who", rng) + tail,
        bare.ask("Which person or body", rng) + tail,
    )
    yield Draft(questions, answer, "short", source.statement.text, ())
