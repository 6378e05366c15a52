"""Late interaction: question and chunk compared token by token.

One vector for a whole chunk blurs a provision that stands in one of its sentences. Here each token of a
question looks for its best match among the chunk's tokens, and rare tokens count more than frequent ones.

Source: Khattab and Zaharia 2020, ColBERT, section 3.3 (the sum of maximal similarities); weighting by
inverse document frequency: Wang et al. 2023, ColBERT-PRF, section 3.2. The token vectors are the
sentence embedder's own, which was not trained for it.
"""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mark.files import sha256_file, sha256_text, whole_folder
from mark.records import Chunk

log = logging.getLogger(__name__)

_FORMAT = 2  # of the stored folder
_SCALE = 127  # a unit vector's components as int8
_VECTORS, _IDS, _META = "vectors.i8", "ids.i4", "meta.json"

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


class TokenEncoder(Protocol):
    """What token vectors are made with."""

    def encode_tokens(self, texts: Sequence[str], truncate: bool = False) -> list[tuple[Ids, Floats]]:
        """For each text its token ids [tokens] and their unit vectors, float32 [tokens, dimension]."""
        ...


@dataclass(frozen=True)
class Query:
    """A question's tokens: unit vectors, float32 [tokens, dimension], and their weights [tokens]."""

    vectors: Floats
    weights: Floats


@dataclass(frozen=True)
class TokenPart:
    """The tokens of one document's chunks."""

    key: str  # of the texts
    counts: list[int]  # tokens of each chunk
    ids: NDArray[np.int32]  # [tokens]
    vectors: NDArray[np.int8]  # [tokens, dimension]


# Makes the tokens of documents, each given as its chunks, in their order.
PartMaker = Callable[[Iterable[Sequence[Chunk]]], Iterator[TokenPart]]


class TokenIndex:
    """Token vectors of all chunks, one byte a component (about 40 KB a chunk of 110 tokens)."""

    def __init__(self, counts: Sequence[int], ids: NDArray[np.int32], vectors: NDArray[np.int8]) -> None:
        """Take the tokens of all chunks, one chunk after the other.

        Args:
            counts: Tokens of each chunk.
            ids: int32 [tokens], of the vocabulary.
            vectors: int8 [tokens, dimension], unit vectors times 127.
        """
        self._starts = np.concatenate([[0], np.cumsum(np.asarray(counts, dtype=np.int64))])
        self._vectors = vectors
        owner = np.repeat(np.arange(len(counts)), np.diff(self._starts))
        pairs = np.unique(np.stack([np.asarray(ids, dtype=np.int64), owner]), axis=1)
        self._chunks_with = np.bincount(pairs[0]) if len(ids) else np.zeros(1, dtype=np.int64)
        self._chunks = len(counts)

    @classmethod
    def build(cls, chunks: Sequence[Chunk], encoder: TokenEncoder) -> TokenIndex:
        """Make the vectors in memory."""
        parts = list(_parts(chunks, _made_here(encoder), {}))
        counts = [count for part in parts for count in part.counts]
        return cls(counts, np.concatenate([p.ids for p in parts]), np.concatenate([p.vectors for p in parts]))

    @classmethod
    def open(
        cls,
        folder: Path,
        model: str,
        chunks: Sequence[Chunk],
        encoder: TokenEncoder,
        make: PartMaker | None = None,
    ) -> TokenIndex:
        """Read the stored vectors; make those of documents that are new or have changed.

        Texts of two documents never share a batch, so that a document's vectors do not depend on what
        else is in the corpus, or on what was stored before.

        Args:
            folder: Where they are stored; derived from the chunks, safe to delete.
            model: Hash of the embedder's weights.
            chunks: In the retriever's order.
            encoder: The embedder.
            make: Encodes what is new; None = `encoder`, in this process.
        """
        from filelock import FileLock

        maker = _maker(model)
        keys = [_key(_texts(group)) for group in _by_document(chunks)]
        stored = _read(folder, maker)
        if [part.key for part in stored] != keys:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f".{folder.name}.lock"):
                stored = _brought_up_to_date(folder, maker, keys, chunks, make or _made_here(encoder))
        counts = [count for part in stored for count in part.counts]
        ids, vectors = _whole(folder, sum(counts))
        return cls(counts, ids, vectors)

    def queries(self, encoder: TokenEncoder, questions: Sequence[str]) -> list[Query]:
        """Encode questions; a token that stands in few chunks weighs more."""
        return [
            Query(vectors, self._weights(ids))
            for ids, vectors in encoder.encode_tokens(questions, truncate=True)
        ]

    def _weights(self, ids: Ids) -> Floats:
        """ln(1 + chunks / (1 + chunks with the token))."""
        known = np.where(ids < len(self._chunks_with), ids, 0)
        found = np.where(ids < len(self._chunks_with), self._chunks_with[known], 0)
        return np.log(1 + self._chunks / (1 + found)).astype(np.float32)

    def scores(self, query: Query, rows: Sequence[int]) -> Floats:
        """Weighted mean over the question's tokens of each one's best cosine with a token of the chunk.

        Args:
            query: The question.
            rows: Chunks by number.

        Returns:
            float32 [rows], rounded to 6 digits; 0 for a chunk or question without tokens.
        """
        found = np.zeros(len(rows), dtype=np.float32)
        spans = [(i, int(self._starts[row]), int(self._starts[row + 1])) for i, row in enumerate(rows)]
        spans = [(i, start, end) for i, start, end in spans if end > start]
        if not spans or not len(query.weights):
            return found
        tokens = np.concatenate([self._vectors[start:end] for _, start, end in spans]).astype(np.float32)
        cosines = tokens @ (query.vectors.T / np.float32(_SCALE))  # [tokens of all rows, question tokens]
        begins = np.cumsum([0] + [end - start for _, start, end in spans[:-1]])
        best = np.maximum.reduceat(cosines, begins, axis=0)  # [rows, question tokens]
        found[[i for i, _, _ in spans]] = best @ query.weights / query.weights.sum()
        return np.round(found, 6)


