"""What keeps a document once it is removed: the adapters that saw it, exports, feedback, answers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mark.append_log import read_lines
from mark.commands.dvc import stage_outputs
from mark.files import MODELS, PRACTICE, read_jsonl
from mark.pipeline.journal import JOURNAL
from mark.records import PracticeQuestion
from mark.registry.export import EXPORT_FILE, read_export
from mark.registry.promotion import EARLIER
from mark.reproduce.exposure import STALE, Exposure, document_named, exposures, present_chunks
from mark.reproduce.origin import EntryFolder, entry_folders
from mark.reproduce.store import Store, cache_of
from mark.rlhf.feedback import ACCEPTED, read_accepted

_CHAMPION = "champion"


def document_lines(name: str, root: Path, store: Store) -> Iterator[str]:
    """Which adapters saw a document and how, where else it is, and what goes stale without it.

    Args:
        name: Its name, its file's name or the beginning of its id.
        root: The project's root.
        store: Of it.

    Raises:
        DataError: Nothing knows the document.
    """
    found, chunks = exposures(root, store), present_chunks(root)
    document = document_named(name, found, chunks)
    own = [chunk for chunk in chunks if chunk.document == document]
    ids = {chunk.doc_id for chunk in own}.union(*(exposure.ids(document) for exposure in found))
    known = ", ".join(one[:12] for one in sorted(ids)) or "none, its text came with practice questions"
    where = f"{counted(len(own), 'passage{s}')} in the index" if own else "not in the index"
    yield f"{document}: {where}; ids {known}"
    width = max((len(exposure.entry.label) for exposure in found), default=0)
    for exposure in found:
        seen = exposure.seen(document, bool(own))
        counts = "" if seen == "not at all" else f"; {told(exposure, document)}"
        yield f"  {exposure.entry.label:{width}}  {seen}{counts}"
    yield from (f"  {line}" for line in _elsewhere(found, document, root))
    owned = stage_outputs(root)
    stale = [exposure.entry for exposure in found if exposure.seen(document, indexed=False) in STALE]
    if stale:
        yield f"Stale {'once it is removed' if own else 'now'}:"
        yield from (f"  {entry.label:{width}}  {_remedy(entry, owned)}" for entry in stale)
    yield "Not looked at: adapters of other commits in DVC's cache (`dvc gc --workspace`), copies elsewhere."


def kept_lines(names: Sequence[str], root: Path) -> list[str]:
    """For `mark remove`: a line for each place that keeps what some documents taught.

    Args:
        names: File names, with or without .pdf.
        root: The project's root.
    """
    if not entry_folders(root):
        return []
    with tempfile.TemporaryDirectory(prefix="mark-lineage-") as work:
        found = exposures(root, Store(root, cache_of(root), Path(work)))
    owned, lines = stage_outputs(root), []
    for document in [Path(name).name.removesuffix(".pdf") for name in names]:
        for exposure in found:
            if exposure.seen(document, indexed=False) in STALE:
                lines.append(
                    f"{exposure.entry.label}: {told(exposure, document)}; {_remedy(exposure.entry, owned)}"
                )
        lines += _elsewhere(found, document, root)
    return lines


def told(exposure: Exposure, document: str) -> str:
    """How often an adapter saw a document, in words."""
    if exposure.uses is None:
        return f"not known: {exposure.why}"
    use = exposure.of(document)
    parts = (
        (use.asked, "training question{s} about it"),
        (use.shown, "training prompt{s} with its text"),
        (use.feedback, "accepted judgement{s} of answers from it"),
        (use.validated, "validation question{s}"),
    )
    seen = ", ".join(counted(count, text) for count, text in parts if count)
    return seen or counted(use.passages, "passage{s} in the index of its run")


def counted(count: int, text: str) -> str:
    """A number of things; `{s}` in the text stands for the ending of more than one."""
    return f"{count} {text.format(s='' if count == 1 else 's')}"


def _elsewhere(found: Sequence[Exposure], document: str, root: Path) -> Iterator[str]:
    """Exports of adapters that saw it, practice questions, and people's words about answers from it."""
    saw = {e.entry.adapter_sha256 for e in found if e.seen(document, indexed=False) in STALE}
    for path in sorted([*root.glob(f"*/{EXPORT_FILE}"), *root.glob(f"*/*/{EXPORT_FILE}")]):
        record = read_export(path.parent)
        if record["adapter_sha256"] in saw:
            yield f"{path.parent.relative_to(root)}: an export of {record['entry']}, which saw it"
    practice = read_jsonl(root / PRACTICE, PracticeQuestion) if (root / PRACTICE).is_file() else []
    if named := sum(row.document == document for row in practice):
        yield f"{PRACTICE}: {counted(named, 'question{s}')} on it with a passage; take these rows out too"
    passages = {chunk.chunk_id for chunk in present_chunks(root) if chunk.document == document}
    passages |= {name for e in found for name, place in e.places.items() if place[0] == document}
    judged = read_accepted(root / ACCEPTED) if (root / ACCEPTED).is_file() else []
    if shown := sum(not passages.isdisjoint(row.contexts) for row in judged):
        yield f"{ACCEPTED}: {counted(shown, 'judgement{s} of answers')} from it"
    lines = [line for line in read_lines(root / JOURNAL) if line is not None]
    if answers := sum(any(one.encode() in line for one in passages) for line in lines):
        yield f"{JOURNAL}: {counted(answers, 'answer{s}')} from it"


def _remedy(entry: EntryFolder, owned: Mapping[str, str]) -> str:
    path = f"{MODELS.as_posix()}/{entry.label}"
    if entry.label == _CHAMPION:
        earlier = f"{EARLIER.as_posix()}/{entry.adapter_sha256[:12]}"
        return f"promote another entry (`mark models promote NAME`), then `rm -r {earlier}`"
    if entry.is_copy:
        return f"`rm -r {path}`"
    if path in owned:
        return "`dvc repro` trains it anew without it"
    return f"`mark models remove {entry.label} --confirm`"
