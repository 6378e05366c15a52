"""Which documents an adapter saw: in training, in validation, through retrieval only, or not at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from mark.errors import DataError
from mark.files import CHUNKS, MODELS, PASSAGES, PRACTICE_PASSAGES, TRAIN_SFT, VAL_SFT, iter_jsonl, read_jsonl
from mark.records import Chunk, Example
from mark.reproduce.origin import (
    EntryFolder,
    Locks,
    Origin,
    data_files,
    data_matches,
    entry_folders,
    example_folders,
    laid_out,
    made_by,
    origin_of,
)
from mark.reproduce.store import Store
from mark.rlhf.feedback import ACCEPTED, read_accepted

Seen = Literal["in training", "in validation only", "through retrieval only", "not at all", "unknown"]
STALE: tuple[Seen, ...] = ("in training", "in validation only", "unknown")  # once the document is removed
STARTED_FROM = "sft"  # in entry.json of an arm of RLHF: the entry that it was trained on from
_ID = 8  # hexadecimal digits of a document's id that name it


@dataclass(frozen=True)
class Use:
    """What a run did with a document.

    Attributes:
        asked: Training questions about it.
        shown: Training prompts in which a passage of it stands.
        validated: Validation questions about it, or with a passage of it; they chose the checkpoint.
        feedback: Accepted judgements of answers from its passages, which RLHF reads.
        passages: Passages of it that the run could retrieve.
    """

    asked: int = 0
    shown: int = 0
    validated: int = 0
    feedback: int = 0
    passages: int = 0

    def larger(self, other: Use) -> Use:
        """The larger of each number."""
        both = (asdict(self), asdict(other))
        return Use(**{name: max(use[name] for use in both) for name in both[0]})

    @property
    def trained(self) -> bool:
        """Whether its text or its questions were in training."""
        return bool(self.asked or self.shown or self.feedback)


@dataclass(frozen=True)
class Exposure:
    """What an adapter saw of every document.

    Attributes:
        entry: The adapter.
        origin: The run that made it; None where no dvc.lock names it.
        uses: By document's name; None where the data of its run is not here.
        places: Passage -> name and id (sha256 of the file) of its document, of what its run could retrieve.
        why: Why `uses` is None, or what is counted more widely than it was.
    """

    entry: EntryFolder
    origin: Origin | None
    uses: Mapping[str, Use] | None
    places: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    why: str = ""

    def ids(self, document: str) -> set[str]:
        """The ids under which its run read a document of this name."""
        return {doc_id for name, doc_id in self.places.values() if name == document}

    def of(self, document: str) -> Use:
        """Of one document, by name."""
        return (self.uses or {}).get(document, Use())

    def seen(self, document: str, indexed: bool) -> Seen:
        """How it saw a document.

        Args:
            document: Its name.
            indexed: Whether it can be retrieved at present.
        """
        if self.uses is None:
            return "unknown"
        use = self.of(document)
        if use.trained:
            return "in training"
        if use.validated:
            return "in validation only"
        return "through retrieval only" if indexed or use.passages else "not at all"


def exposures(root: Path, store: Store) -> list[Exposure]:
    """Of every adapter under models/, champions' copies included.

    Args:
        root: The project's root.
        store: Of it.

    Raises:
        ModelError: An entry.json is damaged.
    """
    locks = Locks(root)
    return [exposure_of(entry, locks, store) for entry in entry_folders(root)]


def exposure_of(entry: EntryFolder, locks: Locks, store: Store) -> Exposure:
    """What one adapter saw; its data is that of the run that dvc.lock names, or of equal hash.

    Args:
        entry: The adapter.
        locks: Of the project.
        store: Of it.
    """
    origin = origin_of(entry, locks, store)
    if origin is not None:
        with laid_out(data_files(origin.locked), store, origin.commit) as data:
            if data is None:
                why = "the data of its run is in DVC's cache no more (`dvc fetch` may bring it)"
                return Exposure(entry, origin, None, why=why)
            if STARTED_FROM in entry.facts:
                return _with_start(_counted(entry, origin, data), locks, store)
            if data_matches(entry.facts, data):
                return _counted(entry, origin, data)
        why = "entry.json names other data than dvc.lock: one of them was changed by hand"
        return Exposure(entry, origin, None, why=why)
    for folder in [locks.root, *example_folders(locks.root)]:
        if data_matches(entry.facts, folder):
            return _counted(entry, None, folder)
    return _from_history(entry, locks, store) or Exposure(
        entry, None, None, why="no dvc.lock names it, and no data here has the hash that entry.json records"
    )


def document_named(name: str, found: Sequence[Exposure], chunks: Sequence[Chunk]) -> str:
    """The document that a name, a file name or the beginning of an id means.

    Args:
        name: What the user gave.
        found: Of all adapters.
        chunks: That can be retrieved at present.

    Raises:
        DataError: None is known; the message lists those that are. Or the id is of several.
    """
    ids: dict[str, set[str]] = defaultdict(set)
    for chunk in chunks:
        ids[chunk.document].add(chunk.doc_id)
    for exposure in found:
        for document in exposure.uses or {}:
            ids[document] |= exposure.ids(document)
    path = Path(name)
    for wanted in (path.name, path.stem if path.suffix.lower() == ".pdf" else path.name):
        if wanted in ids:
            return wanted
    by_id = sorted(
        doc for doc, known in ids.items() if len(name) >= _ID and any(i.startswith(name) for i in known)
    )
    if len(by_id) == 1:
        return by_id[0]
    if by_id:
        raise DataError(f"{name} begins the ids of {', '.join(by_id)}; give the name of one of them")
    raise DataError(
        f"no document {name!r} in the index or in what entries saw; known: {', '.join(sorted(ids)) or 'none'}"
    )


def present_chunks(root: Path) -> list[Chunk]:
    """What can be retrieved at present; nothing where nothing was read."""
    return read_jsonl(root / CHUNKS, Chunk) if (root / CHUNKS).is_file() else []


def _with_start(exposure: Exposure, locks: Locks, store: Store) -> Exposure:
    """An arm of RLHF saw what the entry saw that it was trained on from."""
    origin = exposure.origin
    assert origin is not None
    path = f"{MODELS.as_posix()}/{exposure.entry.facts[STARTED_FROM]}"
    start = made_by(path, origin.locked.deps.get(path), locks)
    if start is None:
        why = f"no dvc.lock names the {path} that it was trained on from"
        return replace(exposure, uses=None, why=why)
    if data_files(start.locked).items() <= data_files(origin.locked).items():
        return exposure
    with laid_out(data_files(start.locked), store, start.commit) as data:
        if data is None:
            why = f"the data of the {path} that it was trained on from is in DVC's cache no more"
            return replace(exposure, uses=None, why=why)
        before = _counted(exposure.entry, start, data)
    names = sorted({*(before.uses or {}), *(exposure.uses or {})})
    uses = {name: before.of(name).larger(exposure.of(name)) for name in names}
    return replace(exposure, uses=uses, places={**before.places, **exposure.places})


def _from_history(entry: EntryFolder, locks: Locks, store: Store) -> Exposure | None:
    """Of an adapter that a command trained on the pipeline's data: found by the hash of that data."""
    if STARTED_FROM in entry.facts:
        return None
    tried = set()
    for commit, lock in locks:
        for locked in lock.values():
            files = data_files(locked)
            key = tuple(sorted(files.items()))
            if TRAIN_SFT.as_posix() not in files or key in tried:
                continue
            tried.add(key)
            with laid_out(files, store, commit) as data:
                if data is not None and data_matches(entry.facts, data):
                    return _counted(entry, None, data)
    return None


