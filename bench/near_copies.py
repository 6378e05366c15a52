"""CPU seconds and memory of the search for near-copies: `python -m bench.near_copies [PASSAGES ...]`.

Half of the passages is looked through for copies of the other half; then versions of documents of a hundred
passages are looked for in all. Texts are random walks along the word pairs of data/practice.jsonl, so that
phrases recur as they do in statutes. One in fifty of the searched passages is a planted copy.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mark.data_prep.passage_copies import near_copies
from mark.data_prep.versions import document_clusters
from mark.files import PRACTICE, read_jsonl
from mark.records import Chunk, PracticeQuestion

SIZES = (3_000, 10_000, 30_000)
WORDS = (40, 160)  # of a passage
DOCUMENT = 100  # passages
DIMENSION = 384
PLANTED = 50  # one searched passage in so many is a copy
SEED = 7


def walker(rng: random.Random) -> Callable[[], str]:
    """Makes passages in which each word follows one that it follows in real provisions."""
    rows = read_jsonl(Path(__file__).parents[1] / PRACTICE, PracticeQuestion)
    next_of: defaultdict[str, list[str]] = defaultdict(list)
    for text in sorted({row.passage for row in rows if row.passage}):
        found = text.split()
        for word, follower in pairwise(found):
            next_of[word].append(follower)
    starts = sorted(next_of)

    def passage() -> str:
        word, made = rng.choice(starts), []
        for _ in range(rng.randint(*WORDS)):
            made.append(str(rng.randint(1, 400)) if word.isdigit() else word)
            word = rng.choice(next_of[word]) if word in next_of else rng.choice(starts)
        return " ".join(made)

    return passage


def copied(text: str, rng: random.Random) -> str:
    """A text with one word in twenty replaced and its last tenth cut off."""
    found = text.split()
    found = found[: len(found) * 9 // 10]
    for place in range(rng.randrange(20), len(found), 20):
        found[place] = "otherwise"
    return " ".join(found)


def passages(count: int) -> tuple[list[Chunk], set[str]]:
    """Passages, the held-out half first, and the ids of those that copy one of that half."""
    rng = random.Random(SEED)
    fresh = walker(rng)
    texts = [fresh() for _ in range(count)]
    half = count // 2
    planted = range(half, count, PLANTED)
    for place in planted:
        texts[place] = copied(texts[place - half], rng)
    return [_chunk(number, text) for number, text in enumerate(texts)], {str(number) for number in planted}


def _chunk(number: int, text: str) -> Chunk:
    return Chunk(
        chunk_id=str(number), doc_id="d", document=f"act{number // DOCUMENT:05d}", title="Act", pages=[1],
        heading_path=[], section=f"Article {number}", start=0, end=len(text), text=text,
    )  # fmt: skip


def measure(count: int) -> str:
    """One row of the table."""
    chunks, planted = passages(count)
    held, looked = chunks[: count // 2], chunks[count // 2 :]
    vectors = np.random.default_rng(SEED).standard_normal((count, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def vectors_of(some: Sequence[Chunk]) -> NDArray[np.float32]:
        return vectors[[int(chunk.chunk_id) for chunk in some]]

    near_copies(looked[:20], held[:20], vectors_of)  # imports and caches
    before, began = _peak_mb(), time.process_time()
    copies = near_copies(looked, held, vectors_of)
    searched, memory = time.process_time() - began, _peak_mb() - before
    began = time.process_time()
    document_clusters(chunks, vectors_of)
    clustered = time.process_time() - began
    met = len(planted & copies.keys())
    return (
        f"| {count:,} | {searched:.1f} | {memory:.0f} | {met} of {len(planted)} | "
        f"{len(copies.keys() - planted)} | {clustered:.1f} | {_peak_mb() - before:.0f} |"
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure each size in a process of its own."""
    if sys.argv[1:2] == ["--one"]:
        sys.stdout.write(measure(int(sys.argv[2])) + "\n")
        return
    sys.stdout.write(
        "| passages | near_copies, s | more MB | planted found | others | document_clusters, s | more MB |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    for size in [int(text) for text in sys.argv[1:]] or SIZES:
        sys.stdout.flush()
        subprocess.run([sys.executable, "-m", "bench.near_copies", "--one", str(size)], check=True)


if __name__ == "__main__":
    main()
