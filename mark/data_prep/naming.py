"""Short names of documents, derived from their titles, as people say them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from mark.data_prep.words import word_set

_KINDS = word_set(
    """regulation directive act constitution law code treaty convention agreement contract policy charter
    statute ordinance decree rules protocol guidelines terms license licence lease"""
)
_SELF = re.compile(
    r"\b[Tt]his (Regulation|Directive|Constitution|Act|Law|Code|Agreement|Convention|Policy|Treaty|"
    r"Licen[cs]e|Contract|Lease)\b"
)


@dataclass(frozen=True)
class DocumentNames:
    """How a question may call a document."""

    names: tuple[str, ...]  # with article: "the GDPR", "DORA", "the Constitution of India"
    terse: str  # "GDPR"

    def replace_self(self, text: str, name: str) -> str:
        """`this Regulation` -> the document's name."""
        return _SELF.sub(name, text)


def document_names(title: str, tokens: Collection[str] = ()) -> DocumentNames:
    """Names for a title.

    Args:
        title: As in `Chunk.title`, e.g. `General Data Protection Regulation (GDPR)`.
        tokens: Upper-case words of the corpus: they tell which initials are in use.
    """
    title = " ".join(title.replace("_", " ").split())
    match = re.match(r"^(?P<long>.+?)\s*\((?P<short>[A-Z][\w .&-]{1,24})\)$", title)
    if match and not re.fullmatch(r"EU|EC|EEC|UK|US", match.group("short")):
        short = match.group("short")
        return DocumentNames(
            (_with_article(short), _with_article(short), _with_article(match.group("long"))), short
        )
    words = title.split()
    names = [_with_article(title)]
    terse = title
    if len(words) > 1 and words[-1].lower() in _KINDS:
        before = words[:-1]
        initials = "".join(word[0] for word in words if word[0].isupper())
        inner = "".join(word[0] for word in before if word[0].isupper())
        if re.search(r"\d", " ".join(before)) and len(before) <= 3:
            terse = "".join(before)
            names += [terse, " ".join(before)]
        elif len(inner) >= 2 and inner in tokens:
            terse = f"{inner} {words[-1]}"
            names += [f"the {terse}"] * 2
        elif 3 <= len(initials) <= 5 and len(initials) == len(words):
            terse = initials
            names += [_with_article(initials)] * 2
    of = re.match(r"^(\w+) of .+$", title)
    if of and of.group(1).lower() in _KINDS:
        names += [f"the {of.group(1)}"]
    return DocumentNames(tuple(names), terse)


def _with_article(name: str) -> str:
    if name.lower().startswith(("the ", "our ", "my ")):
        return name[0].lower() + name[1:]
    words = name.lower().split()
    if any(word.strip("().,") in _KINDS for word in words):
        return f"the {name}"
    if len(words) == 1 and name.isupper() and name.isalpha() and not _pronounceable(name):
        return f"the {name}"
    return name


def _pronounceable(acronym: str) -> bool:
    """`DORA` is said as a word, `GDPR` and `CRA` are spelt."""
    pattern = "".join("v" if letter in "AEIOU" else "c" for letter in acronym)
    return len(acronym) >= 4 and "ccc" not in pattern and "cc" not in pattern[-2:] and "v" in pattern
