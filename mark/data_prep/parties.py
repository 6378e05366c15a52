"""Who acts in a legal text, and which phrases say too little when they stand alone."""

from __future__ import annotations

import re

from mark.data_prep.phrases import without_references
from mark.data_prep.verbs import PRONOUNS
from mark.data_prep.words import word_set

# Nouns for who acts; `-or`, `-er`, `-ee` and their like are told by their ending.
_HEADS = (
    r"authorit(?:y|ies)|bod(?:y|ies)|persons?|people|commission|courts?|boards?|councils?|states?|presidents?|"
    r"chairs?|parliaments?|legislatures?|houses?|judges?|entit(?:y|ies)|compan(?:y|ies)|undertakings?|"
    r"representatives?|agenc(?:y|ies)|teams?|groups?|institutions?|citizens?|subjects?|panels?|offices?|"
    r"secretariats?|part(?:y|ies)|organi[sz]ations?|stewards?|countr(?:y|ies)|unions?|governments?|enterprises?|"
    r"forums?|landlords?|banks?|schools?|universit(?:y|ies)|hospitals?|attorneys?|firms?|associations?|"
    r"corporations?|foundations?|societ(?:y|ies)|partnerships?|heirs?|spouses?|parents?|child(?:ren)?|"
    r"individuals?|businesses|delegates?|spokes\w+|[a-z]*(?:wo)?m[ae]n|heads?|staff|SMEs?|ESAs?|ENISA|CSIRTs?|"
    r"clerks?|witness(?:es)?|experts?|guests?|hosts?|agents?|clients?|patients?|students?|residents?|recipients?|"
    r"respondents?|opponents?|incumbents?"
)
_ENDINGS = (
    r"(?:ten|applic|claim|defend|registr|merch|account|particip|occup|consult|serv|inform|complain)ants?|"
    r"(?:scient|journal|pharmac|special|theor)ists?|(?:physic|technic|guard|custod|librar)ians?|"
    r"[a-z]{2,}(?:or|er|ee)s?"
)
# Nouns with such an ending that nobody is.
_NOBODY = word_set(
    """adapter anchor answer banner barrier behavior behaviour border browser buffer calendar cancer
    canister center chamber chapter character charter cluster coffee color compressor computer
    connector container converter corner corridor counter cover danger decoder decree degree
    detector diameter disaster disclaimer disorder door elevator encoder encounter error escalator
    factor favor fee fiber filter flavor floor folder footer gender generator guarantee harbor
    header heater helicopter honor humor identifier indicator labor ladder laser layer ledger letter
    liter litter mailer manner master matter merger meter mirror modifier monitor motor multiplier
    newsletter newspaper number offer order other paper parameter perimeter pointer poster power
    printer procedure projector qualifier quarter reactor register remainder reminder roster router
    scanner sector semester sensor server shelter shoulder shutter silver summer tender terror
    theater tier timber timer tower tractor trailer transfer transformer transistor tree trigger
    tumor vector waiver wallpaper water weather winter"""
)
_AGENT_WORD = re.compile(rf"(?i)(?:{_HEADS}|{_ENDINGS})")
# Things that contracts and licences write with a capital.
_THING = re.compile(
    r"\b(?:Leases?|Invoices?|Equipment|Royalt(?:y|ies)|Payments?|Interest|Arbitration|Notices?|Prices?|Orders?|"
    r"Deposits?|Warrant(?:y|ies)|Schedules?|Appendi(?:x|ces)|Exhibits?|Territor(?:y|ies)|Marks?|Trademarks?|"
    r"Patents?|Results?|Deliverables?|Systems?|Sites?|Vehicles?|Buildings?|Units?|Assets?|Shares?|Securities|"
    r"Loans?|Facilit(?:y|ies)|Commencement|Closing|Insurance|Programs?|Software|Works?|Licen[cs]es?|Agreements?|Contributions?|Librar(?:y|ies)|Documents?|Products?|"
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
_AFTER_HEAD = re.compile(r",? (?:of|for|in|to|on|under|with|within|from|by|at|or|and|that|who|as|other) |, ")
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
    if re.match(r"[a-z-]+ (?:made|of|to|under|adopted|issued)\b", bare) and not _names_agent(first):
        return False
    head = re.split(
        r",? (?:of|for|in|to|on|under|with|within|from|by|at|or|and|that|who|as|other) |, ", bare
    )[0].split()
    if not head or re.match(r"(?i)the (?:said|same|latter|former)\b", text):
        return False
    if bare[0].isupper() and not head[-1][0].islower():  # a name; `EU database` is none
        return True
    return _names_agent(head[-1])


def _names_agent(word: str) -> bool:
    """Whether a noun is a party or a body: `lessee`, `authorities`; not `statement`, `fees`."""
    low = word.lower()
    if low in _NOBODY or low.removesuffix("s") in _NOBODY:
        return False
    return _AGENT_WORD.fullmatch(word) is not None


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
