"""The deployed retriever: vectors and keywords, fused, and the best of them looked at token by token."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mark.config import Retrieval
from mark.errors import ConfigError, DataError
from mark.files import CHUNKS, RERANKER, TOKEN_VECTORS, read_jsonl
from mark.ingest.index import embedder_sha256, read_embeddings, read_index
from mark.records import Chunk
from mark.retrieval.bm25 import KeywordIndex
from mark.retrieval.dense import DenseSearch, ExactSearch, Mask, cosines_with
from mark.retrieval.fusion import blend, fuse, ranking, scaled
from mark.retrieval.late import PartMaker, TokenIndex
from mark.retrieval.naming import DocumentNames, Mention

log = logging.getLogger(__name__)

_BLOCK = 256  # questions scored at once


class Encoder(Protocol):
    """What the retriever needs of an embedder."""

    def encode(self, texts: Sequence[str], truncate: bool = False) -> NDArray[np.float32]:
        """Unit vectors, float32 [texts, dimension]."""
        ...

    def encode_tokens(
        self, texts: Sequence[str], truncate: bool = False
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """For each text its token ids [tokens] and their unit vectors, float32 [tokens, dimension]."""
        ...


@dataclass(frozen=True)
class Hit:
    """A retrieved chunk."""

    chunk: Chunk
    score: float  # fused; comparable within one question only
    dense: float  # cosine of question and chunk
    bm25: float  # keyword score, 0 = no shared word


class Reranker(Protocol):
    """What the retriever needs of a cross-encoder."""

    def scores(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """How well each text answers the question, float32 [texts]."""
        ...


@dataclass(frozen=True)
class Parts:
    """What a retriever searches with besides keywords.

    Attributes:
        dense: Vectors of the chunks, in their order.
        encoder: Embeds questions.
        tokens: Token vectors of the chunks; None where `late_weight` is 0.
        reranker: Orders the best chunks anew; None = keep their order.
    """

    dense: DenseSearch
    encoder: Encoder
    tokens: TokenIndex | None = None
    reranker: Reranker | None = None


class Retriever:
    """Finds the chunks that a question is about."""

    def __init__(self, chunks: Sequence[Chunk], parts: Parts, settings: Retrieval) -> None:
        """Build the keyword index and collect the documents' names.

        Args:
            chunks: At least one.
            parts: Vectors in the chunks' order, and the embedder.
            settings: Weights and depth of the rankings.

        Raises:
            ConfigError: Both weights are 0.
        """
        if settings.dense_weight <= 0 and settings.bm25_weight <= 0:
            raise ConfigError("retrieval.dense_weight and retrieval.bm25_weight are both 0; raise one")
        self.chunks: dict[str, Chunk] = {chunk.chunk_id: chunk for chunk in chunks}
        self._rows = list(chunks)
        self._parts = parts
        self._row_of = {chunk.chunk_id: row for row, chunk in enumerate(chunks)}
        self._settings = settings
        self._keywords = KeywordIndex(chunks)
        self._names = DocumentNames(chunks)
        self._others: dict[str, NDArray[np.float32]] = {}
        self._documents = np.array([chunk.document for chunk in chunks])
        order = sorted(range(len(chunks)), key=lambda row: chunks[row].chunk_id)
        self._tie_order = np.empty(len(chunks), dtype=np.int64)
        self._tie_order[order] = np.arange(len(chunks))

    @classmethod
    def open(
        cls,
        data: Path,
        embedder: Path,
        settings: Retrieval,
        dense: DenseSearch | None = None,
        make_tokens: PartMaker | None = None,
    ) -> Retriever:
        """Load what ingest wrote.

        Args:
            data: The data folder.
            embedder: Folder of the embedding model; a reranker's lies beside it.
            settings: Weights and depth of the rankings.
            dense: Searched instead of all vectors, see `mark.retrieval.serving.open_chroma`.
            make_tokens: Makes the token vectors that are missing; None = this process.

        Raises:
            DataError: A file is missing, or they do not belong together.
            ModelError: A model is missing or damaged.
        """
        from mark.models.loading import Embedder

        index = read_index(data)
        chunks = read_jsonl(data / CHUNKS.name, Chunk)
        if len(chunks) != index.chunks:
            raise DataError(
                f"{data / CHUNKS.name} holds {len(chunks)} chunks, index.json says {index.chunks}; "
                "run `dvc repro ingest`"
            )
        if embedder_sha256(embedder) != index.model_sha256:
            raise DataError(
                f"the vectors in {data} come from another embedder than {embedder}; run `dvc repro ingest`"
            )
        dense = dense or ExactSearch(read_embeddings(data, index))
        encoder, tokens = Embedder(embedder), None
        if settings.late_weight > 0:
            folder = data / TOKEN_VECTORS.name
            tokens = TokenIndex.open(folder, index.model_sha256, chunks, encoder, make_tokens)
        return cls(chunks, Parts(dense, encoder, tokens, _reranker(embedder, settings)), settings)

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
        tokens = TokenIndex.build(chunks, encoder) if settings.late_weight > 0 else None
        dense = ExactSearch(encoder.encode([chunk.embedded_text for chunk in chunks]))
        return cls(chunks, Parts(dense, encoder, tokens, _reranker(embedder, settings)), settings)

    def over(self, chunks: Sequence[Chunk]) -> Retriever:
        """The same retrieval over other chunks, see `vectors_of`."""
        encoder = self._parts.encoder
        dense = ExactSearch(self.vectors_of(chunks))
        tokens = TokenIndex.build(chunks, encoder) if self._parts.tokens is not None else None
        return Retriever(chunks, replace(self._parts, dense=dense, tokens=tokens), self._settings)

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
            hits += self._block(list(questions[start : start + _BLOCK]), k, barred)
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
        found: list[dict[str, float]] = []
        for start in range(0, len(questions), _BLOCK):
            encoded = self._parts.encoder.encode(list(questions[start : start + _BLOCK]), truncate=True)
            for vector, ids in zip(encoded, chunk_ids[start : start + _BLOCK], strict=True):
                rows = [self._row_of[chunk_id] for chunk_id in ids]
                values = cosines_with(self._parts.dense, vector, rows).tolist() if rows else []
                found.append(dict(zip(ids, values, strict=True)))
        return found

    def encode(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of questions, float32 [questions, dimension]; long ones are cut."""
        return self._parts.encoder.encode(list(questions), truncate=True)

    def vectors_of(self, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        """Unit vectors of chunks, float32 [chunks, dimension]; those of other corpora are embedded once."""
        new = {chunk.chunk_id: chunk for chunk in chunks if chunk.chunk_id not in self._row_of}
        new = {chunk_id: chunk for chunk_id, chunk in new.items() if chunk_id not in self._others}
        if new:
            vectors = self._parts.encoder.encode([chunk.embedded_text for chunk in new.values()])
            self._others.update(zip(new, vectors, strict=True))
        known = [chunk.chunk_id for chunk in chunks if chunk.chunk_id in self._row_of]
        if len(known) == len(chunks):
            return self._parts.dense.stored([self._row_of[chunk_id] for chunk_id in known])
        stored = self._parts.dense.stored([self._row_of[chunk_id] for chunk_id in known])
        found = {**self._others, **dict(zip(known, stored, strict=True))}
        return np.stack([found[chunk.chunk_id] for chunk in chunks])

    def _block(self, questions: list[str], k: int, barred: Mask | None) -> list[list[Hit]]:
        """Search for some questions, each also without the documents' names among these documents alone."""
        mentions = [self._mention(question) for question in questions]
        named = [i for i, mention in enumerate(mentions) if mention is not None]
        asked = [*questions, *(mention.rest for mention in mentions if mention is not None)]
        masks = [barred] * len(questions)
        masks += [self._outside(mention, barred) for mention in mentions if mention is not None]
        vectors = self._parts.encoder.encode(asked, truncate=True)
        depth = max(self._settings.candidates, k)
        dense = self._parts.dense.scores(vectors, depth, masks)
        fused = [self._fuse(*one, depth) for one in zip(asked, dense, masks, strict=True)]
        share = self._settings.document_weight
        texts = list(questions)
        for place, i in enumerate(named, start=len(questions)):
            fused[i] = _mixed(fused[i], fused[place], share)
            texts[i] = asked[place]
        best = [self._ordered(scores)[:depth] for scores in fused[: len(questions)]]
        if self._parts.tokens is not None:
            best = self._look_closer(texts, best, fused)
        return [
            self._hits(question, vectors[i], dense[i], rows, fused[i], k)
            for i, (question, rows) in enumerate(zip(questions, best, strict=True))
        ]

    def _mention(self, question: str) -> Mention | None:
        return self._names.mention(question) if self._settings.document_weight > 0 else None

    def _outside(self, mention: Mention, barred: Mask | None) -> Mask:
        outside = ~np.isin(self._documents, sorted(mention.documents))
        return outside if barred is None else outside | barred

    def _fuse(
        self, question: str, cosines: NDArray[np.float32], barred: Mask | None, depth: int
    ) -> dict[int, float]:
        """Fuse the two rankings of one question.

        Args:
            question: Its text.
            cosines: float32 [chunks], -inf where a chunk is barred.
            barred: bool [chunks], True where a chunk may not appear; None = nowhere.
            depth: Of each ranking.
        """
        keywords = np.round(self._keywords.scores(question), 6)
        shared = np.where(keywords > 0, keywords, -np.inf)
        if barred is not None:
            shared = np.where(barred, -np.inf, shared)
        rankings = [ranking(scores, self._tie_order, depth) for scores in (cosines, shared)]
        weights = [self._settings.dense_weight, self._settings.bm25_weight]
        if self._settings.fusion == "score":
            return blend(rankings, [cosines, shared], weights, depth)
        return fuse(rankings, weights, self._settings.rrf_k)

    def _ordered(self, fused: dict[int, float]) -> list[int]:
        return sorted(fused, key=lambda row: (-fused[row], self._tie_order[row]))

    def _look_closer(
        self, questions: list[str], best: list[list[int]], fused: list[dict[int, float]]
    ) -> list[list[int]]:
        """Add the token-level score of the best candidates to their fused one, and order them anew."""
        assert self._parts.tokens is not None
        queries = self._parts.tokens.queries(self._parts.encoder, questions)
        ordered = []
        for i, rows in enumerate(best):
            found = scaled(self._parts.tokens.scores(queries[i], rows))
            for row, value in zip(rows, found.tolist(), strict=True):
                fused[i][row] += self._settings.late_weight * value
            ordered.append(sorted(rows, key=lambda row: (-fused[i][row], self._tie_order[row])))
        return ordered

    def _hits(
        self,
        question: str,
        vector: NDArray[np.float32],
        dense: NDArray[np.float32],
        rows: list[int],
        fused: dict[int, float],
        k: int,
    ) -> list[Hit]:
        """The final order as hits."""
        reranked = self._rerank(question, rows)[:k]
        unknown = [row for row in reranked if not np.isfinite(dense[row])]
        if unknown:
            dense = dense.copy()
            dense[unknown] = cosines_with(self._parts.dense, vector, unknown)
        words = np.round(self._keywords.scores(question), 6)
        return [Hit(self._rows[row], fused[row], float(dense[row]), float(words[row])) for row in reranked]

    def _rerank(self, question: str, rows: list[int]) -> list[int]:
        """The first `reranker.candidates` by the cross-encoder, then the others as they were."""
        if self._parts.reranker is None or self._settings.reranker is None:
            return rows
        first = rows[: self._settings.reranker.candidates]
        found = self._parts.reranker.scores(question, [self._rows[row].embedded_text for row in first])
        order = sorted(range(len(first)), key=lambda i: (-round(float(found[i]), 5), i))
        return [*(first[i] for i in order), *rows[len(first) :]]


def _mixed(everywhere: dict[int, float], named: dict[int, float], share: float) -> dict[int, float]:
    """Weighted mean of the scores in the whole corpus and in the named documents alone."""
    rows = {**everywhere, **named}
    return {row: (1 - share) * everywhere.get(row, 0.0) + share * named.get(row, 0.0) for row in rows}


def _reranker(embedder: Path, settings: Retrieval) -> Reranker | None:
    if settings.reranker is None:
        return None
    from mark.models.reranker import CrossEncoder

    return CrossEncoder(embedder.parent / RERANKER.name, settings.reranker.batch_size)
