"""The head at answer positions gives the loss and the gradients of the full computation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mark.config import Lora
from mark.train.adapter import build_model
from mark.train.collator import AnswerCollator
from mark.train.loss import answer_loss, find_body

LORA = Lora(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="auto")


def _batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for length, start in ((40, 31), (27, 12), (33, 32)):  # unequal: two rows are padded
        ids = torch.randint(4, 200, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "answer_start": start})
    return AnswerCollator(pad_id=0)(rows)


def _gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("architecture", ["llama", "mamba"])
def test_loss_and_gradients_equal_the_full_computation(
    architecture: str, tiny_llama_dir: Path, tiny_mamba_dir: Path
) -> None:
    folder = tiny_llama_dir if architecture == "llama" else tiny_mamba_dir
    model, _ = build_model(folder, LORA, seed=0, device=torch.device("cpu"), bf16=False)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at the start, which would hide the gradient of A
            torch.nn.init.normal_(parameter, std=0.1)
    batch = _batch()

    # the plain way: attention mask, logits at every position, transformers' own shifted loss
    full = model(**batch).loss
    full.backward()
    expected = _gradients(model)

    total, count = answer_loss(model, find_body(model), batch)
    assert count == (40 - 31) + (27 - 12) + (33 - 32)
    torch.testing.assert_close(total / count, full, rtol=1e-5, atol=0.0)
    (total / count).backward()
    found = _gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_the_head_sees_answer_positions_only(tiny_llama_dir: Path) -> None:
    model, _ = build_model(tiny_llama_dir, LORA, seed=0, device=torch.device("cpu"), bf16=False)
    seen: list[tuple[int, ...]] = []
    head = model.get_base_model().lm_head
    handle = head.register_forward_hook(lambda _m, args, _out: seen.append(tuple(args[0].shape)))
    answer_loss(model, find_body(model), _batch())
    handle.remove()
    assert seen == [(1, 25, 32)]  # 9 + 15 + 1 answer tokens of width 32
    ids = _batch()["input_ids"]
    assert model(input_ids=ids).logits.shape[:2] == ids.shape  # the hook is gone


def test_frozen_weights_in_bfloat16_change_nothing_under_autocast(tiny_llama_dir: Path) -> None:
    losses, gradients = [], []
    for stored in (False, True):
        model, _ = build_model(tiny_llama_dir, LORA, seed=0, device=torch.device("cpu"), bf16=stored)
        with torch.autocast("cpu", torch.bfloat16):
            total, _ = answer_loss(model, find_body(model), _batch())
        total.backward()
        losses.append(total.item())
        gradients.append(_gradients(model))
    assert losses[0] == losses[1]
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_the_adapter_starts_from_the_seed_alone(tiny_llama_dir: Path) -> None:
    states = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        model, _ = build_model(tiny_llama_dir, LORA, seed=5, device=torch.device("cpu"), bf16=False)
        states.append({n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all("lora_" in name for name in states[0])
