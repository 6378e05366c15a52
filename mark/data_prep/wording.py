"""How questions are put: auxiliary verbs, wh-words, document names, terse and indirect forms."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

from mark.data_prep import verbs
from mark.data_prep.clauses import Clause
from mark.data_prep.naming import DocumentNames
from mark.data_prep.paraphrase import paraphrase, with_right_articles
from mark.data_prep.parties import acts, lost_pointer
from mark.data_prep.phrases import brief, content_words, without_references
from mark.data_prep.words import word_set

_WE = {
    "its": "our",
    "their": "our",
    "his": "our",
    "his or her": "our",
    "it": "we",
    "they": "we",
    "them": "us",
}


@dataclass(frozen=True)
class Ask:
    """The pieces from which a question about a clause is put together."""

    subject: str  # lower-cased, short
    plural: bool
    verb_phrase: str  # base verb + object, or `be` + participle
    clause: Clause

    def duty(self, rng: random.Random) -> str:
        """Auxiliary, subject: `must the controller`, `does the controller have to`."""
        s, plural, modal = self.subject, self.plural, self.clause.modal
        if modal == "fact":
            return f"{'are' if plural else 'is'} {s}"
        do = "do" if plural else "does"
        if self.clause.passive or not acts(
            s
        ):  # a report is not obliged or allowed, nor is anyone to be named
            if self.clause.negated:
                return f"may {s} not"
            return rng.choice(
                [f"must {s}", f"{do} {s} have to"] if modal == "must" else [f"may {s}", f"can {s}"]
            )
        if self.clause.negated:
            return rng.choice(
                [f"may {s} not", f"{_be(plural)} {s} not allowed to", f"{_be(plural)} {s} barred from"]
            )
        forms = {
            "must": [
                f"must {s}",
                f"must {s}",
                f"{do} {s} have to",
                f"{do} {s} need to",
                f"{_be(plural)} {s} required to",
                f"{_be(plural)} {s} obliged to",
            ],
            "may": [
                f"may {s}",
                f"can {s}",
                f"{_be(plural)} {s} allowed to",
                f"{_be(plural)} {s} permitted to",
            ],
            "right": [
                f"{do} {s} have the right to",
                f"can {s}",
                f"{_be(plural)} {s} entitled to",
                f"may {s}",
            ],
        }
        return rng.choice(forms[modal])

    def ask(self, wh: str, rng: random.Random) -> str:
        """`When` -> `When must the controller notify the breach to the supervisory authority`."""
        clause = self.clause
        if (
            clause.verb == "be"
            and clause.negated
            and not clause.passive
            and self.verb_phrase.startswith("be ")
        ):
            return f"{wh} {_be(self.plural)} {self.subject} not {self.verb_phrase[3:]}".strip()
        duty = self.duty(rng)
        phrase = self.verb_phrase
        if duty.endswith("barred from"):
            phrase = verbs.gerund(phrase)
        return f"{wh} {duty} {phrase}".strip()

    def yes_no(self, rng: random.Random) -> str:
        """`Must the controller notify ...`."""
        positive = replace_negation(self)
        return positive.ask("", rng)

    def who(self, rng: random.Random) -> list[str]:
        """Questions that the clause's subject answers."""
        phrase = self.verb_phrase
        ing = verbs.gerund(phrase)
        if self.clause.negated:
            return [
                f"Who must not {phrase}",
                f"Who is not allowed to {phrase}",
                f"Who may not {phrase}",
                f"Who is barred from {ing}",
            ]
        if self.clause.modal == "must":
            return [
                f"Who must {phrase}",
                f"Who has to {phrase}",
                f"Who is responsible for {ing}",
                f"Whose job is it to {phrase}",
                f"Who is required to {phrase}",
                f"Who {verbs.third_person(phrase)}",
                f"Whose duty is it to {phrase}",
                f"who is in charge of {ing}",
            ]
        if self.clause.modal == "may":
            return [
                f"Who may {phrase}",
                f"Who can {phrase}",
                f"Who is allowed to {phrase}",
                f"Who has the power to {phrase}",
                f"Who has the authority to {phrase}",
                f"who can {phrase}",
            ]
        return [f"Who has the right to {phrase}", f"Who is entitled to {phrase}", f"Who can {phrase}"]

    def we(self) -> Ask | None:
        """The same seen by the one whom it binds, or None where a pronoun cannot follow."""
        phrase = self.verb_phrase
        for old, new in _WE.items():
            phrase = re.sub(rf"\b{old}\b", new, phrase)
        return Ask("we", True, phrase, self.clause)


