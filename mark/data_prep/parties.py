"""Who acts in a legal text, and which phrases say too little when they stand alone."""

from __future__ import annotations

import re

from mark.data_prep.phrases import without_references
from mark.data_prep.verbs import PRONOUNS
from mark.data_prep.words import word_set

_HEADS = (
    r"authorit|bod(?:y|ies)|person|commission|court|board|council|state|president|governor|speaker|"
    r"chair|minister|parliament|legislature|house|member|judge|officer|provider|deployer|manufacturer|importer|"
    r"distributor|operator|controller|processor|entit|compan|undertaking|representative|agency|team|group|committee|"
    r"institution|employer|employee|citizen|subject|user|panel|office|secretariat|overseer|director|auditor|"
    r"holder|party|parties|buyer|seller|supplier|customer|owner|tenant|landlord|applicant|organisation|steward|"
    r"contractor|licensee|licensor|lender|borrower|recipient|contributor|countr|union|government|enterprise|forum"
)
_AGENT_HEAD = re.compile(rf"(?:[A-Z]|.*\b(?:{_HEADS}))")
_ACTING = re.compile(rf"(?i)(?:{_HEADS}|SMEs?|staff|ESAs?|ENISA|CSIRT)")
# Things that contracts and licences write with a capital.
_THING = re.compile(
    r"\b(?:Programs?|Software|Works?|Licen[cs]es?|Agreements?|Contributions?|Librar(?:y|ies)|Documents?|Products?|"
    r"Services?|Fees?|Contracts?|Premises|Property|Deposit|Rent|Terms?|Code|Source|Information|Data|Materials?|"
    r"Versions?|Sections?|Packages?|Modifications?|Covers?|Texts?|Goods|Date|Bill|Ordinance|Proclamation|"
    r"Resolution|Treaty|Annex|Fund|acting)$"
)
# Nouns that only their reference tells apart: `the decision [referred to in paragraph 4]`.
_POINTED = (
    r"(?:notifications?|decisions?|reports?|lists?|measures?|findings?|recommendations?|requests?|authorisations?|"
    r"periods?|information|assessments?|procedures?|delegation|matters?|questions?|opinions?|results?|conclusions?|"
    r"powers|conditions|requirements|cases?|acts?|orders?|notices?|plans?|statements?|references?|provisions|"
    r"evaluations?|amounts?|sums?|forms?|tasks|rules|standards|activities|elements|details|objections?|proposals?|"
    r"drafts?|resolutions?|arrangements?|steps|reasons|circumstances|persons?|bodies|documents?|action|data|"
    r"certificates?|protocols?|declarations?|exercise|purposes?)"
)
_LITTLE = re.compile(
    rf"\b(?:the|its|their|that) (?:\w+[- ]month |relevant |same |national |\w+ly \w+ed )?{_POINTED}"
    r"(?: (?:taken|concerned|received|made|issued|adopted|supplied|obtained|available|necessary|required|"
    r"requested))?"
    r"(?=$|,| (?:is|are|has|have|to (?:the|a|an|each|any|its|their|all|[A-Z])|in|by|with|from|under|at|and|"
    r"or)\b)"
)
_BARE_ACTS = re.compile(
    r"\b(?:adopt|amend|take|pass) (?:an? )?(?:delegated|implementing) acts?$|"
    r"^(?:take|adopt|use) (?:[\w-]+ ){0,3}(?:steps|measures|action|decisions?)$"
)
_SPEAKERS = PRONOUNS | word_set("your our my yours ours")


def is_agent(text: str) -> bool:
    """Whether a noun phrase names a body or person who can be an answer to `who`."""
    if re.match(r"(?i)(?:it|they|he|she|this|that|these|those|such|there|nothing|both|all)\b", text):
        return False
    if not text or text.split()[0].lower() in _SPEAKERS or text.split()[-1].lower() in PRONOUNS:
        return False
    if re.search(
        r"\b(?:AI systems?|AI models?)$|^AI systems?\b|\b(?:membership|composition|concerned)\b", text
    ):
        return False
    if _THING.search(text) or re.search(
        r"(?:\bAct|\b[Ll]aw|[Cc]odes? of \w+|\border|\breport|\bacting)$", text
    ):
        return False
    if re.search(
        r"(?i)\b(?:referred|listed|paragraphs?|articles?|clauses?|points?|subparagraph|annex|shall|which|section|pursuant)\b",
        text,
    ):
        return False
    bare = re.sub(r"^(?:[Tt]he|[Aa]n?|[Ee]ach|[Ee]very|[Aa]ny|[Nn]o) ", "", text)
    first = bare.split()[0] if bare else ""
    if re.match(r"[a-z-]+ (?:made|of|to|under|adopted|issued)\b", bare) and not _AGENT_HEAD.match(first):
        return False
    head = re.split(r" (?:of|for|in|to|on|under|with|within|from|by|at|,) ", bare)[0].split()
    if head and bare[0].isupper() and head[-1][0].islower() and not _ACTING.search(head[-1]):
        return False  # `EU database`
    return _AGENT_HEAD.match(bare) is not None and not re.match(
        r"(?i)the (?:said|same|latter|former)\b", text
    )


def acts(subject: str) -> bool:
    """Whether a subject can be obliged or allowed: a party, or whoever speaks or is spoken to."""
    return subject.lower() in PRONOUNS or is_agent(subject)


def is_body(text: str) -> bool:
    """Whether a party is an authority."""
    return (
        re.search(
            r"(?i)\b(?:authorit|commission|court|board|council|parliament|legislature|agency|group|committee|office|enisa|team|esas?)",
            text,
        )
        is not None
    )


def lost_pointer(phrase: str, rest: str) -> bool:
    """Whether which one is meant stood in a reference that the phrase has lost: `exercise the powers`."""
    if without_references(rest) == rest:
        return False
    return re.search(r"\b(?:the|an?|any|each|all) [a-z-]+(?: [a-z-]+)?(?: available)?$", phrase) is not None


def pointed_end(phrase: str, predicate: str) -> bool:
    """Whether a reference tells which one the phrase ends with: `a finding [under paragraph 1]`."""
    last = " ".join(phrase.split()[-2:])
    if re.match(r"(?:the|an?|any|each) ", last) is None:
        return False
    pointer = r" (?:under|referred to|pursuant to|issued|adopted|taken|laid down)\b"
    return re.search(re.escape(last) + pointer, predicate) is not None


def says_little(phrase: str) -> bool:
    """Whether a phrase leans on what only its context tells: `the decision`, `the measures taken`."""
    return _LITTLE.search(phrase) is not None or _BARE_ACTS.search(phrase) is not None


def narrowed(phrase: str, rest: str) -> bool:
    """Whether a relative clause that narrowed a phrase was cut: `use only data [that is necessary]`."""
    whole = without_references(rest)
    at = whole.find(" ".join(phrase.split()[1:])) if len(phrase.split()) > 1 else -1
    if at < 0:
        return False
    after = whole[at + len(" ".join(phrase.split()[1:])) :]
    return (
        re.match(
            r",? (?:(?:in|to|with|for|on|by|of|from|under) )?(?:that|which|who|whose|whom|where)\b", after
        )
        is not None
    )
