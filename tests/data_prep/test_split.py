from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from mark.data_prep.split import HeldOut, assign_splits
from mark.errors import ConfigError, DataError
from mark.records import Chunk
from tests.data_prep.passages import chunk, settings


def corpus(documents: int, sections: int) -> list[Chunk]:
    return [
        chunk(f"Text {d} {s}.", section=f"Article {s}", document=f"doc{d}")
        for d in range(documents)
        for s in range(1, sections + 1)
    ]


def test_sections_fill_their_shares() -> None:
    splits = assign_splits(corpus(4, 25), settings(), HeldOut(), 1)
    # 100 sections: 30 % test, 20 % val.
    assert splits.by == "section"
    assert Counter(splits.of_section.values()) == {"train": 50, "test": 30, "val": 20}


def test_from_ten_documents_on_whole_documents_go() -> None:
    splits = assign_splits(corpus(10, 3), settings(), HeldOut(), 1)
    assert splits.by == "document"
    for d in range(10):
        assert len({split for (name, _), split in splits.of_section.items() if name == f"doc{d}"}) == 1
    assert Counter(splits.of_section.values()) == {"train": 15, "test": 9, "val": 6}


def test_held_out_counts_towards_the_shares() -> None:
    held = HeldOut(
        frozenset({("doc0", "Article 1"), ("gone", "Article 9")}), frozenset({("doc1", "Article 2")})
    )
    splits = assign_splits(corpus(4, 25), settings(held_out_documents=["doc3"]), held, 1)
    assert splits.of_section["doc0", "Article 1"] == "test"
    assert splits.of_section["doc1", "Article 2"] == "val"
    assert {splits.of_section["doc3", f"Article {s}"] for s in range(1, 26)} == {"test"}
    assert Counter(splits.of_section.values()) == {"train": 50, "test": 30, "val": 20}


def test_a_held_out_section_overrides_its_document() -> None:
    held = HeldOut(frozenset({(f"doc{d}", "Article 2") for d in range(10)}))
    splits = assign_splits(corpus(10, 3), settings(), held, 1)
    assert {splits.of_section[f"doc{d}", "Article 2"] for d in range(10)} == {"test"}


def test_seed_decides_and_order_does_not() -> None:
    chunks = corpus(4, 25)
    first = assign_splits(chunks, settings(), HeldOut(), 1)
    assert assign_splits(chunks[::-1], settings(), HeldOut(), 1) == first
    assert assign_splits(chunks, settings(), HeldOut(), 2) != first


def test_unknown_document_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'dok1' is no document of the corpus; did you mean doc1\?"):
        assign_splits(corpus(2, 2), settings(held_out_documents=["dok1"]), HeldOut(), 1)


def test_held_out_file(tmp_path: Path) -> None:
    path = tmp_path / "held.json"
    assert HeldOut.read(path) == HeldOut()
    path.write_text(
        json.dumps({"test": [["a", "Article 1"]], "val": [["a", "Article 1"], ["b", "Preamble"]]})
    )
    assert HeldOut.read(path) == HeldOut(frozenset({("a", "Article 1")}), frozenset({("b", "Preamble")}))
    path.write_text("[1]")
    with pytest.raises(DataError, match="expected; mend the file"):
        HeldOut.read(path)
