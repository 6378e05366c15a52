"""`mark remove` leaves nothing of a document in the cache of ingest."""

from __future__ import annotations

import pytest

from mark.commands.documents import remove_documents
from mark.errors import DataError
from mark.files import INGEST_CACHE, sha256_file


def test_the_cache_forgets_a_removed_document(tmp_path):
    folder = tmp_path / "data/pdfs"
    folder.mkdir(parents=True)
    entries = {}
    for name in ("lease", "statute"):
        (folder / f"{name}.pdf").write_bytes(b"%PDF-1.4 " + name.encode())
        entries[name] = tmp_path / INGEST_CACHE / sha256_file(folder / f"{name}.pdf") / "document-0"
        entries[name].parent.mkdir(parents=True)
        entries[name].write_bytes(b"its text")
    with pytest.raises(DataError, match=r"did you mean lease\.pdf"):
        remove_documents(["leese"], tmp_path)
    assert entries["lease"].exists()
    remove_documents(["lease"], tmp_path)
    assert not entries["lease"].parent.exists() and entries["statute"].exists()
    assert [path.name for path in folder.iterdir()] == ["statute.pdf"]
