"""Cross-references inside a document: `Article 5(1)`, `section 12`, `paragraph 2`, `subsection (b)`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mark.data_prep.sentences import Statement, statements
from mark.records import Chunk

_UNIT = r"(?:[Aa]rticle|[Ss]ection|[Cc]lause|[Rr]ule|[Ss]ec\.|§)"
_NUMBER = r"\d+[A-Z]{0,3}(?:\.\d+)*"
_OWN = (
    r"(?: (?:of|in) (?:this|the) (?:Regulation|Directive|Act|Constitution|Agreement|Law|Code|Contract|Lease|"
    r"Policy))?"
)
# Another document's provision, or several provisions at once.
_FOREIGN = (
    r"(?!\w|[.]\d|\()(?! ?(?:,|and|or|to|of|TFEU|TEU|ECHR) ?(?:paragraphs?|points?|[Aa]rticles?|"
    r"[Ss]ections?|\(|\d|"
    r"(?:Council |Delegated |Implementing )?(?:Regulation|Directive|Decision|Framework)|the Treaty|"
    r"the Charter|"
    r"the (?:[A-Z]\w+ )+Act|that|those|[A-Z]))"
)
_LONG = re.compile(
    rf"\b{_UNIT} ?(?P<number>{_NUMBER})(?P<inner>(?:\(\w{{1,4}}\))*){_OWN}{_FOREIGN}(?! TFEU| TEU|, "
    rf"(?:point|paragraph))"
)
_SHORT = re.compile(
    rf"\b(?:[Pp]aragraph|[Ss]ub-?section|[Cc]lause|[Ss]ub-clause) (?P<inner>\(\w{{1,3}}\)|\d{{1,2}})"
    rf"(?: of this (?:[Aa]rticle|[Ss]ection))?{_FOREIGN}(?! of)"
)


@dataclass(frozen=True)
class Reference:
    """A pointer to one provision of the same document."""

    text: str  # verbatim
    start: int  # in the statement
    number: str  # of the section, "" for the statement's own
    inner: tuple[str, ...]  # ("1", "a") of `Article 5(1)(a)`


def references(text: str) -> list[Reference]:
    """Pointers to single provisions of the same document, in reading order.

    `Articles 5 and 6`, and whatever belongs to another act, are left out.
    """
    found = [
        Reference(m.group(), m.start(), m.group("number"), tuple(re.findall(r"\w+", m.group("inner"))))
        for m in _LONG.finditer(text)
    ]
    taken = {at for ref in found for at in range(ref.start, ref.start + len(ref.text))}
    found += [
        Reference(m.group(), m.start(), "", tuple(re.findall(r"\w+", m.group("inner"))))
        for m in _SHORT.finditer(text)
        if m.start() not in taken
    ]
    return sorted(found, key=lambda ref: ref.start)


class Provisions:
    """Finds what a reference points to.

    Args:
        chunks: Those that may be asked about.
        group_of: Chunk id -> group (the split): a reference never leaves its group, so that no training
            question is made from held-out text. Without it, no reference leaves its own section.
    """

    def __init__(self, chunks: Sequence[Chunk], group_of: Mapping[str, str] | None = None) -> None:
        self._group_of = group_of
        self._by_number: defaultdict[tuple[str, str], list[Chunk]] = defaultdict(list)
        for chunk in chunks:
            if number := section_number(chunk.section):
                self._by_number[chunk.doc_id, number].append(chunk)
        self._read: dict[str, list[Statement]] = {}

    def find(self, reference: Reference, origin: Chunk) -> list[tuple[Chunk, Statement]]:
        """The whole statements of the provision with their passages; empty where it cannot be told."""
        number = reference.number or section_number(origin.section)
        chunks = self._by_number.get((origin.doc_id, number), [])
        if len({c.section for c in chunks}) != 1 or len(reference.inner) > 1:
            return []  # `Section 1` of several chapters; a point of a paragraph reads only with its lead
        found: list[tuple[Chunk, Statement]] = []
        level: int | None = None if reference.inner else -2
        for chunk in chunks:
            if not self._may_see(origin, chunk):
                return []
            for statement in self._statements(chunk):
                if reference.inner and statement.marker:
                    named = statement.marker.strip("(.)") == reference.inner[0]
                    if named and level is None:
                        level = statement.level
                    elif not named and level is not None and statement.level <= level:
                        return found
                if level is not None and not statement.cut:
                    found.append((chunk, statement))
        return found

    def _may_see(self, origin: Chunk, chunk: Chunk) -> bool:
        if self._group_of is None:
            return origin.section == chunk.section
        return self._group_of[origin.chunk_id] == self._group_of[chunk.chunk_id]

    def _statements(self, chunk: Chunk) -> list[Statement]:
        if chunk.chunk_id not in self._read:
            self._read[chunk.chunk_id] = statements(chunk)
        return self._read[chunk.chunk_id]


def section_number(section: str) -> str:
    """`Article 17` -> `17`, `Section 1798.100` -> `1798.100`; "" where there is none."""
    match = re.search(rf"(?:^|\s|§ ?)({_NUMBER})$", section)
    return match.group(1) if match and not section.startswith(("Annex", "Schedule", "Appendix")) else ""