def replace_negation(ask: Ask) -> Ask:
    """A prohibition asked openly: `may X ...`."""
    if not ask.clause.negated:
        return ask

    subject = re.sub(r"^no (?:one|person)\b", "a person", ask.subject)
    if ask.plural:
        subject = re.sub(r"^no ", "", subject)
    subject = re.sub(rf"^no (?={_UNCOUNTED}\b)", "any ", subject)
    subject = re.sub(r"^no (?=\w)", "a ", subject)
    return Ask(subject, ask.plural, ask.verb_phrase, replace(ask.clause, modal="may", negated=False))


def _be(plural: bool) -> str:
    return "are" if plural else "is"


# `any money`, never `a money`.
_UNCOUNTED = (
    r"(?:money|property|land|information|data|expenditure|evidence|software|equipment|compensation|work|part)"
)


def starting_low(text: str) -> str:
    """A question as it continues a sentence."""
    return text[0].lower() + text[1:]


def without_aside(subject: str) -> str:
    """`the board, after consulting the members` -> `the board`."""
    return re.split(
        r", (?:after|acting|in|upon|on|when|where|having|following|through|with|by|as) ", subject, maxsplit=1
    )[0]


def short_subject(clause: Clause, limit: int = 9) -> str | None:
    """The subject as a question names it."""
    subject = brief(without_aside(clause.subject), limit)
    if subject is None or re.match(
        r"(?i)(?:it|they|he|she|this|that|these|those|such|there|nothing)\b", subject
    ):
        return None
    return subject


def short_phrase(clause: Clause, limit: int = 12) -> str | None:
    """Verb and object as a question names them."""
    rest = brief(clause.rest, limit) if clause.rest else ""
    if rest is not None:
        rest = _second_verb(rest)
    if rest is None or (clause.rest.startswith("that ") and rest != without_references(clause.rest)):
        return None
    if not clause.passive and _lacks_gift(clause, rest):
        return None
    if re.match(r"(?:and|or) (?:as|in|to|with|of|by)\b", rest):
        return None
    put_where = re.search(r"\b(?:in place|on|into|forward|an end)\b", rest)
    if clause.verb == "put" and not clause.passive and put_where is None:
        return None
    if rest.startswith("that ") and not re.search(
        r"\b(?:is|are|has|have|can|may|do|does|will|comply|meets?|remains?|provides?)\b", rest
    ):
        return None
    if clause.verb in _LIGHT_VERBS and len(content_words(rest)) < 3 and not clause.passive:
        return None
    if re.search(r"\b(?:shall|what)\b", rest) or (
        clause.verb in _CAUSATIVE and " to " not in rest and not clause.passive
    ):
        return None
    if _is_torn(clause, rest):
        return None
    rest = re.sub(r"\bY(?=ou(?:r|rs)?\b)", "y", rest)  # licences write `You` large
    lead = "" if not clause.passive else ("" if clause.modal == "fact" else "be ")
    return f"{lead}{clause.verb} {rest}".strip()


def _is_torn(clause: Clause, rest: str) -> bool:
    """Whether `one` stands for another noun, the object comes late, or a list's marker was left over."""
    late = clause.verb in ("add", "attach", "apply") and rest.startswith("to ")  # `add to the work what ...`
    return late or re.match(r"one\b(?! of)|.*\(\w{1,3}\)", rest) is not None


def _lacks_gift(clause: Clause, rest: str) -> bool:
    """Whether what is given is not named: `provide the buyer`, `send to the agency`; or a list was cut."""
    if rest.startswith("that ") and "," in rest:
        return True
    if clause.verb in _GIVING and re.match(r"(?:to|with)\b", rest):
        return True
    return clause.verb in ("provide", "supply") and " with " in clause.predicate and " with " not in rest


