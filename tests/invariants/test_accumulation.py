"""Batch 1 x accumulate 4 is batch 4 x 1, through the whole of training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mark.train import train
from tests.train.small import make_inputs, settings


@pytest.mark.parametrize("rows", [16, 14])  # 14: the last step of an epoch holds 2 examples
def test_accumulated_steps_equal_whole_ones(rows: int, tiny_llama_dir: Path, tmp_path: Path) -> None:
    adapters, losses = [], []
    for batch, accumulation in ((4, 1), (1, 4), (2, 2)):
        folder = tmp_path / f"{batch}"
        section = settings(batch_size=batch, gradient_accumulation_steps=accumulation, epochs=2)
        out = folder / "models/tiny_lora"
        result = train(make_inputs(folder, tiny_llama_dir, train=rows), section, 7, out, confirmed=True)
        adapters.append(load_file(out / "adapter_model.safetensors"))
        losses.append((result.entry.train_loss, result.entry.val_loss, result.entry.steps))
    for other, loss in zip(adapters[1:], losses[1:], strict=True):
        assert loss == pytest.approx(losses[0], rel=1e-5)
        for name, tensor in adapters[0].items():
            # Adam divides by the gradient's own size, which lifts rounding: hence not 1e-5
            torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-5)
