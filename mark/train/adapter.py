"""The base model under a fresh LoRA adapter, ready to train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mark.config import Lora
from mark.errors import ConfigError
from mark.models.loading import load_base
from mark.models.storage import WHOLE, Storage
from mark.models.targets import lora_targets
from mark.seeding import derived_seed

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


def build_model(
    base_folder: Path, lora: Lora, seed: int, device: torch.device, bf16: bool, storage: Storage = WHOLE
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Load the base and add an adapter whose start depends on the seed alone.

    Args:
        base_folder: `models/base/<name>`.
        lora: Rank, scale, dropout and targets.
        seed: Of the run.
        device: Where it trains.
        bf16: Matrix products will run in bfloat16.
        storage: How the base's weights are held; in 4 bits or in shards they are bfloat16 as a whole where
            `bf16` is set, so the residual stream is too.

    Returns:
        The model in training mode (adapter float32 and trainable, all else frozen) and the tokenizer.

    Raises:
        ModelError: The base cannot be loaded, or its architecture has no known targets.
        ConfigError: train.lora.target_modules names modules that LoRA cannot train.
    """
    from peft import LoraConfig, get_peft_model

    low = bf16 and storage != WHOLE
    model, tokenizer = load_base(base_folder, torch.bfloat16 if low else torch.float32, device, storage)
    wanted = lora.target_modules
    targets = lora_targets(str(model.config.model_type)) if wanted == "auto" else list(wanted)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(derived_seed(seed, "lora"))
    try:
        tuned = get_peft_model(model, config)
    except ValueError as fault:
        raise ConfigError(
            f"train.lora.target_modules: {targets} found; {str(fault).splitlines()[0]}"
        ) from None
    if bf16 and not low:
        _store_frozen_bf16(tuned)
    return tuned.train(), tokenizer


def _store_frozen_bf16(model: PeftModel) -> None:
    """Keep the adapted layers' frozen weights as autocast would cast them in each step.

    The products are the same bit for bit; the cast and the float32 copies are saved. Embeddings, norms
    and head stay float32, and with them the residual stream.
    """
    from peft.tuners.lora import Linear

    for module in model.modules():
        if isinstance(module, Linear):
            module.get_base_layer().to(torch.bfloat16)
