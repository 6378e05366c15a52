"""A damaged Chroma folder is built anew before anybody opens it: opened, it can end the process or find wrong rows."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mark.errors import DataError
from mark.files import write_jsonl
from mark.ingest.index import build_collection, collection_keys, read_index, stored_ids, write_index
from mark.records import Chunk
from mark.retrieval.serving import open_chroma
from tests.conftest import ROOT
from tests.ingest.test_collection import fingerprint, users_collection

ROWS = 1100  # from 1,000 on Chroma writes its vector index to disk

# As `mark ask` opens it; in a process of its own, since a damaged index can end that.
ASK = """
import sys, numpy as np
from pathlib import Path
from mark.retrieval.serving import open_chroma
data, chroma = Path(sys.argv[1]), Path(sys.argv[2])
search = open_chroma(data, chroma, "pdf_docs")
vectors = np.load(data / "embeddings.npy")[::20]
found = search.scores(vectors, 1, [None] * len(vectors))
print([int(row.argmax()) for row in found] == list(range(0, 20 * len(vectors), 20)))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder and a Chroma folder of enough rows; left as they are."""
    root = tmp_path_factory.mktemp("chroma")
    (root / "data").mkdir()
    chunks = [
        Chunk(
            chunk_id=f"{number:016x}", doc_id="d" * 64, document="bread", title="Bread", heading_path=[],
            section="", pages=[1], start=0, end=9, text=f"loaf {number}",
        )
        for number in range(ROWS)
    ]  # fmt: skip
    write_jsonl(root / "data/chunks.jsonl", chunks)
    vectors = np.random.default_rng(0).normal(size=(ROWS, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    write_index(root / "data", chunks, vectors, 1, "0" * 64)
    build_collection(root / "data", root / "chroma_db", "pdf_docs")
    assert len(json.loads((root / "chroma_db/mark-sums-pdf_docs.json").read_text())) == 5
    return root


@pytest.fixture
def folders(whole: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(content: bytes) -> bytes:
    return b""


def zeroed(content: bytes) -> bytes:
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]


def flipped(content: bytes) -> bytes:
    drawn, changed = random.Random(1), bytearray(content)
    for _ in range(max(20, len(content) // 2000)):
        changed[drawn.randrange(len(changed))] ^= 1 << drawn.randrange(8)
    return bytes(changed)


INDEX_FILES = ("data_level0.bin", "header.bin", "index_metadata.pickle", "length.bin", "link_lists.bin")
DAMAGES = (half, emptied, zeroed, flipped)
Damage = Callable[[bytes], bytes]


def ask(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ASK, str(root / "data"), str(root / "chroma_db")], cwd=ROOT, text=True,
        capture_output=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "damage"),
    [("data_level0.bin", zeroed), ("index_metadata.pickle", half)]
    + [
        pytest.param(name, damage, marks=pytest.mark.long)
        for name in INDEX_FILES
        for damage in DAMAGES
        if (name, damage) not in {("data_level0.bin", zeroed), ("index_metadata.pickle", half)}
    ],
)
def test_a_damaged_vector_index_is_built_anew(
    folders: Path, name: str, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = (folders / "chroma_db").glob(f"*/{name}")
    content = path.read_bytes()
    if damage(content) == content:
        pytest.skip(f"{name} has {len(content)} bytes: {damage.__name__} changes none")
    path.write_bytes(damage(content))
    build_collection(folders / "data", folders / "chroma_db", "pdf_docs")
    assert "has a damaged vector index; it is built anew" in caplog.text
    done = ask(folders)
    assert done.stdout == "True\n", done.stderr


def test_without_the_check_it_would_be_found_out_by_a_user(folders: Path) -> None:
    """Why the hashes are there: a halved index answers, and wrongly."""
    (path,) = (folders / "chroma_db").glob("*/data_level0.bin")
    path.write_bytes(half(path.read_bytes()))
    done = ask(folders)
    assert (done.returncode, done.stdout) != (0, "True\n")


@pytest.mark.parametrize("damage", [half, emptied, zeroed])
def test_a_damaged_database_is_kept_beside_and_built_anew(
    folders: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    database = folders / "chroma_db/chroma.sqlite3"
    database.write_bytes(damage(database.read_bytes()))
    before = fingerprint(folders / "chroma_db")
    build_collection(folders / "data", folders / "chroma_db", "pdf_docs")
    kept = folders / ".chroma_db.damaged-1"
    assert f"chroma.sqlite3 is damaged; the folder is kept as {kept} and built anew" in caplog.text
    assert fingerprint(kept) == before
    assert collection_keys(folders / "chroma_db") == {"pdf_docs": read_index(folders / "data").key}
    assert len(stored_ids(folders / "chroma_db", "pdf_docs")) == ROWS


def test_a_whole_one_is_left_alone_though_others_read_it(folders: Path) -> None:
    assert ask(folders).stdout == "True\n"
    before = fingerprint(folders / "chroma_db")
    build_collection(folders / "data", folders / "chroma_db", "pdf_docs")
    assert fingerprint(folders / "chroma_db") == before
    assert not list(folders.glob(".chroma_db.damaged*"))


def test_a_users_collection_outlives_the_damage_of_ours(folders: Path) -> None:
    users_collection(folders / "chroma_db", "letters")
    ours = [
        path.parent for path in (folders / "chroma_db").glob("*/index_metadata.pickle")
    ]  # theirs is too small
    (ours[0] / "header.bin").write_bytes(b"")
    build_collection(folders / "data", folders / "chroma_db", "pdf_docs")
    assert stored_ids(folders / "chroma_db", "letters") == ["a", "b"]
    assert ask(folders).stdout == "True\n"


def test_what_chroma_itself_refuses_is_one_line(folders: Path) -> None:
    (path,) = (folders / "chroma_db").glob("*/index_metadata.pickle")
    path.write_bytes(b"no pickle")
    with pytest.raises(
        DataError, match=r"Chroma cannot read collection pdf_docs in .*run `mark ingest`"
    ) as caught:
        open_chroma(folders / "data", folders / "chroma_db", "pdf_docs")
    assert "\n" not in str(caught.value)