def _brought_up_to_date(
    folder: Path, maker: str, keys: list[str], chunks: Sequence[Chunk], make: PartMaker
) -> list[TokenPart]:
    """Make what is new; another process may have done so while this one waited for the lock."""
    stored = _read(folder, maker)
    if [part.key for part in stored] == keys:
        return stored
    known = {part.key: part for part in stored}
    log.info("token vectors: %d of %d documents are new", len(set(keys) - set(known)), len(keys))
    _write(folder, maker, _parts(chunks, make, known))
    return _read(folder, maker)


def _maker(model: str) -> str:
    """Hash of all that decides a vector besides the text: weights, tokenizer, code, versions, processor."""
    import torch
    import transformers

    import mark

    package = Path(mark.__file__).parent
    code = [sha256_file(package / name) for name in ("models/embedder.py", "retrieval/late.py")]
    versions = [torch.__version__, transformers.__version__, np.__version__, platform.machine()]
    return sha256_text("\0".join([model, *code, *versions]))


def _by_document(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    return (list(group) for _, group in groupby(chunks, key=lambda chunk: chunk.doc_id))


def _texts(chunks: Sequence[Chunk]) -> list[str]:
    return [chunk.embedded_text for chunk in chunks]


def _key(texts: Iterable[str]) -> str:
    return sha256_text("\0".join(texts))


def token_part(texts: Sequence[str], encoder: TokenEncoder) -> TokenPart:
    """Encode one document.

    Args:
        texts: Of its chunks, as they are embedded.
        encoder: The embedder.
    """
    found = encoder.encode_tokens(texts)
    return TokenPart(
        _key(texts),
        [len(ids) for ids, _ in found],
        np.concatenate([ids for ids, _ in found]).astype(np.int32),
        np.concatenate([np.round(vectors * _SCALE).astype(np.int8) for _, vectors in found]),
    )


def _made_here(encoder: TokenEncoder) -> PartMaker:
    return lambda documents: (token_part(_texts(chunks), encoder) for chunks in documents)


def _parts(chunks: Sequence[Chunk], make: PartMaker, known: dict[str, TokenPart]) -> Iterator[TokenPart]:
    new = make(group for group in _by_document(chunks) if _key(_texts(group)) not in known)
    for group in _by_document(chunks):
        part = known.get(_key(_texts(group)))
        yield next(new) if part is None else part
    assert next(new, None) is None  # lets the maker tidy up


def _write(folder: Path, maker: str, parts: Iterator[TokenPart]) -> None:
    """One document after the other, so that memory does not grow with the corpus."""
    with whole_folder(folder) as work:
        documents = []
        with (work / _VECTORS).open("wb") as vectors, (work / _IDS).open("wb") as ids:
            for part in parts:
                vectors.write(np.ascontiguousarray(part.vectors).tobytes())
                ids.write(np.ascontiguousarray(part.ids).tobytes())
                documents.append({"key": part.key, "counts": part.counts})
        sums = {name: sha256_file(work / name) for name in (_VECTORS, _IDS)}
        meta = {"format": _FORMAT, "maker": maker, "sha256": sums, "documents": documents}
        (work / _META).write_text(json.dumps(meta), encoding="utf-8")


def _read(folder: Path, maker: str) -> list[TokenPart]:
    """What is stored for this embedder; nothing where there is none or it is damaged."""
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        if meta["format"] != _FORMAT or meta["maker"] != maker:
            return []
        if any(sha256_file(folder / name) != meta["sha256"][name] for name in (_VECTORS, _IDS)):
            raise ValueError("its hash does not match")
        listed = [(str(d["key"]), [int(count) for count in d["counts"]]) for d in meta["documents"]]
        ids, vectors = _whole(folder, sum(sum(counts) for _, counts in listed))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as fault:
        log.warning("%s is damaged (%s) and made anew", folder, fault)
        return []
    parts, place = [], 0
    for key, counts in listed:
        end = place + sum(counts)
        parts.append(TokenPart(key, counts, ids[place:end], vectors[place:end]))
        place = end
    return parts


def _whole(folder: Path, tokens: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """The stored arrays, the vectors mapped from disk.

    Raises:
        ValueError: The files do not hold so many tokens.
    """
    ids = np.fromfile(folder / _IDS, dtype=np.int32)
    vectors = np.memmap(folder / _VECTORS, dtype=np.int8, mode="r")
    if len(ids) != tokens or not tokens or len(vectors) % tokens:
        raise ValueError(f"{len(ids)} tokens stored, {tokens} listed")
    return ids, vectors.reshape(tokens, -1)
