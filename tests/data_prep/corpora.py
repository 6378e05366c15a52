"""Random corpora with a tiny encoder, for properties that must hold on any input."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mark.data_prep.build import Dataset, Material, build_dataset
from mark.data_prep.split import HeldOut
from mark.files import sha256_text
from mark.records import Chunk, Page, PracticeQuestion
from mark.retrieval import Retriever
from mark.retrieval.dense import ExactSearch
from mark.retrieval.retriever import Parts
from tests.data_prep.passages import retrieval, settings

ACTORS = ["supplier", "agency", "owner", "tenant", "board", "carrier", "bank", "court", "council", "importer"]
VERBS = [
    "keep",
    "submit",
    "publish",
    "repair",
    "deliver",
    "inspect",
    "destroy",
    "return",
    "register",
    "store",
]
OBJECTS = [
    "records",
    "goods",
    "reports",
    "permits",
    "vessels",
    "accounts",
    "samples",
    "licences",
    "keys",
    "maps",
]
PLACES = ["the harbour", "the archive", "the registry", "the depot", "the laboratory", "the town hall"]
ADJECTIVES = [
    "annual",
    "damaged",
    "foreign",
    "sealed",
    "written",
    "public",
    "minor",
    "urgent",
    "older",
    "spare",
]


class WordHashes:
    """Unit vectors of hashed words: a deterministic stand-in for the embedder."""

    def __init__(self, dimension: int = 64) -> None:
        self._dimension = dimension

    def encode(self, texts: Sequence[str], truncate: bool = False) -> NDArray[np.float32]:
        """float32 [texts, dimension]."""
        vectors = np.full((len(texts), self._dimension), 1e-3, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                place = zlib.crc32(word.encode())
                vectors[row, place % self._dimension] += 1 if place & 1024 else -1
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def provision(rng: random.Random) -> str:
    """Two sentences of a statute that nobody wrote."""
    actor, other, verb, thing = rng.choice(ACTORS), rng.choice(ACTORS), rng.choice(VERBS), rng.choice(OBJECTS)
    days, years, sum_of = rng.randrange(2, 400), rng.randrange(2, 90), rng.randrange(100, 99999)
    return rng.choice(
        [
            f"The {actor} shall {verb} all {rng.choice(ADJECTIVES)} {thing} at {rng.choice(PLACES)} within {days} days after the {other} asks for them. A breach is punished by a fine of {sum_of} euros.",
            f"Where the {other} finds {rng.choice(ADJECTIVES)} {thing}, the {actor} shall {verb} them for {years} years in order to protect {rng.choice(PLACES)}. The {actor} may ask the {other} for a fee of {sum_of} euros.",
            f"'{rng.choice(ADJECTIVES)} {thing} of class {sum_of}' means {thing} that the {actor} holds at {rng.choice(PLACES)} for more than {days} days. The {other} must not {verb} them without the consent of the {actor}.",
        ]
    )  # fmt: skip


def corpus(
    seed: int, documents: int, sections: int, chunks: int = 1, texts: Sequence[str] = ()
) -> tuple[list[Page], list[Chunk]]:
    """Pages and chunks; `texts` replace the first provisions."""
    rng = random.Random(seed)
    given = iter(texts)
    pages: list[Page] = []
    made: list[Chunk] = []
    for d in range(documents):
        name, offset = f"act{d:03d}", 0
        doc_id = sha256_text(name)
        for s in range(1, sections + 1):
            page_text = ""
            for _ in range(chunks):
                text = next(given, None) or provision(rng)
                start = offset + len(page_text)
                made.append(
                    Chunk(
                        chunk_id=sha256_text(f"{name}/{s}/{start}/{text}")[:16], doc_id=doc_id, document=name,
                        title=f"Harbour Act {d}", heading_path=[f"Article {s} Matters of {rng.choice(OBJECTS)}"],
                        section=f"Article {s}", pages=[s], start=start, end=start + len(text), text=text,
                    )
                )  # fmt: skip
                page_text += text + "\n"
            pages.append(
                Page(
                    doc_id=doc_id, document=name, title=f"Harbour Act {d}", page=s, label=str(s),
                    text=page_text, offset=offset, raw_map=[(0, 0)],
                )
            )  # fmt: skip
            offset += len(page_text)
    return pages, made


def retriever_over(chunks: Sequence[Chunk]) -> Retriever:
    """The real retriever with the tiny encoder."""
    encoder = WordHashes()
    vectors = encoder.encode([f"{chunk.heading}\n{chunk.text}" for chunk in chunks])
    return Retriever(chunks, Parts(ExactSearch(vectors), encoder), retrieval())


def prepared(
    pages: Sequence[Page],
    chunks: Sequence[Chunk],
    seed: int,
    held_out: HeldOut | None = None,
    practice: Sequence[PracticeQuestion] = (),
    **changes: object,
) -> Dataset:
    """The whole stage on these chunks, in memory."""
    material = Material(pages, retriever_over(chunks), held_out or HeldOut(), practice)
    return build_dataset(material, settings(**changes), 3, seed)
