"""The LoRA targets of each architecture get gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mark.errors import ModelError
from mark.models.loading import load_base
from mark.models.targets import lora_targets


@pytest.mark.parametrize(("name", "modules"), [("tiny_llama_dir", 2 * 7), ("tiny_mamba_dir", 2 * 2)])
def test_every_matrix_gets_a_gradient(name: str, modules: int, request: pytest.FixtureRequest) -> None:
    """A and B both start random here, so that each has a gradient at the first step."""
    from peft import LoraConfig, get_peft_model

    folder: Path = request.getfixturevalue(name)
    base, _ = load_base(folder)
    torch.manual_seed(0)
    model = get_peft_model(
        base, LoraConfig(r=2, target_modules=lora_targets(base.config.model_type), init_lora_weights=False)
    )
    ids = torch.randint(4, 200, (2, 12))
    model(input_ids=ids, labels=ids).loss.backward()
    grads = {n: p.grad for n, p in model.named_parameters() if "lora_" in n}
    assert len(grads) == 2 * modules
    for parameter, grad in grads.items():
        assert grad is not None, parameter
        assert float(grad.abs().sum()) > 0, parameter


def test_tables_are_copies() -> None:
    lora_targets("mamba").append("dt_proj")
    assert lora_targets("mamba") == ["in_proj", "x_proj"]
    assert lora_targets("mamba2") == ["in_proj"]


def test_unknown_type() -> None:
    with pytest.raises(ModelError, match=r"model type 'rwkv' .*; name them in train\.lora\.target_modules"):
        lora_targets("rwkv")