def _counted(entry: EntryFolder, origin: Origin | None, root: Path) -> Exposure:
    """Count what the files of a run hold.

    Args:
        entry: The adapter.
        origin: Its run.
        root: Holds data/ as the run read it; or it is a folder of examples.
    """
    inside = root / TRAIN_SFT.parent
    data, chunk_file = (inside, CHUNKS.name) if (inside / TRAIN_SFT.name).is_file() else (root, PASSAGES)
    index = list(iter_jsonl(data / chunk_file, Chunk))
    brought = data / PRACTICE_PASSAGES.name
    chunks = [*index, *(iter_jsonl(brought, Chunk) if brought.is_file() else ())]
    place = {chunk.chunk_id: chunk.document for chunk in chunks}
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for chunk in index:
        counts[chunk.document]["passages"] += 1
    for row in iter_jsonl(data / TRAIN_SFT.name, Example):
        _count(counts, _documents(row.contexts, place.get), "shown")
        _count(counts, _subject(row, place.get), "asked")
    for row in iter_jsonl(data / VAL_SFT.name, Example):
        _count(counts, {*_documents(row.contexts, place.get), *_subject(row, place.get)}, "validated")
    if STARTED_FROM in entry.facts and (root / ACCEPTED).is_file():
        for judged in read_accepted(root / ACCEPTED):
            _count(counts, _documents(judged.contexts, place.get), "feedback")
    places = {chunk.chunk_id: (chunk.document, chunk.doc_id) for chunk in index}
    why = "counted from all that RLHF was given, used or not" if STARTED_FROM in entry.facts else ""
    uses = {document: Use(**numbers) for document, numbers in sorted(counts.items())}
    return Exposure(entry, origin, uses, places, why)


def _count(counts: dict[str, dict[str, int]], documents: set[str], what: str) -> None:
    for document in documents:
        counts[document][what] += 1


def _documents(contexts: Sequence[str], document_of: Callable[[str], str | None]) -> set[str]:
    return {document for chunk in contexts if (document := document_of(chunk)) is not None}


def _subject(row: Example, document_of: Callable[[str], str | None]) -> set[str]:
    """The document that a question is about: as its row says, or as its source passage does."""
    source = None if row.source_chunk is None else document_of(row.source_chunk)
    return {name for name in (row.document, source) if name}
