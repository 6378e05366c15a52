"""Token by token: the score by hand, and what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mark.records import Chunk
from mark.retrieval.late import TokenIndex


class Letters:
    """Each letter is a token with an axis of its own; counts the texts that it was asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode_tokens(
        self, texts: Sequence[str], truncate: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        self.texts += texts
        ids = [np.array([ord(c) - 97 for c in text if c.islower()], dtype=np.int64) for text in texts]
        return [(row, np.eye(26, dtype=np.float32)[row].reshape(-1, 26)) for row in ids]


def chunk(doc: str, text: str) -> Chunk:
    return Chunk(
        chunk_id=(doc + text).ljust(16, "0")[:16], doc_id=doc * 64, document=doc, title="T", heading_path=[],
        section="", pages=[1], start=0, end=len(text), text=text,
    )  # fmt: skip


CHUNKS = [chunk("1", "ab"), chunk("1", "ac"), chunk("2", "ad"), chunk("2", "AB")]


def test_rare_tokens_count_more() -> None:
    index = TokenIndex.build(CHUNKS, Letters())
    (query,) = index.queries(Letters(), ["abz"])
    # of 4 chunks a is in 3, b in 1, z in none
    weights = np.log(1 + 4 / np.array([4, 2, 1]))
    assert query.weights == pytest.approx(weights, rel=1e-6)
    # best matches: a and b in the first, a in the second and third, nothing in the last (no letter)
    a, b = weights[0] / weights.sum(), weights[1] / weights.sum()
    assert index.scores(query, [3, 0, 2, 1]) == pytest.approx([0, a + b, a, a], abs=1e-6)
    assert index.scores(index.queries(Letters(), [""])[0], [0, 1]).tolist() == [0, 0]
    assert index.scores(query, []).tolist() == []


def test_only_new_documents_are_encoded(tmp_path: Path) -> None:
    folder, encoder = tmp_path / "token_vectors", Letters()
    first = TokenIndex.open(folder, "m", CHUNKS[:2], encoder)
    assert encoder.texts == ["T\nab", "T\nac"]
    TokenIndex.open(folder, "m", CHUNKS[:2], encoder)
    assert len(encoder.texts) == 2
    both = TokenIndex.open(folder, "m", CHUNKS, encoder)
    assert encoder.texts[2:] == ["T\nad", "T\nAB"]
    (query,) = both.queries(Letters(), ["abd"])
    assert both.scores(query, [0, 1, 2, 3]).tolist() == (
        TokenIndex.build(CHUNKS, Letters()).scores(query, [0, 1, 2, 3]).tolist()
    )
    # a document that is gone leaves nothing behind; another embedder makes all anew
    TokenIndex.open(folder, "m", CHUNKS[2:], encoder)
    assert (folder / "ids.i4").stat().st_size == 4 * 2
    before = len(encoder.texts)
    TokenIndex.open(folder, "other", CHUNKS[2:], encoder)
    assert len(encoder.texts) == before + 2
    assert first.scores(query, [0]).tolist() != [0.0]


def test_a_damaged_store_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "token_vectors"
    TokenIndex.open(folder, "m", CHUNKS, Letters())
    with (folder / "ids.i4").open("ab") as handle:
        handle.write(b"\0\0\0\0")
    encoder = Letters()
    TokenIndex.open(folder, "m", CHUNKS, encoder)
    assert len(encoder.texts) == 4 and "is damaged" in caplog.text
