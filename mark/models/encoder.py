"""Loading what embedder and reranker share: a BERT-like encoder and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mark.errors import ModelError
from mark.models.faults import LOAD_FAULTS, first_line
from mark.models.quiet import quiet_progress


def load_encoder(folder: Path, model_class: Any, role: str) -> tuple[Any, Any, Sequence[str]]:
    """Load a tokenizer and a model in float32, from safetensors, running no code of the folder.

    Args:
        folder: A folder of `fetch_model`.
        model_class: One of transformers' auto classes.
        role: What the folder is for, in an error's words.

    Returns:
        Tokenizer, model, and the weights that the model has and the folder lacks, ascending.

    Raises:
        ModelError: The folder is missing or damaged.
    """
    from transformers import AutoTokenizer

    if not (folder / "config.json").is_file():
        raise ModelError(f"{role} {folder} is missing; run `dvc repro base_model` (or `dvc pull`)")
    try:
        with quiet_progress():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model, info = model_class.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
                output_loading_info=True,
            )  # fmt: skip
    except LOAD_FAULTS as fault:
        raise ModelError(
            f"{folder} cannot be loaded ({first_line(fault)}); run `dvc repro -f base_model`"
        ) from None
    return tokenizer, model, sorted(info["missing_keys"])
