"""Legal clauses taken apart: subject, modal, verb, object and what hangs on them.

No parser is loaded. Legal English marks its clauses with `shall`, `may` and `must`, which is enough
to find subject and predicate; whatever does not fit the pattern is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from mark.data_prep import verbs
from mark.data_prep.adjuncts import (
    EMPTY_CONDITION,
    LEADING,
    Adjunct,
    AdjunctKind,
    depth,
    kind_of,
    split_adjuncts,
)
from mark.data_prep.phrases import NOUN_TOO, first_conjunct

Modal = Literal["must", "may", "right", "fact"]

# Asides without content: taken out before a clause is read.
_FILLER = re.compile(
    r",? ?\b(?:where|if|when|as|whenever) (?:appropriate|applicable|relevant|feasible|necessary|"
    r"possible|needed|deemed appropriate|"
    r"so required|required)\b(?:,(?= [a-z])|(?=[.;,]|$| (?:and|the|that|in|with|on|of|its|their)\b))|"
    r",? inter alia,?|,? "
    r"mutatis mutandis,?|,? at (?:its|their) request,?|"
    r"(?<=shall), at least,|,? as the case may be,|,? from time to time,?|(?<= )nevertheless |, in "
    r"particular,|(?<=shall )in particular "
)
_ASIDE_START = re.compile(
    r"(?:without|with|by|on|at|in|for|from|after|before|upon|through|within|of its own|until)\b"
)
# `will`, `agrees to`, `undertakes to`: duties in contracts.
_MODAL = re.compile(r" (shall|must|may|can|will|agrees? to|undertakes? to|has|have|is|are)(?= )")
_ADVERB = re.compile(
    r"^(?:also|always|only|not|then|further|thereupon|in particular|at least|as far as possible|"
    r"without (?:undue|unnecessary|further) delay|by law|by order|by public notification|by notification|"
    r"from time to time|at any time|for (?:this|that) purpose|to that end|where appropriate|where applicable|"
    r"where necessary|in writing|either|both|upon request|on request|(?!apply|supply|comply|rely|"
    r"reply|imply|multiply)[a-z]{3,}ly)\s+(?=[a-z])"
)
_NOT_NOUN = re.compile(
    r"\b(?:shall|may|must|can|is|are|was|were|has|have|had|does|do|who|which|whom|that|whose|if|when|where|unless|"
    r"it|they|he|she|there|and shall|provided|such|said|but)\b"
)
_NP_START = re.compile(
    r"^(?:the|a|an|any|each|every|no|all|both|one|two|an?other|other|persons?|providers?|you|we|your|our|[A-Z][\w’'.-]*|"
    r"this (?:Regulation|Directive|Act|Constitution|Agreement|Law|Code)|"
    r"(?!(?:in|on|at|by|for|to|from|with|under|of|as|if|when|where|this|unless|thus|its|his|is|was|has|does)\b)"
    r"(?:[a-z-]+ (?:and |or )?){0,4}[a-z-]+s)\b",
)
_RIGHT = re.compile(r"^(?:have|has) the right (?:not )?to (?=[a-z])")
_POWER = re.compile(r"^(?:have|has) (?:the )?power to (?=[a-z])")
_ENTITLED = re.compile(
    r"^(?:be )?(?P<kind>entitled|empowered|required|obliged|authorised|competent|able|permitted) to (?=[a-z])"
)


@dataclass(frozen=True)
class Clause:
    """One clause; all fields but `verb` and `modal` are verbatim pieces of it."""

    subject: str
    modal: Modal
    negated: bool
    passive: bool
    verb: str  # base form; the participle of a passive
    rest: str  # object and complements without adjuncts
    agent: str  # after `by` in a passive
    adjuncts: tuple[Adjunct, ...]
    predicate: str  # verb to end
    main: str  # the main clause, leading adjunct excluded
    aux: str = ""  # is/are of a present passive

    @property
    def coordinated(self) -> bool:
        """Whether a second verb follows, to which the adjuncts may belong."""
        return (
            first_conjunct(self.rest) != self.rest
            or re.search(r" and (?:shall|may|must)\b", self.predicate) is not None
        )

    def of_kind(self, kind: AdjunctKind) -> list[Adjunct]:
        """Its adjuncts of one kind, empty phrases such as `where appropriate` left out."""
        return [a for a in self.adjuncts if a.kind == kind and not EMPTY_CONDITION.match(a.text)]


def parse(sentence: str) -> Clause | None:
    """Take one sentence apart.

    Args:
        sentence: A folded sentence, or a lead joined with one of its list items.

    Returns:
        The clause, or None where the pattern does not fit.
    """
    text = _without_number(sentence).strip()
    text = re.sub(
        r"^(?:To (?:that|this) end|For (?:that|this) purpose|In addition|However|Furthermore|Moreover|"
        r"In that (?:case|event|regard)), ",
        "",
        text,
    )
    text = re.sub(r"^Provided (?:further |also )?that\s+", "", text)
    text = _FILLER.sub("", text.rstrip(" .;,:"))
    lead, main = _split_lead(text)
    if main is None:
        return None
    clause = _parse_main(main)
    if clause is None:
        return None
    return replace(clause, adjuncts=(*lead, *clause.adjuncts))


def _without_number(text: str) -> str:
    return re.sub(r"^(?:\d{1,3}\.|\(\w{1,4}\))\s+", "", text)


def _split_lead(text: str) -> tuple[list[Adjunct], str | None]:
    """Leading adjunct and main clause; (.., None) where no main clause shows."""
    match = LEADING.match(text)
    if match is None:
        to = re.match(
            r"^(?:To (?!that|this|those|the|a )(?=[a-z])|By \d|By way of|In addition|Furthermore|"
            r"Moreover|However|Additionally)",
            text,
        )
        if to is None:
            return [], text
        kind: AdjunctKind = "purpose" if to.group().startswith("To") else "manner"
        if to.group().startswith("By ") and to.group()[-1].isdigit():
            kind = "deadline"
    else:
        kind = kind_of(match)
    for comma in re.finditer(r", (?:then )?", text):
        if depth(text, comma.start()) > 0:
            continue
        main = text[comma.end() :]
        if _subject_of(main) is not None:
            return [Adjunct(kind, text[: comma.start()])], main
    return [], None


def _subject_of(text: str) -> tuple[str, re.Match[str]] | None:
    """A plausible subject and the modal after it."""
    for match in _MODAL.finditer(text):
        if depth(text, match.start()) > 0:
            continue
        subject = re.sub(r"\([^)]*\)", "", text[: match.start()]).strip(" ,")
        subject = re.sub(
            r",? (?:referred to|set out|laid down|mentioned|specified|provided for) in .*$", "", subject
        )
        words = subject.split()
        if len(words) > 1 and words[-1].lower() in verbs.PRONOUNS and words[-2] not in ("and", "or"):
            return None  # a heading run into its sentence: `Combined works You may`
        if not 0 < len(words) <= 16 or _NOT_NOUN.search(subject) or not _starts_noun_phrase(subject):
            return None
        if (
            re.search(r", (?:the|a|an|each|every|any|no) ", subject)
            and " and " not in subject
            and " or " not in subject
        ):
            return None
        return text[: match.start()].strip(), match
    return None


def _starts_noun_phrase(subject: str) -> bool:
    if re.match(
        r"(?i)(?:in|on|at|by|for|to|from|with|under|of|as|if|when|where|unless|until|after|before|that|although|"
        r"though|while|whether|including|based|given|further)\b",
        subject,
    ):
        return False
    if re.search(r"\b(?:and|or) .*, (?:the|a|an|each|every|any) ", subject):
        return False
    return (
        _NP_START.match(subject) is not None or _NP_START.match(subject[:1].lower() + subject[1:]) is not None
    )


def _parse_main(text: str) -> Clause | None:
    duty = re.match(r"^[Ii]t shall be the duty of (?P<who>[^,]{3,80}?) to (?=[a-z])", text)
    if duty:
        return _predicate(duty.group("who"), "must", text[duty.end() :], text)
    banned = re.match(
        r"^[Ii]t (?:is|shall be) (?:unlawful|an offen[cs]e|prohibited|illegal|forbidden) for "
        r"(?P<who>[^,]{3,60}?) to (?=[a-z])",
        text,
    )
    if banned:
        clause = _predicate(banned.group("who"), "may", text[banned.end() :], text)
        return None if clause is None else replace(clause, negated=True)
    found = _subject_of(text)
    if found is None:
        return None
    subject, modal = found
    word = modal.group(1)
    rest = text[modal.end() :].strip()
    if word in ("shall", "must", "will") or word.endswith(" to"):
        return _predicate(subject, "must", rest, text)
    if word in ("may", "can"):
        return _predicate(subject, "may", rest, text)
    if word in ("is", "are"):
        return _present(subject, word, rest, text)
    return _predicate(subject, "right", f"{word} {rest}", text) if _RIGHT.match(f"{word} {rest}") else None


def _predicate(subject: str, modal: Modal, rest: str, main: str) -> Clause | None:
    negated = subject.lower().startswith("no ")
    inner: list[Adjunct] = []
    while True:
        adverb = _ADVERB.match(rest)
        aside = (
            re.match(r"^,? ?(?P<text>[^,]{3,120}),\s+(?:and, [^,]{3,60}, )?(?=[a-z])", rest)
            if rest[:1] == ","
            else None
        )
        aside = aside or re.match(
            r"^(?P<text>(?:subject to|in accordance with|where|when|if|for the purposes? of|in order "
            r"to|within|"
            r"after|before|upon|without prejudice to|by|on|at|in|with)\b[^,]{3,140}),\s+(?=[a-z])",
            rest,
        )
        if adverb:
            if adverb.group().strip() == "not":
                negated = True
            elif adverb.group().startswith(("without", "immediately", "promptly")):
                inner.append(Adjunct("deadline", adverb.group().strip()))
            rest = rest[adverb.end() :]
        elif aside:
            inner.append(_adjunct(aside.group("text").strip()))
            rest = rest[aside.end() :]
        elif late := _late_verb(rest):
            inner.append(_adjunct(late))
            rest = rest[len(late) :].lstrip(" ,")
        else:
            break
    return _verb_phrase(Clause(subject, modal, negated, False, "", "", "", tuple(inner), rest, main))


def _late_verb(rest: str) -> str | None:
    """What stands between modal and verb without commas: `may without the consent of X raise`."""
    for match in re.finditer(r" ([a-z]+)(?= )", rest[:140]):
        if (
            match.group(1) in verbs.BASE_VERBS
            and match.group(1) not in NOUN_TOO
            and not rest[: match.start()].endswith((" to", " the", " a"))
        ):
            return rest[: match.start()] if re.match(_ASIDE_START, rest) else None
    return None


def _adjunct(text: str) -> Adjunct:
    match = LEADING.match(text)
    return Adjunct(kind_of(match) if match else "manner", text)


def _verb_phrase(draft: Clause) -> Clause | None:
    rest = draft.predicate
    for pattern, modal in ((_RIGHT, "right"), (_POWER, "may")):
        semi = pattern.match(rest)
        if semi:
            negated = draft.negated or "not to" in semi.group()
            return _verb_phrase(
                replace(
                    draft,
                    modal="right" if modal == "right" else "may",
                    negated=negated,
                    predicate=rest[semi.end() :],
                )
            )
    semi = _ENTITLED.match(rest)
    if semi:
        kind = semi.group("kind")
        modal_now: Modal = (
            "must" if kind in ("required", "obliged") else ("right" if kind == "entitled" else "may")
        )
        return _verb_phrase(replace(draft, modal=modal_now, predicate=rest[semi.end() :]))
    if rest.startswith("be "):
        return _be_phrase(draft, rest[3:])
    rest = _without_inset(rest)
    match = re.match(r"^([a-z-]+)(?= |$)", rest)
    if match is None or match.group(1) not in verbs.BASE_VERBS:
        return None
    verb = _with_particle(match.group(1), rest[match.end() :].strip())
    core, adjuncts = split_adjuncts(rest[len(verb) :].strip())
    return replace(draft, verb=verb, rest=core, adjuncts=(*draft.adjuncts, *adjuncts))


def _without_inset(rest: str) -> str:
    """`report, without delay, to` -> `report to`."""
    return re.sub(
        r"^([a-z]+), (?:[^,]{3,60}), (?=(?:to|the|a|an|of|in|on|with|that|for|all|any|each)\b)", r"\1 ", rest
    )


def _with_particle(verb: str, after: str) -> str:
    for particle in ("out", "up", "down", "on", "forward"):
        if after.startswith(particle + " ") and (verb, particle) in _PARTICLES:
            return f"{verb} {particle}"
    return verb


_PARTICLES = frozenset(
    [("carry", "out"), ("draw", "up"), ("set", "up"), ("set", "out"), ("lay", "down"), ("lay", "out"),
     ("put", "forward"), ("pass", "on"), ("give", "up"), ("fill", "out"), ("follow", "up")]
)  # fmt: skip


def _present(subject: str, aux: str, rest: str, main: str) -> Clause | None:
    """A fact in the present passive: `The President is elected by ...`, or a right/duty with `is`."""
    negated = subject.lower().startswith("no ")
    semi = _ENTITLED.match(rest)
    if semi:
        return _predicate(subject, "fact", f"be {rest}", main)
    while adverb := _ADVERB.match(rest):
        negated = negated or adverb.group().strip() == "not"
        rest = rest[adverb.end() :]
    draft = Clause(subject, "fact", negated, True, "", "", "", (), rest, main, aux)
    clause = _be_phrase(draft, rest)
    return clause if clause is not None and clause.passive else None


def _be_phrase(draft: Clause, rest: str) -> Clause | None:
    while adverb := _ADVERB.match(rest):
        rest = rest[adverb.end() :]
    match = re.match(r"^([a-z-]+)(?= |$|,)", rest)
    if match is not None and verbs.is_participle(match.group(1)):
        verb = match.group(1)
        for particle in ("out", "up", "down", "on"):
            if re.match(rf" {particle}\b", rest[match.end() :]):  # no `on` in `issued only if`
                verb = f"{verb} {particle}"
        core, adjuncts = split_adjuncts(rest[len(verb) :].strip())
        agent = ""
        by = re.search(r"(?:^| )by (?=the |a |an |any |each |[A-Z]|Member)", core)
        if by and not re.match(r"(?:the|a) (?:means|end|date|\w+ing)\b", core[by.end() :]):
            agent = core[by.end() :]
            core = core[: by.start()].strip()
        return replace(
            draft, passive=True, verb=verb, rest=core, agent=agent, adjuncts=(*draft.adjuncts, *adjuncts)
        )
    core, adjuncts = split_adjuncts(rest)
    if not core:
        return None
    return replace(draft, passive=False, verb="be", rest=core, adjuncts=(*draft.adjuncts, *adjuncts))
