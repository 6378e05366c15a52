"""An uploaded file: a name of the server's, checks before it is kept, a reading in the sandboxed worker."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from mark.config import PARAMS, Corpus, Ingest, Serve, load_section
from mark.corpus.folder import list_pdfs
from mark.errors import ConfigError
from mark.files import PDFS, read_json, write_json
from mark.ingest.pdf import read_pdf
from mark.ingest.report import QuarantinedFile
from mark.serve.errors import ApiError
from mark.serve.ingesting import INCOMING

SENT_NAMES = Path(".mark/uploads.json")  # server's name -> what the client called the file, as text to show
_BLOCK = 1 << 20
_MAX_SHOWN = 200  # characters of a client's name


def check_allowed(root: Path, settings: Serve) -> None:
    """Whether uploads are taken.

    Raises:
        ApiError: 409 with the remedy.
    """
    remedies = [] if settings.allow_upload else ["serve.allow_upload=true"]
    if load_section(Corpus, "corpus", root / PARAMS).source != "folder":
        remedies.insert(0, "corpus=folder")
    if remedies:
        raise ApiError(
            409,
            f"no uploads here; run `mark params {' '.join(remedies)}` and start `mark serve` again",
            "uploads_off",
        )
    if len(list_pdfs(root / PDFS)) + len(list_pdfs(root / INCOMING)) >= settings.max_documents:
        raise ApiError(
            409,
            f"{settings.max_documents} documents lie here already (serve.max_documents); "
            "`mark remove` takes some out",
            "too_many_documents",
        )


def keep_upload(stream: BinaryIO, sent_name: str, root: Path, settings: Serve) -> tuple[str, bool]:
    """Check a file and put it where ingest will find it.

    Args:
        stream: Its bytes.
        sent_name: What the client called it: kept as text, never used as a path.
        root: The project's root.
        settings: Section `serve`.

    Returns:
        The document's name, and whether it is new.

    Raises:
        ApiError: 413 too large, 415 no PDF, 422 it cannot be read (the code and remedy of ingest).
    """
    folder = root / INCOMING
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        path = Path(work) / "upload.pdf"
        name = f"upload-{_copy(stream, path, settings.max_upload_mb << 20)[:16]}"
        if (root / PDFS / f"{name}.pdf").exists() or (folder / f"{name}.pdf").exists():
            return name, False
        _check_readable(path, root, settings)
        _remember(name, sent_name, root)
        os.replace(path, folder / f"{name}.pdf")
    return name, True


def sent_names(root: Path) -> dict[str, str]:
    """Documents that were uploaded, and what their clients called them."""
    path = root / SENT_NAMES
    return {str(k): str(v) for k, v in read_json(path).items()} if path.is_file() else {}


def _copy(stream: BinaryIO, path: Path, limit: int) -> str:
    """Copy a PDF of at most `limit` bytes; its hex SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as target:
        while block := stream.read(_BLOCK):
            if size == 0 and not block.startswith(b"%PDF-"):
                break
            size += len(block)
            if size > limit:
                raise ApiError(
                    413, f"the file may have {limit} bytes (serve.max_upload_mb)", "body_too_large", "file"
                )
            digest.update(block)
            target.write(block)
    if size == 0:
        raise ApiError(415, "the file is no PDF: it does not begin with %PDF-", "not_a_pdf", "file")
    return digest.hexdigest()


def _check_readable(path: Path, root: Path, settings: Serve) -> None:
    """Read it as ingest will, in a process with limits of time and memory."""
    ingest = load_section(Ingest, "ingest", root / PARAMS)
    pages = min(ingest.max_pages, settings.max_upload_pages)
    try:
        found = read_pdf(path, path.parent, ingest.model_copy(update={"max_pages": pages}))
    except ConfigError as fault:
        raise ApiError(503, f"PDFs cannot be read here: {fault}", "unavailable") from None
    if isinstance(found, QuarantinedFile):
        raise ApiError(
            422, f"the file cannot be read: {found.code} ({found.detail}); {found.remedy}", found.code, "file"
        )


def _remember(name: str, sent_name: str, root: Path) -> None:
    shown = "".join(char for char in sent_name if char.isprintable())[:_MAX_SHOWN]
    write_json(root / SENT_NAMES, sent_names(root) | {name: shown})
