"""`mark lineage`: from an entry or an answer back to its documents, and from a document to the entries."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from mark.commands.takedown import counted, document_lines, told
from mark.errors import ConfigError, DataError, MarkError, ModelError
from mark.files import BASE_MODELS, MODELS
from mark.models.source_file import read_source
from mark.pipeline.answer import RESPONSE_ID
from mark.pipeline.journal import JOURNAL, JournalEntry, find_entry, newest_entry
from mark.reproduce.environment import LOCK_FILE, RunRecord, pinned_packages, record_at, record_here
from mark.reproduce.exposure import (
    STARTED_FROM,
    Exposure,
    exposure_of,
    present_chunks,
)
from mark.reproduce.git import file_at, git
from mark.reproduce.origin import EntryFolder, Locks, Origin, data_files, entry_folders
from mark.reproduce.pipeline import DVC_LOCK
from mark.reproduce.store import Store, cache_of
from mark.rlhf.feedback import printable

LAST = "last"
_NUMERIC = ("torch", "transformers", "peft", "accelerate", "trl", "numpy")
_UNKNOWN = "not known"


def run_lineage(target: str | None, document: str | None, root: Path) -> str:
    """What an entry or an answer came from, or which entries saw a document.

    Args:
        target: An entry, `champion`, the id of an answer, or `last` for the last answer.
        document: Its name or the beginning of its id, in place of a target.
        root: The project's root.

    Returns:
        The text to print.

    Raises:
        ConfigError: Not exactly one of the two was given.
        DataError: The answer or the document is unknown.
        ModelError: The entry is unknown.
    """
    if (target is None) == (document is None):
        raise ConfigError(
            "name an entry or an answer, or give --document NAME; `mark models list` shows entries"
        )
    with tempfile.TemporaryDirectory(prefix="mark-lineage-") as work:
        store = Store(root, cache_of(root), Path(work))
        if document is not None:
            return "\n".join(document_lines(document, root, store))
        wanted = str(target)
        if wanted == LAST or re.fullmatch(RESPONSE_ID, wanted):
            return "\n".join(_answer_lines(wanted, root, store))
        return "\n".join(_entry_lines(_entry(wanted, root), root, store))


def _entry(name: str, root: Path) -> EntryFolder:
    entries = {entry.label: entry for entry in entry_folders(root)}
    if name in entries:
        return entries[name]
    if (root / BASE_MODELS / name).is_dir():
        raise ModelError(f"{name} is a base model, which saw no document here; name a fine-tuned one")
    raise ModelError(
        f"no entry or answer {name!r}; there are: {', '.join(entries) or 'none, run `dvc repro`'}"
    )


def _entry_lines(entry: EntryFolder, root: Path, store: Store) -> Iterator[str]:
    exposure = exposure_of(entry, Locks(root), store)
    facts, origin = entry.facts, exposure.origin
    yield f"{entry.label}: adapter {entry.adapter_sha256 or 'missing'}"
    yield _row("made by", _made_by(entry, origin, root))
    yield _row("seed", str(facts.get("seed", _UNKNOWN)))
    yield _row("base", _base(facts, root))
    if STARTED_FROM in facts:
        yield _row("trained on", f"from {facts[STARTED_FROM]}, adapter {facts.get('sft_sha256', _UNKNOWN)}")
    yield _row("params", f"{facts.get('params_sha256', _UNKNOWN)} (values: entry.json)")
    yield _row("data", str(facts.get("data_sha256", _UNKNOWN)))
    if origin is not None:
        for path, md5 in sorted(data_files(origin.locked).items()):
            yield _row("", f"{path} md5 {md5}")
        code = sorted(path for path in origin.locked.deps if path.startswith(("mark/", "stages/")))
        yield _row("code", f"{len(code)} files and folders, by hash in {DVC_LOCK}: {', '.join(code)}")
    yield from _environment_rows(origin, entry, root)
    yield from _document_rows(exposure)


def _made_by(entry: EntryFolder, origin: Origin | None, root: Path) -> str:
    if origin is None:
        return f"{_UNKNOWN}: no {DVC_LOCK} in git or here names it; a command trained it, or no run"
    md5 = origin.locked.outs[f"{MODELS.as_posix()}/{entry.name}"]
    commit = Locks(root).first_commit(md5)
    if commit is None:
        return f"stage {origin.stage}, run here; its {DVC_LOCK} is not committed"
    first = git(root, "log", "-1", "--date=short", "--format=%h of %ad (%s)", commit)
    return f"stage {origin.stage}; its {DVC_LOCK} came with commit {first}"


def _base(facts: Mapping[str, object], root: Path) -> str:
    name, sha256 = facts.get("base", _UNKNOWN), facts.get("base_sha256", _UNKNOWN)
    try:
        source = read_source(root / BASE_MODELS / str(name))
    except MarkError:
        return f"{name}, weights {sha256}; its SOURCE.json is not here"
    where = source.requirement or source.repo_id or source.path or source.origin
    return f"{name}, weights {sha256}; from {where}, licence {source.licence}"


def _environment_rows(origin: Origin | None, entry: EntryFolder, root: Path) -> Iterator[str]:
    """The packages and the machine of its run, as far as they were recorded."""
    record = None if origin is None else _record(origin, entry, root)
    if record is not None:
        there = record.environment
        named = ", ".join(f"{name} {there.packages[name]}" for name in _NUMERIC if name in there.packages)
        rest = len([name for name in there.packages if name not in _NUMERIC])
        yield _row("packages", f"Python {there.python}, {named} and {rest} more (reports/runs)")
        gpus = ", ".join(there.gpus) or "no GPU"
        kernels = "torch not loaded" if there.torch_cpu is None else f"torch {there.torch_cpu}"
        yield _row("machine", f"{there.cpu}, {counted(there.threads, 'thread{s}')}, {kernels}, {gpus}")
        return
    content = None
    if origin is not None:
        content = file_at(root, origin.commit or "HEAD", LOCK_FILE.as_posix())
    if content is None:
        yield _row("packages", _UNKNOWN)
    else:
        pins = pinned_packages(content.decode("utf-8"))
        named = ", ".join(f"{name} {pins[name]}" for name in _NUMERIC if name in pins)
        yield _row("packages", f"not recorded; {LOCK_FILE} of that commit pins {named}")
    yield _row("machine", "not recorded")


def _record(origin: Origin, entry: EntryFolder, root: Path) -> RunRecord | None:
    """The record of the run that wrote this entry: at its commit, or here."""
    path = f"{MODELS.as_posix()}/{entry.name}"
    records = [record_here(root, origin.stage)]
    if origin.commit is not None:
        records.append(record_at(root, origin.commit, origin.stage))
    fitting = [r for r in records if r is not None and r.outs.get(path) == origin.locked.outs[path]]
    return fitting[0] if fitting else None


def _document_rows(exposure: Exposure) -> Iterator[str]:
    if exposure.uses is None:
        yield _row("documents", f"{_UNKNOWN}: {exposure.why}")
        return
    yield _row("documents", exposure.why or f"{len(exposure.uses)} in its data")
    for name in exposure.uses:
        ids = ", ".join(f"{one[:12]}" for one in sorted(exposure.ids(name)))
        seen = exposure.seen(name, indexed=False)
        brought = "a practice question's passage" if not ids else f"id {ids}"
        yield _row("", f"{name} ({brought}): {seen}; {told(exposure, name)}")


def _answer_lines(name: str, root: Path, store: Store) -> Iterator[str]:
    answer = newest_entry(root) if name == LAST else find_entry(root, name)
    if answer is None:
        raise DataError(f"no answer {name} in {JOURNAL}; it holds the newest of `mark ask` and `mark serve`")
    what = "refused" if answer.refused else "answered"
    yield f"{answer.response_id} of {answer.time}: {what} by {answer.model}"
    yield _row("question", printable(answer.question))
    yield from _passage_rows(answer, root)
    if answer.adapter_sha256 is None:
        yield _row("model", "none: the best sentence of the passages")
        return
    held = [e for e in entry_folders(root) if e.adapter_sha256 == answer.adapter_sha256]
    if not held:
        what = f"a base model, or an adapter that is here no more (sha256 {answer.adapter_sha256})"
        yield _row("model", f"{answer.model}: {what}")
        return
    yield ""
    yield from _entry_lines(held[0], root, store)


def _passage_rows(answer: JournalEntry, root: Path) -> Iterator[str]:
    chunks = {chunk.chunk_id: chunk for chunk in present_chunks(root)}
    for number, chunk_id in enumerate(answer.contexts, 1):
        chunk = chunks.get(chunk_id)
        if chunk is None:
            yield _row(f"passage {number}", f"{chunk_id}: not in the index any more")
        else:
            pages = ", ".join(map(str, chunk.pages))
            place = f"{chunk.document} (id {chunk.doc_id[:12]}), page {pages}, {chunk.heading}"
            yield _row(f"passage {number}", printable(f"{chunk_id}: {place}"))


def _row(label: str, text: str) -> str:
    return f"  {label:11}{text}"
