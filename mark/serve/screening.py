"""A server's screened inbox: kept until a file that decides changes, by an embedder that is loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mark.config import PARAMS
from mark.files import EMBEDDER, HANDWRITTEN_TEST, TEST_SFT
from mark.pipeline.auto import LOADING
from mark.rlhf.feedback import ACCEPTED, INBOX, REJECTED, Chosen, Encode
from mark.rlhf.review import Reviewed, Waiting, project_encoder, review, screened_inbox
from mark.serve.pool import Signature, file_signature

_CONFIG = EMBEDDER / "config.json"
_READ = (INBOX, ACCEPTED, REJECTED, TEST_SFT, HANDWRITTEN_TEST, PARAMS, _CONFIG)
_KEPT = 20_000  # vectors: 30 MB of those with 384 numbers


class Screening:
    """Screens and reviews; used by one thread."""

    def __init__(self, root: Path) -> None:
        """Nothing is read yet.

        Args:
            root: The project's root.
        """
        self._root = root
        self._screened: tuple[list[Signature], Waiting] | None = None
        self._encode: tuple[Signature, Encode | None] | None = None

    def inbox(self) -> Waiting:
        """The inbox as it is now.

        Raises:
            MarkError: As `screened_inbox`.
        """
        seen = [file_signature(self._root / path) for path in _READ]
        if self._screened is None or self._screened[0] != seen:
            self._screened = seen, screened_inbox(self._root, self._encoder)
        return self._screened[1]

    def review(self, accepted: Sequence[Chosen], refused: Sequence[str]) -> Reviewed:
        """As `mark.rlhf.review.review`."""
        return review(self._root, accepted, refused, self._encoder)

    def _encoder(self, root: Path) -> Encode | None:
        """Questions are answered while it works: only loading it keeps other models from loading."""
        found = file_signature(root / _CONFIG)
        if self._encode is None or self._encode[0] != found:
            with LOADING:
                encode = project_encoder(root)
            self._encode = found, None if encode is None else KnownVectors(encode, _KEPT)
        return self._encode[1]


class KnownVectors:
    """Encodes each text once, as long as it is among the last."""

    def __init__(self, encode: Encode, limit: int) -> None:
        """Nothing is encoded yet.

        Args:
            encode: Makes unit vectors of texts.
            limit: Vectors that are kept between two calls.
        """
        self._encode, self._limit = encode, limit
        self._known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, float32 [len(texts), dimension]."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for text, vector in zip(new, self._encode(new) if new else (), strict=True):
            self._known[text] = vector.copy()
        found = np.array([self._known[text] for text in texts], dtype=np.float32)
        for text in list(self._known)[: -self._limit]:
            del self._known[text]
        return found
