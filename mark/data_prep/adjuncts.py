"""What hangs on a clause: conditions, exceptions, deadlines, purposes, references, manners."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

AdjunctKind = Literal["condition", "exception", "deadline", "purpose", "reference", "manner"]

_NUMBER = (
    r"(?:\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|twelve|fourteen|fifteen|"
    r"thirty|sixty|ninety)"
)
_STARTERS: list[tuple[AdjunctKind, str]] = [
    ("exception", r"unless|except|save (?:as|where|that|in|with)|with the exception of|provided, however"),
    (
        "condition",
        r"in (?:the )?cases? (?:where|of|in which)|in the event (?:of|that)|provided that|on condition that|"
        r"only (?:if|where|when|after)|as soon as|as long as|so long as|to the extent that|in so far as|"
        r"insofar as|whenever|if|when|where|upon (?:request|receipt|receiving|becoming|completion|"
        r"expiry|notification|the (?:request|receipt|expiry|adoption|application|entry))|once (?=the|"
        r"a|an|it|they)|before|after|until|prior to|during|while",
    ),
    (
        "purpose",
        r"in order to|in order that|so as to|so that|with a view to|with the aim of|for the purposes? of|"
        r"to ensure that",
    ),
    (
        "deadline",
        rf"within (?:the )?(?:a (?:maximum )?(?:period|reasonable)|{_NUMBER}|one|the period)|"
        rf"(?:no|not) later than|at the latest|by \d{{1,2}} [A-Z][a-z]+ \d{{4}}|at least (?:once )?every|"
        rf"(?:and |once )?every {_NUMBER}|every (?:year|two|three)|at least once|annually|"
        rf"for (?:a (?:maximum |minimum |further )?period|at least {_NUMBER} (?:years|months|days)|"
        rf"{_NUMBER} (?:years|months|days)|the term|a term)|from \d{{1,2}} [A-Z][a-z]+ \d{{4}}|"
        r"without (?:undue |unnecessary |further )?delay|immediately|as early as",
    ),
    (
        "reference",
        r"in accordance with|pursuant to|under (?:Article|article|paragraph|clause|point|section|"
        r"Section|Chapter"
        r"|this|that|those|the (?:first|second))|"
        r"as (?:referred to|provided|set out|laid down|defined|specified|required|described) |"
        r"within the meaning of|by virtue of|subject to|without prejudice to|notwithstanding|"
        r"in compliance with|in conformity with|on the basis of|in the light of",
    ),
    (
        "manner",
        r"by means of|taking into account|taking due account|having regard to|in particular|including|"
        r"as well as|as appropriate|where appropriate|where applicable|where relevant|where feasible|"
        r"where necessary|in cooperation with|in consultation with|after consultation|after consulting|"
        r"at least by|on request|upon request|inter alia|together with|such as|together|respectively|thereby|"
        r"with regard to|in relation to|irrespective of|regardless of|on behalf of|using|depending on|"
        r"based on",
    ),
]
EMPTY_CONDITION = re.compile(
    r"^(?:where|if|when|as) (?:appropriate|applicable|relevant|feasible|necessary|possible|needed|so "
    r"required|"
    r"justified|any|available|technically feasible|duly justified|deemed)\b",
    re.I,
)
_STARTER = re.compile(
    r"(?:(?<=, )|(?<= ))(?:" + "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _STARTERS) + r")\b"
)
LEADING = re.compile(
    r"^(?:" + "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _STARTERS) + r")\b", re.I
)
_RELATIVE_WHERE = re.compile(
    r"(?:State|place|country|territory|area|law|sector|market|establishment|premises|language|points?|"
    r"cases?) $"
)
_CLAUSE_END = re.compile(r",? (?:and|or|but) (?:shall|may|must|no|nothing|such|if|in|for this|any such)\b.*$")


@dataclass(frozen=True)
class Adjunct:
    """A piece of a clause that tells when, why, by when or under which rule."""

    kind: AdjunctKind
    text: str  # verbatim, from its starter on


def split_adjuncts(text: str) -> tuple[str, list[Adjunct]]:
    """Object and complements, then the adjuncts that follow them.

    A condition, exception or purpose takes in what follows it, up to an exception or a condition
    after a comma.
    """
    cuts: list[tuple[int, AdjunctKind]] = []
    if leading := LEADING.match(text):
        cuts.append((0, kind_of(leading)))
    for match in _STARTER.finditer(text):
        if depth(text, match.start()) > 0 or _is_relative(text, match):
            continue
        kind = kind_of(match)
        after_comma = text[: match.start()].endswith(", ")
        inside = cuts and cuts[-1][1] in ("condition", "exception", "purpose") and kind != "exception"
        if inside and not (after_comma and kind in ("condition", "deadline")):
            continue
        cuts.append((match.start(), kind))
    if not cuts:
        return text.strip(" ,"), []
    ends = [start for start, _ in cuts[1:]] + [len(text)]
    adjuncts = [
        Adjunct(
            kind,
            re.sub(r",?(?: and| or)?$", "", _CLAUSE_END.sub("", text[start:end].strip(" ,"))).strip(" ,"),
        )
        for (start, kind), end in zip(cuts, ends, strict=True)
    ]
    return text[: cuts[0][0]].strip(" ,"), adjuncts


def _is_relative(text: str, match: re.Match[str]) -> bool:
    before = text[: match.start()]
    if match.group() == "where" and not before.endswith(", "):
        return _RELATIVE_WHERE.search(before) is not None
    if match.group() in ("during", "before", "after", "until"):
        if re.search(r"(?:hours?|days?|weeks?|months?|years?) $", before):
            return True
        return before.endswith(("and ", "or ", "the day ", "day ", "brought ", "come ", "laid ", "one "))
    return before.endswith((" and ", " or ")) and match.group() in ("in particular", "including")


def kind_of(match: re.Match[str]) -> AdjunctKind:
    """Which starter of `LEADING` or `_STARTER` matched."""
    for kind, _ in _STARTERS:
        if match.group(kind) is not None:
            return kind
    raise AssertionError("a starter matched without its kind")


def depth(text: str, position: int) -> int:
    """How many brackets are open at a position."""
    head = text[:position]
    return head.count("(") - head.count(")")
