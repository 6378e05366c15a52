"""The deployed retriever: exact vectors and keywords, fused."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mark.config import Retrieval
from mark.errors import ConfigError, DataError
from mark.files import CHUNKS, read_jsonl
from mark.ingest.index import embedder_sha256, read_embeddings, read_index
from mark.records import Chunk
from mark.retrieval.bm25 import KeywordIndex
from mark.retrieval.fusion import blend, fuse, ranking

log = logging.getLogger(__name__)

_BLOCK = 256  # questions scored at once


class Encoder(Protocol):
    """What the retriever needs of an embedder."""

    def encode(self, texts: Sequence[str], truncate: bool = False) -> NDArray[np.float32]:
        """Unit vectors, float32 [texts, dimension]."""
        ...


@dataclass(frozen=True)
class Hit:
    """A retrieved chunk."""

    chunk: Chunk
    score: float  # fused; comparable within one question only
    dense: float  # cosine of question and chunk
    bm25: float  # keyword score, 0 = no shared word


class Retriever:
    """Finds the chunks that a question is about."""

    def __init__(
        self, chunks: Sequence[Chunk], vectors: NDArray[np.float32], encoder: Encoder, settings: Retrieval
    ) -> None:
        """Build the keyword index.

        Args:
            chunks: At least one.
            vectors: float32 [chunks, dimension], unit rows in the chunks' order.
            encoder: Embeds questions.
            settings: Weights and depth of the rankings.

        Raises:
            ConfigError: Both weights are 0.
        """
        if settings.dense_weight <= 0 and settings.bm25_weight <= 0:
            raise ConfigError("retrieval.dense_weight and retrieval.bm25_weight are both 0; raise one")
        self.chunks: dict[str, Chunk] = {chunk.chunk_id: chunk for chunk in chunks}
        self._rows = list(chunks)
        self._vectors = vectors
        self._row_of = {chunk.chunk_id: row for row, chunk in enumerate(chunks)}
        self._encoder = encoder
        self._settings = settings
        self._keywords = KeywordIndex(chunks)
        order = sorted(range(len(chunks)), key=lambda row: chunks[row].chunk_id)
        self._tie_order = np.empty(len(chunks), dtype=np.int64)
        self._tie_order[order] = np.arange(len(chunks))

    @classmethod
    def open(cls, data: Path, embedder: Path, settings: Retrieval) -> Retriever:
        """Load what ingest wrote.

        Args:
            data: The data folder.
            embedder: Folder of the embedding model that ingest used.
            settings: Weights and depth of the rankings.

        Raises:
            DataError: A file is missing, or they do not belong together.
        """
        from mark.models.loading import Embedder

        index = read_index(data)
        chunks = read_jsonl(data / CHUNKS.name, Chunk)
        vectors = read_embeddings(data, index)
        if len(chunks) != index.chunks:
            raise DataError(
                f"{data / CHUNKS.name} holds {len(chunks)} chunks, index.json says {index.chunks}; "
                "run `dvc repro ingest`"
            )
        if embedder_sha256(embedder) != index.model_sha256:
            raise DataError(
                f"the vectors in {data} come from another embedder than {embedder}; run `dvc repro ingest`"
            )
        return cls(chunks, vectors, Embedder(embedder), settings)

    @classmethod
    def embedding(cls, chunks: Sequence[Chunk], embedder: Path, settings: Retrieval) -> Retriever:
        """A retriever over chunks that are embedded now.

        Args:
            chunks: At least one.
            embedder: Folder of the embedding model.
            settings: Weights and depth of the rankings.
        """
        from mark.models.loading import Embedder

        encoder = Embedder(embedder)
        return cls(chunks, encoder.encode([_embedded_text(chunk) for chunk in chunks]), encoder, settings)

    def over(self, chunks: Sequence[Chunk]) -> Retriever:
        """The same retrieval over other chunks, embedded now."""
        vectors = self._encoder.encode([_embedded_text(chunk) for chunk in chunks])
        return Retriever(chunks, vectors, self._encoder, self._settings)

    def search(
        self, questions: Sequence[str], k: int, allowed: Collection[str] | None = None
    ) -> list[list[Hit]]:
        """The best chunks for each question.

        Args:
            questions: Any number.
            k: How many chunks a question, at most.
            allowed: Chunk ids that may appear; None = all.

        Returns:
            For each question its hits, best first; equal scores in the order of chunk ids.
        """
        if k < 1 or not questions:
            return [[] for _ in questions]
        barred = None
        if allowed is not None:
            permitted = frozenset(allowed)
            barred = np.array([row.chunk_id not in permitted for row in self._rows])
        hits: list[list[Hit]] = []
        for start in range(0, len(questions), _BLOCK):
            block = list(questions[start : start + _BLOCK])
            # Rounded, so that the shape of a batch cannot decide between equals.
            dense = np.round(self._encoder.encode(block, truncate=True) @ self._vectors.T, 6)
            hits += [self._hits(text, row, k, barred) for text, row in zip(block, dense, strict=True)]
        return hits

    def cosines(
        self, questions: Sequence[str], chunk_ids: Sequence[Collection[str]]
    ) -> list[dict[str, float]]:
        """How close given chunks lie to each question.

        Args:
            questions: Any number.
            chunk_ids: For each question, ids of chunks of this corpus.

        Returns:
            For each question, chunk id -> cosine, rounded to 6 digits.
        """
        row_of = {chunk.chunk_id: row for row, chunk in enumerate(self._rows)}
        found: list[dict[str, float]] = []
        for start in range(0, len(questions), _BLOCK):
            encoded = self._encoder.encode(list(questions[start : start + _BLOCK]), truncate=True)
            for vector, ids in zip(encoded, chunk_ids[start : start + _BLOCK], strict=True):
                rows = [row_of[chunk_id] for chunk_id in ids]
                values = np.round(self._vectors[rows] @ vector, 6) if rows else []
                found.append({chunk_id: float(v) for chunk_id, v in zip(ids, values, strict=True)})
        return found

    def encode(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of questions, float32 [questions, dimension]; long ones are cut."""
        return self._encoder.encode(list(questions), truncate=True)

    def vectors_of(self, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        """Unit vectors of chunks of this corpus, float32 [chunks, dimension]."""
        return self._vectors[[self._row_of[chunk.chunk_id] for chunk in chunks]]

    def _hits(
        self, question: str, dense: NDArray[np.float32], k: int, barred: NDArray[np.bool_] | None
    ) -> list[Hit]:
        """Fuse the two rankings of one question.

        Args:
            question: Its text.
            dense: float32 [chunks], cosines.
            k: How many hits at most.
            barred: bool [chunks], True where a chunk may not appear; None = nowhere.
        """
        keywords = np.round(self._keywords.scores(question), 6)
        shared = np.where(keywords > 0, keywords, -np.inf)
        cosines = dense
        if barred is not None:
            shared, cosines = np.where(barred, -np.inf, shared), np.where(barred, -np.inf, dense)
        depth = max(self._settings.candidates, k)
        rankings = [ranking(scores, self._tie_order, depth) for scores in (cosines, shared)]
        weights = [self._settings.dense_weight, self._settings.bm25_weight]
        if self._settings.fusion == "score":
            fused = blend(rankings, [cosines, shared], weights, depth)
        else:
            fused = fuse(rankings, weights, self._settings.rrf_k)
        best = sorted(fused, key=lambda row: (-fused[row], self._tie_order[row]))[:k]
        return [Hit(self._rows[row], fused[row], float(dense[row]), float(keywords[row])) for row in best]


def _embedded_text(chunk: Chunk) -> str:
    return f"{chunk.heading}\n{chunk.text}"
