"""Which documents or sections are trained on, validated on and tested on: decided before any question."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mark.config import DataPrep
from mark.errors import ConfigError, DataError
from mark.files import read_json
from mark.records import Chunk, Split
from mark.seeding import derived_seed

AUTO_DOCUMENTS = 10  # from so many documents on, `auto` splits by document

Section = tuple[str, str]  # document, section


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

    def of(self, chunk: Chunk) -> Split:
        """The split that a chunk belongs to."""
        return self.of_section[chunk.document, chunk.section]


def assign_splits(chunks: Sequence[Chunk], settings: DataPrep, held_out: HeldOut, seed: int) -> Splits:
    """Give every section its split.

    By document from `AUTO_DOCUMENTS` on (or as `split_by` says), else by section. Held-out documents
    are test as a whole; held-out sections go where their questions are. What is held out counts
    towards the shares.

    Args:
        chunks: The whole corpus.
        settings: Shares and what is held out.
        held_out: Sections cited by hand-written questions; those that the corpus lacks are ignored.
        seed: The run's seed.

    Raises:
        ConfigError: `held_out_documents` names a document that the corpus lacks.
    """
    documents = sorted({chunk.document for chunk in chunks})
    _check_documents(settings.held_out_documents, documents)
    sections = sorted({(chunk.document, chunk.section) for chunk in chunks})
    fixed: dict[Section, Split] = {}
    for section in sections:
        if section[0] in settings.held_out_documents or section in held_out.test:
            fixed[section] = "test"
        elif section in held_out.val:
            fixed[section] = "val"
    by = settings.split_by
    if by == "auto":
        by = "document" if len(documents) >= AUTO_DOCUMENTS else "section"
    if by == "section":
        return Splits(_draw(sections, fixed, settings, seed), by)
    of_document: dict[Section, Split] = {(name, ""): "test" for name in settings.held_out_documents}
    drawn = _draw([(name, "") for name in documents], of_document, settings, seed)
    return Splits({section: fixed.get(section, drawn[section[0], ""]) for section in sections}, by)


def _draw(
    units: Sequence[Section], fixed: dict[Section, Split], settings: DataPrep, seed: int
) -> dict[Section, Split]:
    """Fill test, then val, up to their shares with units in a seeded order; the rest is train."""
    result: dict[Section, Split] = {unit: fixed[unit] for unit in units if unit in fixed}
    free = sorted((u for u in units if u not in fixed), key=lambda u: (derived_seed(seed, "split", *u), u))
    shares: list[tuple[Split, float]] = [("test", settings.test_share), ("val", settings.val_share)]
    for name, share in shares:
        wanted = round(share * len(units))
        if share > 0 and len(units) >= 3:
            wanted = max(wanted, 1)
        missing = max(0, wanted - sum(split == name for split in result.values()))
        for unit in free[:missing]:
            result[unit] = name
        free = free[missing:]
    for unit in free:
        result[unit] = "train"
    return result


def _check_documents(names: Sequence[str], documents: Sequence[str]) -> None:
    for name in names:
        if name not in documents:
            near = difflib.get_close_matches(name, documents, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"found: {', '.join(documents)}"
            raise ConfigError(f"data_prep.held_out_documents: {name!r} is no document of the corpus; {hint}")
