"""Which documents or sections are trained on, validated on and tested on: decided before any question."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mark.config import DataPrep
from mark.errors import ConfigError, DataError
from mark.files import read_json
from mark.records import Chunk, Split
from mark.seeding import derived_seed

log = logging.getLogger(__name__)

AUTO_DOCUMENTS = 10  # from so many documents on, `auto` splits by document
LARGEST_CLUSTER = 0.5  # most of the sections that one cluster may hold and still go to one split as a whole

# The splits of which a split must know nothing.
HIDDEN: dict[Split, tuple[Split, ...]] = {"train": ("test", "val"), "val": ("test",), "test": ()}

Section = tuple[str, str]  # document, section
Unit = tuple[str, str | None]  # first of a document's versions, and a section; None = all its sections


@dataclass(frozen=True)
class HeldOut:
    """Sections that hand-written questions cite."""

    test: frozenset[Section] = frozenset()
    val: frozenset[Section] = frozenset()

    @classmethod
    def read(cls, path: Path) -> HeldOut:
        """Read data/held_out_sections.json; a missing file holds nothing out.

        Raises:
            DataError: The file does not have the form `{"test": [[document, section]], "val": []}`.
        """
        if not path.is_file():
            return cls()
        value = read_json(path)
        try:
            test, val = ({(str(d), str(s)) for d, s in value.get(name, [])} for name in ("test", "val"))
        except (AttributeError, TypeError, ValueError):
            raise DataError(
                f'{path}: {{"test": [[document, section], ...], "val": [...]}} expected; mend the file'
            ) from None
        return cls(frozenset(test), frozenset(val - test))


@dataclass(frozen=True)
class Splits:
    """The split of every section of the corpus."""

    of_section: dict[Section, Split]
    by: str  # "document" or "section"
    clusters: tuple[tuple[str, ...], ...] = ()  # documents that are versions of one another

    def of(self, chunk: Chunk) -> Split:
        """The split that a chunk belongs to."""
        return self.of_section[chunk.document, chunk.section]


def assign_splits(
    chunks: Sequence[Chunk],
    settings: DataPrep,
    held_out: HeldOut,
    seed: int,
    clusters: Sequence[Sequence[str]] = (),
) -> Splits:
    """Give every section its split.

    By document from `AUTO_DOCUMENTS` on (or as `split_by` says), else by section. Versions of one
    document count as one and go to one split as a whole; where they hold most of the corpus's sections
    and sections are drawn, the sections of one name go together instead. Held-out documents are test
    as a whole, their versions with them; held-out sections go where their questions are, with the
    sections of that name in other versions. What is held out counts towards the shares.

    Args:
        chunks: The whole corpus.
        settings: Shares and what is held out.
        held_out: Sections cited by hand-written questions; those that the corpus lacks are ignored.
        seed: The run's seed.
        clusters: Of `versions.document_clusters`.

    Raises:
        ConfigError: `held_out_documents` names a document that the corpus lacks.
    """
    documents = sorted({chunk.document for chunk in chunks})
    _check_documents(settings.held_out_documents, documents)
    sections = sorted({(chunk.document, chunk.section) for chunk in chunks})
    head = {name: group[0] for group in map(sorted, clusters) for name in group}
    heads = {name: head.get(name, name) for name in documents}
    fixed = _fixed(sections, heads, settings, held_out)
    by = settings.split_by
    if by == "auto":
        by = "document" if len(set(heads.values())) >= AUTO_DOCUMENTS else "section"
    units: dict[Section, Unit] = {section: (heads[section[0]], None) for section in sections}
    known: dict[Unit, Split] = {(heads[name], None): "test" for name in settings.held_out_documents}
    sizes: Counter[Unit] = Counter((name, None) for name in heads.values())
    if by == "section":
        units = _section_units(sections, heads)
        known = {units[section]: split for section, split in fixed.items() if units[section][1] is not None}
        sizes = Counter(units.values())
    drawn = _draw(sizes, known, settings, seed)
    of_section = {section: fixed.get(section) or drawn[units[section]] for section in sections}
    return Splits(of_section, by, tuple(tuple(sorted(group)) for group in clusters))


def _fixed(
    sections: Sequence[Section], heads: Mapping[str, str], settings: DataPrep, held_out: HeldOut
) -> dict[Section, Split]:
    """What is held out, in all versions of a document."""
    tested = {heads[name] for name in settings.held_out_documents}
    test = {(heads[d], s) for d, s in held_out.test if d in heads}
    val = {(heads[d], s) for d, s in held_out.val if d in heads}
    fixed: dict[Section, Split] = {}
    for section in sections:
        twin = (heads[section[0]], section[1])
        if twin[0] in tested or twin in test:
            fixed[section] = "test"
        elif twin in val:
            fixed[section] = "val"
    return fixed


def _section_units(sections: Sequence[Section], heads: Mapping[str, str]) -> dict[Section, Unit]:
    """What is drawn as one: a section, or all versions of a document."""
    versions = Counter(heads.values())
    held = Counter(heads[document] for document, _ in sections)
    units: dict[Section, Unit] = {}
    for document, name in sections:
        root = heads[document]
        whole = versions[root] > 1 and held[root] <= LARGEST_CLUSTER * len(sections)
        units[document, name] = (root, None) if whole else (root, name)
    large = sorted(r for r in versions if versions[r] > 1 and held[r] > LARGEST_CLUSTER * len(sections))
    for root in large:
        log.warning(
            "the versions of %s hold most of the corpus: they are split by section, equal names together; "
            "add other documents, or set data_prep.held_out_documents",
            root,
        )
    return units


def _draw(
    sizes: Mapping[Unit, int], fixed: Mapping[Unit, Split], settings: DataPrep, seed: int
) -> dict[Unit, Split]:
    """Fill test, then val, up to their shares with units in a seeded order; the rest is train.

    A unit that is larger than what is missing is passed over; where a split would stay empty, the
    smallest goes to it, as long as train keeps one.
    """
    result: dict[Unit, Split] = {unit: fixed[unit] for unit in sizes if unit in fixed}
    free = sorted(
        (u for u in sizes if u not in fixed),
        key=lambda u: (derived_seed(seed, "split", u[0], u[1] or ""), u[0]),
    )
    total = sum(sizes.values())
    shares: list[tuple[Split, float]] = [("test", settings.test_share), ("val", settings.val_share)]
    for name, share in shares:
        wanted = round(share * total)
        if share > 0 and len(sizes) >= 3:
            wanted = max(wanted, 1)
        missing = max(0, wanted - sum(sizes[unit] for unit, split in result.items() if split == name))
        taken: list[Unit] = []
        for unit in free:
            if sizes[unit] <= missing:
                taken.append(unit)
                missing -= sizes[unit]
        if wanted and name not in result.values() and not taken and len(free) > 1:
            taken = [min(free, key=lambda unit: sizes[unit])]
        result |= dict.fromkeys(taken, name)
        free = [unit for unit in free if unit not in result]
    return result | dict.fromkeys(free, "train")


def _check_documents(names: Sequence[str], documents: Sequence[str]) -> None:
    for name in names:
        if name not in documents:
            near = difflib.get_close_matches(name, documents, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"found: {', '.join(documents)}"
            raise ConfigError(f"data_prep.held_out_documents: {name!r} is no document of the corpus; {hint}")
