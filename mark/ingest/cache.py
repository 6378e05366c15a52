"""What ingest made of each document, kept by content: a rerun makes only what is new.

A document has a folder named by the sha256 of its file. In it lie its pages, chunks and report
under the hash of everything that decides them, and its vectors under the hash of the texts that
they embed: other limits or another reader cost a reading, but no embedding where the texts stay.
An entry carries its own hash; one that does not match is made anew and never trusted.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

import mark
from mark.config import Ingest
from mark.files import sha256_file, sha256_text
from mark.ingest.report import FileReport
from mark.records import Chunk, Page, Row
from mark.wheels import disk_errors

log = logging.getLogger(__name__)

_MAGIC = "mark-ingest-cache-1"
_STALE_S = 3600.0  # age of a temporary file that no process can still be writing
# Settings that cannot change a document's pages and chunks; a new setting counts until it is named here.
_WITHOUT_EFFECT = {
    "input", "workers", "embed_batch", "chroma_path", "collection", "cache_mb", "store", "chroma", "pgvector",
    "engine", "ray",
}  # fmt: skip
# Modules that work on what the others made.
_AFTERWARDS = {
    "cache.py", "chroma_server.py", "embed.py", "index.py", "outputs.py", "pgvector.py", "progress.py",
    "ray_engine.py", "ray_worker.py", "stores.py", "vector_store.py",
}  # fmt: skip
_PACKAGES = ("pypdfium2", "pypdf", "docling", "ocrmypdf", "numpy", "tokenizers", "transformers", "torch")
_TOOLS = ("ocrmypdf", "tesseract")  # their presence decides what becomes of a scan


class DocumentEntry(Row):
    """A document after reading, cleaning and cutting."""

    report: FileReport
    pages: list[Page]
    chunks: list[Chunk]

    def named(self, file: str, document: str) -> DocumentEntry:
        """The same content under another file name; ids do not depend on it."""
        name = {"document": document}
        return DocumentEntry(
            report=self.report.model_copy(update={"file": file, **name}),
            pages=[page.model_copy(update=name) for page in self.pages],
            chunks=[chunk.model_copy(update=name) for chunk in self.chunks],
        )


class DocumentCache:
    """Entries of documents and vectors below one folder, the least recently used go first."""

    def __init__(self, folder: Path, settings: Ingest, embedder: Path) -> None:
        """Hash what decides an entry.

        Args:
            folder: Created when the first entry is written.
            settings: The section `ingest`.
            embedder: Folder of the embedding model; its tokenizer decides the cuts.
        """
        self._folder = folder
        self._limit = settings.cache_mb << 20
        model = _folder_sha256(embedder)
        settled = {k: v for k, v in settings.model_dump(mode="json").items() if k not in _WITHOUT_EFFECT}
        self._documents = _digest([model, settled, _reading_code(), _environment()])
        self._vectors = _digest([model, settings.embed_batch, _embedding_code(), _versions()])
        self._used: set[Path] = set()

    def document(self, content: str, file: str, document: str) -> DocumentEntry | None:
        """A document's entry under its present name, or None.

        Args:
            content: sha256 of the file.
            file: Its path below the corpus folder.
            document: Its name.
        """
        path = self._folder / content / f"document-{self._documents}"
        body = self._read(path)
        if body is None:
            return None
        try:
            entry = DocumentEntry.model_validate_json(body)
        except ValidationError as fault:
            self._damaged(path, fault.errors()[0]["msg"])
            return None
        before = PurePosixPath(entry.report.document).name
        if entry.report.title == before != PurePosixPath(document).name:
            return None  # titled by its file name, which chunks and vectors show
        return entry.named(file, document)

    def keep_document(self, content: str, entry: DocumentEntry) -> None:
        """Write a document's entry, unless its reading met what another try may mend.

        That is text recognition that is not installed, and whatever the report has a note of. Such a
        document is read again in each run; its vectors serve as long as its texts stay.
        """
        report = entry.report.model_dump()
        if report["dropped"].get("needs_ocr") or report.get("notes"):
            return
        body = entry.model_dump_json().encode("utf-8")
        self._write(self._folder / content / f"document-{self._documents}", body)

    def vectors(self, content: str, texts: Sequence[str]) -> NDArray[np.float32] | None:
        """The vectors of a document's texts, float32 [texts, dimension], or None."""
        path = self._vector_path(content, texts)
        body = self._read(path)
        if body is None:
            return None
        values = np.frombuffer(body, dtype="<f4")
        if not len(values) or len(values) % len(texts):
            self._damaged(path, f"{len(values)} numbers for {len(texts)} texts")
            return None
        return values.reshape(len(texts), -1)

    def keep_vectors(self, content: str, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Write the vectors of a document's texts."""
        body = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
        self._write(self._vector_path(content, texts), body)

    def prune(self) -> None:
        """Remove the least recently used entries beyond `ingest.cache_mb`, and what killed runs left."""
        entries: list[tuple[bool, float, int, Path]] = []
        for path, age, size in self._ages():
            if not path.name.startswith("."):
                entries.append((path in self._used, -age, size, path))
            elif age > _STALE_S:
                path.unlink(missing_ok=True)
        total = sum(size for _, _, size, _ in entries)
        lost = 0
        for used, _, size, path in sorted(entries):
            if total <= self._limit:
                break
            path.unlink(missing_ok=True)
            total -= size
            lost += used
        if lost:
            log.warning(
                "ingest.cache_mb=%d is too small for this corpus: %d entries of it were not kept and will be "
                "made anew; raise it",
                self._limit >> 20,
                lost,
            )
        for folder in self._folder.glob("*"):
            if folder.is_dir() and not any(folder.iterdir()):
                with suppress(OSError):  # another run has just put something into it
                    folder.rmdir()

    def _ages(self) -> Iterator[tuple[Path, float, int]]:
        """Each file, the seconds since its last use, and its size."""
        now = time.time()
        for path in self._folder.glob("*/*"):
            try:
                found = path.stat()
                if found.st_mtime > now:  # the clock was set back: it ages from now on
                    os.utime(path)
            except FileNotFoundError:  # another run pruned it
                continue
            yield path, max(0.0, now - found.st_mtime), found.st_size

    def _vector_path(self, content: str, texts: Sequence[str]) -> Path:
        return self._folder / content / f"vectors-{_digest([self._vectors, list(texts)])}"

    def _read(self, path: Path) -> bytes | None:
        """An entry's body, if it is whole and lies where it was written."""
        try:
            with disk_errors(path), path.open("rb") as stream:
                header, body = stream.readline().decode("ascii", "replace").split(), stream.read()
                os.utime(path)  # the least recently used go first
        except FileNotFoundError:
            return None
        if header != _header(path, body):
            self._damaged(path, "its hash does not match")
            return None
        self._used.add(path)
        return body

    def _damaged(self, path: Path, why: str) -> None:
        log.warning("%s is damaged (%s); it is made anew", path, why)
        path.unlink(missing_ok=True)

    def _write(self, path: Path, body: bytes) -> None:
        """A whole file or nothing: a temporary sibling, then rename; the hash covers a power cut."""
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write((" ".join(_header(path, body)) + "\n").encode("ascii"))
                    stream.write(body)
                os.replace(name, path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        self._used.add(path)


def forget(folder: Path, content: str) -> None:
    """Remove all that the cache holds of one document.

    Args:
        folder: The cache.
        content: sha256 of its file.

    Raises:
        DataError: It may not be removed.
    """
    if (folder / content).is_dir():
        with disk_errors(folder / content):
            shutil.rmtree(folder / content)


def _header(path: Path, body: bytes) -> list[str]:
    import hashlib

    return [_MAGIC, path.parent.name, path.name, hashlib.sha256(body).hexdigest()]


def _digest(value: object) -> str:
    return sha256_text(json.dumps(value, ensure_ascii=True, sort_keys=True))[:32]


def _folder_sha256(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def code_sha256() -> str:
    """One hash of the code that turns a file into chunks and vectors."""
    return _digest([_reading_code(), _embedding_code()])


def installed(embedder: Path) -> dict[str, str]:
    """What a document's pages, chunks and vectors depend on beside code and settings.

    Args:
        embedder: Folder of the embedding model.

    Returns:
        What it is -> version or hash: packages, programs and the embedder's files.
    """
    files = _folder_sha256(embedder).items()
    return _environment() | {f"embedder ({name})": content for name, content in files}


def _reading_code() -> dict[str, str]:
    """Hashes of the modules that turn a file into chunks; a new module counts until it is named above."""
    package = Path(mark.__file__).parent
    files = [path for path in package.glob("ingest/**/*.py") if path.name not in _AFTERWARDS]
    files += [package / "records.py", package / "models/embedder.py"]
    return {path.relative_to(package).as_posix(): sha256_file(path) for path in sorted(files)}


def _embedding_code() -> list[str]:
    package = Path(mark.__file__).parent
    return [sha256_file(package / name) for name in ("ingest/embed.py", "models/embedder.py")]


def _environment() -> dict[str, str]:
    """Versions and tools that a document's text can depend on."""
    return _versions() | {f"tool {name}": _tool_version(name) for name in _TOOLS} | _other_reader()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def _tool_version(name: str) -> str:
    """What a program says of its version and, of Tesseract, its languages; "none" where it is missing."""
    if shutil.which(name) is None:
        return "none"
    flags = ["--version", "--list-langs"] if name == "tesseract" else ["--version"]
    runs = [subprocess.run([name, flag], capture_output=True, check=False) for flag in flags]
    return sha256_text(repr([(run.stdout, run.stderr) for run in runs]))


def _other_reader() -> dict[str, str]:
    """The version of a Docling that lives in an environment of its own."""
    python = os.environ.get("MARK_DOCLING_PYTHON")
    if python is None:
        return {}
    asked = [python, "-c", "from importlib.metadata import version; print(version('docling'))"]
    run = subprocess.run(asked, capture_output=True, text=True, check=False)
    return {"docling of its own": run.stdout.strip() or "none"}
