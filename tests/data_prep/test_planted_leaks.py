"""How many planted copies the leak gate finds, by kind, and how often it alarms for nothing."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from mark.data_prep.leak import find_leaks
from mark.data_prep.practice import read_practice
from mark.data_prep.similarity import SHORT_TEXT, words
from mark.data_prep.split import Splits
from mark.files import PRACTICE
from mark.models.loading import Embedder
from mark.records import Chunk, Example, PracticeQuestion, Split
from mark.retrieval import Retriever
from mark.retrieval.dense import ExactSearch
from mark.retrieval.retriever import Parts
from tests.conftest import ROOT
from tests.data_prep.corpora import WordHashes
from tests.data_prep.passages import chunk, retrieval
from tests.data_prep.planted import KINDS

LEAST_QUOTE = SHORT_TEXT * 3 // 2  # words: with a third cut off it is no short text yet
PLANTED = 120  # copies of each kind and place
FOUND = 0.99  # of the near copies of a place, all kinds together
FOUND_REWORDED = 0.95  # of those in other words throughout


def provisions() -> list[PracticeQuestion]:
    """Questions on provisions of real statutes, each provision once, in a seeded order."""
    rows: dict[str, PracticeQuestion] = {}
    for row in read_practice(ROOT / PRACTICE, 1.0):
        if row.passage and len(words(row.quote or "")) >= LEAST_QUOTE:
            rows.setdefault(row.passage, row)
    picked = sorted(rows.values(), key=lambda row: row.id)
    random.Random(7).shuffle(picked)
    return picked


def row(split: Split, name: str, question: str, passage: Chunk, answer: str) -> Example:
    return Example(
        example_id=name, split=split, question=question, contexts=[passage.chunk_id], answers=[answer],
        quote=None, page=None, kind="answerable", style="full", rule_id="practice",
        document=passage.document, section=passage.section, source_chunk=passage.chunk_id,
    )  # fmt: skip


class Bench:
    """Held-out rows, rows of other provisions, and copies of the held-out ones among the training rows."""

    def __init__(self, encoder: Embedder) -> None:
        found = provisions()
        self._held, self._other = found[:PLANTED], found[PLANTED : 2 * PLANTED]
        self._chunks: dict[str, Chunk] = {}
        self._sections: dict[tuple[str, str], Split] = {}
        self.rows: dict[Split, list[Example]] = {"train": [], "val": [], "test": []}
        for number, held in enumerate(self._held):
            passage = self._passage("held", number, held.passage or "", "test")
            self.rows["test"].append(row("test", f"test-{number}", held.question, passage, held.quote or ""))
        anchor = chunk("An anchor of the fleet.", "Article 0", "anchor")
        vectors = WordHashes().encode([anchor.text])
        self._retriever = Retriever([anchor], Parts(ExactSearch(vectors), encoder), retrieval())

    def _passage(self, name: str, number: int, text: str, split: Split) -> Chunk:
        made = chunk(text, f"Article {number}", f"{name}-{number}")
        self._chunks[made.chunk_id] = made
        self._sections[made.document, made.section] = split
        return made

    def plant(self) -> None:
        """Rows of the other provisions as they are, then with one thing copied from a held-out row."""
        for number, own in enumerate(self._other):
            passage = self._passage("own", number, own.passage or "", "train")
            self.rows["train"].append(
                row("train", f"fair:{number}", own.question, passage, own.answer or "")
            )  # fmt: skip
        rng = random.Random(3)
        neutral = self._passage("neutral", 0, "Ferries carry rafts, and their masters count them.", "train")
        for kind, change in KINDS.items():
            for number, held in enumerate(self._held):
                asked = change(held.question, rng)
                told = change(held.quote or "", rng)
                copy = self._passage(f"copy {kind}", number, change(held.passage or "", rng), "train")
                self.rows["train"] += [
                    row("train", f"question:{kind}:{number}", asked, neutral, "rafts"),
                    row("train", f"answer:{kind}:{number}", f"raft {number}?", neutral, told),
                    row("train", f"passage:{kind}:{number}", f"raft {number}?", copy, "rafts"),
                ]

    def found(self) -> Counter[str]:
        """Rows that the gate names, by place and kind."""
        splits = Splits(self._sections, "section")
        leaks = find_leaks(self.rows, splits, self._chunks, self._retriever)
        named = {(leak.row, leak.what) for leak in leaks}
        counts: Counter[str] = Counter()
        for name, what in named:
            place, kind, *_ = name.split(":")
            if place == "fair":
                counts[f"fair {what}"] += 1
            elif place == what:
                counts[f"{place}:{kind}"] += 1
        return counts


def test_planted_copies_are_found(minilm_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(Embedder(minilm_dir))
    bench.plant()
    counts = bench.found()
    with capsys.disabled():
        print(f"\n{PLANTED} planted of each: " + ", ".join(f"{k} {v}" for k, v in sorted(counts.items())))
    for place in ("question", "answer", "passage"):
        near = [kind for kind in KINDS if kind != "reworded"]
        assert sum(counts[f"{place}:{kind}"] for kind in near) >= FOUND * PLANTED * len(near), place
        assert counts[f"{place}:exact"] == PLANTED, place
        assert counts[f"{place}:reworded"] >= FOUND_REWORDED * PLANTED, place
    # Statutes do repeat themselves: such passages and sentences are barred before the gate sees them.
    assert counts["fair question"] <= 0.02 * PLANTED
    assert counts["fair passage"] <= 0.04 * PLANTED
    assert counts["fair answer"] <= 0.04 * PLANTED
