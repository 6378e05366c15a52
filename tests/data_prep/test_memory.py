"""What the stage holds in memory beyond the passages and their vectors."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from mark.data_prep.build import Material, build_dataset
from mark.data_prep.split import HeldOut
from tests.data_prep import corpora
from tests.data_prep.passages import settings

SMALL, LARGE = 96, 960  # passages of the corpus
# Bounds that a large corpus reaches, set so low that both corpora reach them.
BLOCK = 16  # held-out passages compared at once
SOURCES = 30  # statements of a split kept for questions without an answer
# Beyond the passages and vectors: the ledger's line of a passage (its output), where it lies, and the
# index of held-out text, 20 bytes a word, the words of near misses and the targets of cross-references. The
# rest is bounded by the number of wanted examples.
BYTES_A_PASSAGE = 5120  # measured: 4,768
QUESTIONS_A_PASSAGE = 4  # at least; a list of them would take over 1,000 bytes each


def peak_bytes(passages: int) -> tuple[int, int]:
    """The highest traced memory during the stage, and how many questions were made."""
    pages, chunks = corpora.corpus(11, 6, passages // 12, 2)
    material = Material(pages, corpora.retriever_over(chunks), HeldOut())
    gc.collect()
    tracemalloc.start()
    try:
        found = build_dataset(material, settings(max_samples=40, max_val=10, max_test=10), 3, 5)
        return tracemalloc.get_traced_memory()[1], found.ledger.questions.asked
    finally:
        tracemalloc.stop()


@pytest.mark.long
def test_a_corpus_ten_times_as_large_takes_little_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mark.data_prep.passage_copies.BLOCK", BLOCK)
    monkeypatch.setattr("mark.data_prep.build.SOURCES", SOURCES)
    peak_bytes(SMALL)  # caches and imports
    small, _ = peak_bytes(SMALL)
    large, asked = peak_bytes(LARGE)
    assert asked >= QUESTIONS_A_PASSAGE * LARGE
    grown = (large - small) / (LARGE - SMALL)
    print(
        f"peak {small / 1e6:.1f} MB at {SMALL} passages, {large / 1e6:.1f} MB at {LARGE}: {grown:.0f} B each"
    )
    assert grown <= BYTES_A_PASSAGE
