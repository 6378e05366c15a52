"""Copies of passages and questions, changed as leaks are changed in practice."""

from __future__ import annotations

import random
import re

REWORDINGS = [
    (r"\bshall not be\b", "must never be"), (r"\bshall not\b", "must never"), (r"\bshall be\b", "has to be"),
    (r"\bshall\b", "must"), (r"\bmay not\b", "is not allowed to"), (r"\bmay\b", "is permitted to"),
    (r"\bMust\b", "Does it have to be that"), (r"\bwithin\b", "in no more than"),
    (r"\bnot later than\b", "before the end of"), (r"\bno later than\b", "before the end of"),
    (r"\bin accordance with\b", "following"), (r"\bpursuant to\b", "under"), (r"\breferred to in\b", "named in"),
    (r"\bprovided for in\b", "set by"), (r"\bwith regard to\b", "about"), (r"\bin respect of\b", "concerning"),
    (r"\bwhere\b", "if"), (r"\bWhere\b", "If"), (r"\bwhen\b", "as soon as"), (r"\bprior to\b", "before"),
    (r"\bconcerned\b", "in question"), (r"\binform\b", "tell"), (r"\bnotify\b", "alert"),
    (r"\bprovide\b", "supply"), (r"\bensure\b", "make sure"), (r"\bestablish\b", "set up"),
    (r"\bdetermine\b", "decide"), (r"\brequest\b", "demand"), (r"\bobtain\b", "get"), (r"\bsubmit\b", "hand in"),
    (r"\bincluding\b", "among them"), (r"\bappropriate\b", "fitting"), (r"\bnecessary\b", "needed"),
    (r"\brelevant\b", "pertinent"), (r"\bmeasures\b", "steps"), (r"\bpersons?\b", "people"),
    (r"\bsuch\b", "this kind of"), (r"\bany\b", "every"), (r"\beach\b", "every single"), (r"\ball\b", "the whole of"),
    (r"\bdays\b", "days' time"), (r"\bat least\b", "a minimum of"), (r"\bperiod\b", "span"),
    (r"\band\b", "as well as"), (r"\bor\b", "or else"), (r"\bof the\b", "belonging to the"), (r"\bby the\b", "from the"),
    (r"\bto the\b", "towards the"), (r"\bin the\b", "within the"), (r"\bon the\b", "upon the"), (r"\bis\b", "counts as"),
    (r"\bHow long\b", "For what time"), (r"\bWho\b", "Which party"), (r"\bWhat\b", "Which thing"),
    (r"\bhas to\b", "needs to"), (r"\bmust\b", "is obliged to"),
]  # fmt: skip


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.;:])\s+|\n+", text) if part.strip()]


def exact(text: str, rng: random.Random) -> str:
    """The same characters."""
    return text


def retyped(text: str, rng: random.Random) -> str:
    """Case, white space and punctuation changed."""
    changed = re.sub(r"[,;:()‘’'\"]", "", text)
    changed = re.sub(r" ", lambda _: rng.choice([" ", "  ", "\n", "\u00a0"]), changed)
    return rng.choice([changed.upper(), changed.lower(), changed.title()])


def word_replaced(text: str, rng: random.Random) -> str:
    """One word becomes another."""
    found = text.split(" ")
    found[rng.randrange(len(found))] = rng.choice(["supplier", "always", "other", "records"])
    return " ".join(found)


def reordered(text: str, rng: random.Random) -> str:
    """The sentences in another order."""
    parts = _sentences(text)
    rng.shuffle(parts)
    return " ".join(parts)


def cut(text: str, rng: random.Random) -> str:
    """A third of the sentences left out; of one sentence, its last third."""
    parts = _sentences(text)
    if len(parts) < 3:
        found = text.split()
        return " ".join(found[: max(1, 2 * len(found) // 3)])
    for _ in range(len(parts) // 3):
        parts.pop(rng.randrange(len(parts)))
    return " ".join(parts)


def reworded(text: str, rng: random.Random) -> str:
    """Other words throughout; the numbers stay."""
    for pattern, other in REWORDINGS:
        text = re.sub(pattern, other, text)
    return text


KINDS = {
    "exact": exact, "retyped": retyped, "word replaced": word_replaced, "reordered": reordered, "cut": cut,
    "reworded": reworded,
}  # fmt: skip