def _second_verb(rest: str) -> str:
    """`warnings and produce statistics` -> `warnings`: a second verb that could be a noun."""
    match = re.search(r"(?<=\ws) and (?P<verb>[a-z]+)(?= (?:[a-z-]+ )*[a-z-]+s\b)", rest)
    if match is None or match.group("verb") not in verbs.BASE_VERBS or match.group("verb").endswith("s"):
        return rest
    return rest[: match.start()]


def short_condition(text: str, limit: int = 22) -> str | None:
    """A condition as it opens a question: `Where a breach ...` -> `if a breach ...`."""
    whole = text
    text = without_references(text)
    if lost_pointer(text, whole):  # `when preparing the guidance [pursuant to this Article]`
        return None
    text = re.sub(
        r"^(?:in (?:the )?cases? (?:where|in which)|where|whenever|in the event that|if and when)\b",
        "if",
        text,
        flags=re.I,
    )
    text = re.sub(r"^(?:in the event of)\b", "in case of", text, flags=re.I)
    text = text[0].lower() + text[1:] if text else text
    if not 4 <= len(text.split()) <= limit or re.match(
        r"(?:if|when) (?:appropriate|necessary|applicable|relevant)\b", text
    ):
        return None
    return text


def with_document(question: str, names: DocumentNames, rng: random.Random, named: float = 0.67) -> str:
    """Name the document in about `named` of the questions, in one of several places."""
    name = rng.choice(names.names)
    replaced = names.replace_self(question, name)
    if replaced != question or rng.random() > named or any(n in question for n in names.names):
        return replaced
    low = lower_opener(question)
    under = rng.choice(["under", "under", "according to", "in"])
    if under == "under" and low.startswith("under "):
        under = "in"
    roll = rng.random()
    if roll < 0.4 or len(question.split()) > 16:
        return f"{under} {name}, {low}"
    if roll < 0.85:
        return f"{question} under {name}" if under != "in" else f"{question} in {name}"
    return f"{names.terse}: {low}"


_CAUSATIVE = word_set("cause deem enable require permit allow empower authorise oblige entitle direct")
_GIVING = word_set(
    "supply provide submit give send communicate forward transmit"
)  # what is given must be named
_LIGHT_VERBS = word_set("be have take give make do lay set put bring come")
_OPENERS = word_set(
    """we who what when where which how why whose whom under on in for by to may must can is are does do
    should if define meaning name list at within from of could between into with before after upon
    once until as since tell explain"""
)


def lower_opener(text: str) -> str:
    """Lower-case the first letter of a question word; names keep theirs."""
    return text[0].lower() + text[1:] if text.split()[0].strip(",:").lower() in _OPENERS else text


def indirect(question: str, rng: random.Random) -> str:
    """Some questions as people also put them: politely, or as a request."""
    roll = rng.random()
    if re.match(r"Who (?:has|is (?:responsible|allowed|required|entitled|in))\b", question) and roll < 0.06:
        return f"Tell me {question[0].lower()}{question[1:]}"
    return question


def finish(
    question: str, names: DocumentNames, rng: random.Random, keep: str = "", terse: bool = False
) -> str:
    """From a bare wording to a question as it is asked.

    Args:
        question: Without document name and question mark.
        names: The document's names.
        rng: A seeded generator.
        keep: A part that is not paraphrased.
        terse: A keyword query: no question mark, small letters.
    """
    text = paraphrase(question, rng, keep=keep)
    text = " ".join(text.split())
    if terse:
        if rng.random() < 0.6 and names.terse.lower() not in text.lower():
            text = rng.choice([f"{text} {names.terse}", f"{names.terse} {text}", f"{names.terse}: {text}"])
        return with_right_articles(text)
    text = with_document(indirect(text, rng), names, rng)
    text = with_right_articles(text)
    if rng.random() < 0.12:
        return lower_opener(text) + rng.choice(["?", ""])
    end = "." if re.match(r"(?i)(?:.{0,60}[,:] )?(?:explain|tell me|list|define)\b", text) else "?"
    return text[0].upper() + text[1:] + end
