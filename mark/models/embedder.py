"""Sentence embeddings: a BERT-like encoder, the mean over its tokens, unit length."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from mark.errors import ModelError
from mark.models.encoder import load_encoder

log = logging.getLogger(__name__)


class Embedder:
    """Turns texts into unit vectors; the dot product of two is their cosine.

    Source: sentence-transformers, `models/Pooling.py` (mean of the token vectors under the
    attention mask) and `models/Normalize.py`.
    """

    def __init__(self, folder: Path, batch: int = 64, device: str | torch.device = "cpu") -> None:
        """Load the encoder.

        Args:
            folder: A folder of `fetch_model`.
            batch: Texts a forward pass.
            device: `cpu`, `cuda`, ...

        Raises:
            ModelError: The folder is missing, no model or damaged.
        """
        from transformers import AutoModel

        self._tokenizer, model, lacking = load_encoder(folder, AutoModel, "embedder")
        # The pooler serves BERT's own pre-training; mean pooling does not read it.
        missing = [key for key in lacking if not key.startswith("pooler.")]
        if missing:
            raise ModelError(f"{folder}: {len(missing)} weights are missing ({missing[0]}); fetch it anew")
        self._model = model.to(device).eval()
        self._device = torch.device(device)
        self._batch = batch
        self.max_tokens = _limit(folder, int(model.config.max_position_embeddings))
        self.dimension = int(model.config.hidden_size)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included."""
        return [len(ids) for ids in self._ids(texts)]

    def encode(self, texts: Sequence[str], truncate: bool = False) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: Any number, in any order.
            truncate: Cut texts beyond `max_tokens` instead of refusing them.

        Returns:
            float32 array [len(texts), dimension], rows of length 1.

        Raises:
            ModelError: A text has more than `max_tokens` tokens and `truncate` is false.
        """
        encoded = self._within_limit(texts, truncate)
        vectors = np.empty((len(encoded), self.dimension), dtype=np.float32)
        for rows in self._batches(encoded):
            hidden, mask = self._forward([encoded[i] for i in rows])
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            vectors[rows] = torch.nn.functional.normalize(mean, p=2, dim=1).cpu().numpy()
        return vectors

    def encode_tokens(
        self, texts: Sequence[str], truncate: bool = False
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Contextual vectors of single tokens, the special ones at both ends left out.

        Args:
            texts: Any number, in any order.
            truncate: Cut texts beyond `max_tokens` instead of refusing them.

        Returns:
            For each text its token ids, int64 [tokens], and float32 [tokens, dimension], rows of length 1.

        Raises:
            ModelError: A text has more than `max_tokens` tokens and `truncate` is false.
        """
        encoded = self._within_limit(texts, truncate)
        found: dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
        for rows in self._batches(encoded):
            hidden, _ = self._forward([encoded[i] for i in rows])
            unit = torch.nn.functional.normalize(hidden, p=2, dim=2).cpu().numpy()
            for place, i in enumerate(rows):
                ids = np.array(encoded[i], dtype=np.int64)
                kept = ~np.isin(ids, self._tokenizer.all_special_ids)
                found[i] = ids[kept], unit[place, : len(ids)][kept]
        return [found[i] for i in range(len(encoded))]

    def _within_limit(self, texts: Sequence[str], truncate: bool) -> list[list[int]]:
        encoded = self._ids(texts)
        long = [i for i, ids in enumerate(encoded) if len(ids) > self.max_tokens]
        if long and not truncate:
            raise ModelError(
                f"a text of {len(encoded[long[0]])} tokens exceeds the embedder's {self.max_tokens} "
                f"({texts[long[0]][:60]!r}...); lower ingest.chunk_tokens or shorten the question"
            )
        if long:
            shortened = self._ids([texts[i] for i in long], self.max_tokens)
            for i, ids in zip(long, shortened, strict=True):
                encoded[i] = ids
        return encoded

    def _batches(self, encoded: list[list[int]]) -> Iterator[list[int]]:
        """Texts by length, longest first: little padding, and a lack of memory shows at once."""
        order = sorted(range(len(encoded)), key=lambda i: (-len(encoded[i]), i))
        starts = range(0, len(order), self._batch)
        for start in tqdm(starts, desc="embed", unit="batch", disable=len(starts) < 8 or None):
            yield order[start : start + self._batch]

    def _ids(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        if not texts:
            return []
        options = {"truncation": True, "max_length": limit} if limit is not None else {}
        return list(self._tokenizer(list(texts), verbose=False, **options)["input_ids"])

    @torch.inference_mode()
    def _forward(self, batch: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states [batch, width, dimension] and the attention mask [batch, width]."""
        width = max(len(ids) for ids in batch)
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in batch])  # [batch, width]
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
        ids, mask = ids.to(self._device), mask.to(self._device)
        return self._model(input_ids=ids, attention_mask=mask).last_hidden_state, mask


def _limit(folder: Path, positions: int) -> int:
    """The length that the model was trained for, where sentence_bert_config.json names it."""
    path = folder / "sentence_bert_config.json"
    if not path.is_file():
        return positions
    try:
        named = json.loads(path.read_text(encoding="utf-8")).get("max_seq_length")
    except (ValueError, AttributeError):
        raise ModelError(f"{path} is damaged; run `dvc repro -f base_model`") from None
    return min(positions, int(named)) if named is not None else positions
