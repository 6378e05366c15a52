"""Chunks -> vectors that depend on nothing but their own document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mark.records import Chunk


class Model(Protocol):
    """What embedding needs of an embedder."""

    dimension: int

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, float32 [texts, dimension]."""
        ...


def embedded_texts(chunks: Sequence[Chunk]) -> list[str]:
    """What is embedded of each chunk: its heading above its text; the file's name is not in it."""
    return [chunk.embedded_text for chunk in chunks]


def embed_document(
    model: Model, texts: Sequence[str], batch: int, tell: Callable[[str], None]
) -> NDArray[np.float32]:
    """Embed the texts of one document.

    Padding and the shape of a batch change the last bits of a vector, so a batch never holds
    texts of two documents: whatever else is ingested, a document's vectors stay the same to the
    bit. Inside the document texts of like length share a batch.

    Args:
        model: The embedder.
        texts: All texts of the document, at least one.
        batch: Texts a forward pass.
        tell: Told how far it is.

    Returns:
        float32 [texts, dimension], rows of length 1.
    """
    lengths = model.count_tokens(texts)
    order = sorted(range(len(texts)), key=lambda row: (-lengths[row], row))
    vectors = np.empty((len(texts), model.dimension), dtype=np.float32)
    for start in range(0, len(order), batch):
        tell(f"{start} of {len(order)} chunks embedded")
        rows = order[start : start + batch]
        vectors[rows] = model.encode([texts[row] for row in rows])
    return vectors
