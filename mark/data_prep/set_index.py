"""Sets of hashes, found by what they share with another set without reading all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]


class SetIndex:
    """Which sets share a given part of another set; exact, since candidates come by the pigeonhole principle.

    Of a set of n elements that must share s of them, any n - s + 1 elements hold a shared one. So only the
    sets that hold one of the rarest n - s + 1 elements are counted: of a passage these occur nearly nowhere
    else, while phrases that stand in every tenth passage are not followed at all.

    Source: Chaudhuri, Ganti and Kaushik 2006, "A primitive operator for similarity joins in data cleaning",
    section 4 (prefix filter).
    """

    def __init__(self, sets: Sequence[Hashes], share: float, of_smaller: bool) -> None:
        """Index sets; about 20 bytes an element.

        Args:
            sets: uint64 [elements] each, without repetitions.
            share: What two sets must have in common, in (0, 1].
            of_smaller: Share of the smaller set, not of the larger one.
        """
        self._share = share
        self.sizes = np.array([len(part) for part in sets], dtype=np.int64)
        self._ends = np.cumsum(self.sizes)
        joined = np.concatenate(sets) if len(sets) else np.empty(0, dtype=np.uint64)
        order = np.argsort(joined, kind="stable")
        joined = joined[order]
        first = np.ones(len(joined), dtype=bool)  # of its element
        np.not_equal(joined[1:], joined[:-1], out=first[1:])
        self._elements = joined[first]
        self._starts = np.append(np.flatnonzero(first), len(joined)).astype(np.int32)
        terms = np.empty(len(joined), dtype=np.int32)
        terms[order] = np.cumsum(first, dtype=np.int32) - 1
        self._terms = terms  # elements by number, set after set
        owners = np.repeat(np.arange(len(sets), dtype=np.int32), self.sizes)
        self._owners = owners[order]  # sets by element
        self._looked_for = np.zeros(len(self._elements), dtype=bool)
        self._rare = self._rarest() if of_smaller else None

    def _rarest(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Elements, ascending, and the sets of whose rarest elements they are."""
        often = np.diff(self._starts)
        kept, owners = [], []
        for row, (end, size) in enumerate(zip(self._ends.tolist(), self.sizes.tolist(), strict=True)):
            terms = self._terms[end - size : end]
            telling = self._telling(size)
            if telling < size:
                terms = terms[np.argpartition(often[terms], telling - 1)[:telling]]
            kept.append(terms)
            owners.append(np.full(len(terms), row, dtype=np.int32))
        if not kept:
            return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32)
        joined = np.concatenate(kept)
        order = np.argsort(joined, kind="stable")
        return joined[order], np.concatenate(owners)[order]

    def _telling(self, size: int) -> int:
        """How many elements of a set are looked at: one of them is shared wherever enough is."""
        return size - math.ceil(self._share * size - 1e-9) + 1 if size else 0

    def sharing(self, own: Hashes) -> tuple[Rows, Rows]:
        """Sets that share enough with this one.

        Args:
            own: uint64 [elements], without repetitions.

        Returns:
            Their numbers, ascending, and the elements shared with each; among them are all that share the
            wanted part, and perhaps others.
        """
        none = np.empty(0, dtype=np.int64)
        if not len(own) or not len(self._elements):
            return none, none
        places = np.minimum(np.searchsorted(self._elements, own), len(self._elements) - 1)
        terms = places[self._elements[places] == own]
        found = [self._by_rarest_of(terms, len(own))]
        if self._rare is not None:
            rare, owners = self._rare
            low, high = np.searchsorted(rare, terms, "left"), np.searchsorted(rare, terms, "right")
            found.append(owners[ranges(low, high)])
        rows = np.unique(np.concatenate(found)).astype(np.int64)
        return (rows, self._shared(terms, rows)) if len(rows) else (none, none)

    def _by_rarest_of(self, terms: Rows, size: int) -> NDArray[np.int32]:
        """Owners of the rarest elements of the set looked for; elements that nobody has are its rarest."""
        followed = self._telling(size) - (size - len(terms))
        if followed <= 0:
            return np.empty(0, dtype=np.int32)
        low, high = self._starts[terms], self._starts[terms + 1]
        if followed < len(terms):
            rare = np.argpartition(high - low, followed - 1)[:followed]
            low, high = low[rare], high[rare]
        return self._owners[ranges(low, high)]

    def _shared(self, terms: Rows, rows: Rows) -> Rows:
        self._looked_for[terms] = True
        ends, sizes = self._ends[rows], self.sizes[rows]
        hits = self._looked_for[self._terms[ranges(ends - sizes, ends)]]
        self._looked_for[terms] = False
        shared: Rows = np.add.reduceat(hits, np.cumsum(sizes) - sizes, dtype=np.int64)
        return shared


def ranges(starts: NDArray[np.integer], ends: NDArray[np.integer]) -> Rows:
    """The whole numbers of half-open ranges, one after the other."""
    lengths = (ends - starts).astype(np.int64)
    before = np.cumsum(lengths) - lengths
    found: Rows = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(starts - before, lengths)
    return found
