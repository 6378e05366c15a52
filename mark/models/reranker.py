"""A cross-encoder: question and passage read together, one score out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mark.errors import ModelError
from mark.models.encoder import load_encoder


class CrossEncoder:
    """Scores passages for a question; only the order of the scores means something.

    Source: Nogueira and Cho 2019, "Passage Re-ranking with BERT", section 3.
    """

    def __init__(self, folder: Path, batch: int = 16, device: str | torch.device = "cpu") -> None:
        """Load it.

        Args:
            folder: A folder of `fetch_model`.
            batch: Pairs a forward pass.
            device: `cpu`, `cuda`, ...

        Raises:
            ModelError: The folder is missing, damaged, or holds a model with other than one output.
        """
        from transformers import AutoModelForSequenceClassification

        self._tokenizer, model, missing = load_encoder(folder, AutoModelForSequenceClassification, "reranker")
        if missing or model.config.num_labels != 1:
            found = f"{missing[0]} is missing" if missing else f"it has {model.config.num_labels} outputs"
            raise ModelError(
                f"{folder} is no cross-encoder with one output ({found}); set retrieval.reranker.weights to one"
            )
        self._model = model.to(device).eval()
        self._device = torch.device(device)
        self._batch = batch
        self._max_tokens = min(int(self._tokenizer.model_max_length), int(model.config.max_position_embeddings))

    @torch.inference_mode()
    def scores(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """How well each text answers the question.

        Args:
            question: Kept whole where it fits.
            texts: Cut at their end where the pair is too long.

        Returns:
            float32 [texts], higher is better.
        """
        found = np.empty(len(texts), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
        for start in range(0, len(order), self._batch):
            rows = order[start : start + self._batch]
            pairs = self._tokenizer(
                [question] * len(rows), [texts[i] for i in rows], padding=True, truncation="longest_first",
                max_length=self._max_tokens, return_tensors="pt",
            )  # fmt: skip
            logits = self._model(**pairs.to(self._device)).logits  # [rows, 1]
            found[rows] = logits[:, 0].float().cpu().numpy()
        return found
