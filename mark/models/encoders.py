"""Loading the encoders of retrieval: the embedding model and the reranker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mark.errors import ModelError
from mark.models.faults import LOAD_FAULTS, first_line
from mark.models.quiet import quiet_progress


def load_encoder(kind: str, auto_class: Any, folder: Path) -> tuple[Any, Any, list[str]]:
    """A tokenizer and a model in float32, from safetensors and without remote code.

    Args:
        kind: What it is, for messages.
        auto_class: A class of transformers, e.g. `AutoModel`.
        folder: A folder of `fetch_model`.

    Returns:
        Tokenizer, model, and the names of weights that the folder lacks, ascending.

    Raises:
        ModelError: The folder is missing or damaged.
    """
    from transformers import AutoTokenizer

    if not (folder / "config.json").is_file():
        raise ModelError(f"{kind} {folder} is missing; run `dvc repro base_model` (or `dvc pull`)")
    try:
        with quiet_progress():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model, info = auto_class.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
                output_loading_info=True,
            )  # fmt: skip
    except LOAD_FAULTS as fault:
        raise ModelError(
            f"{folder} cannot be loaded ({first_line(fault)}); run `dvc repro -f base_model`"
        ) from None
    return tokenizer, model, sorted(info["missing_keys"])
