"""Rows laid end to end give the losses and gradients of rows by themselves, in every model that is let to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from mark.config import Lora
from mark.models.packed_attention import _PLAIN, attention_fits, use_packed_attention
from mark.models.packing import Segments
from mark.models.targets import lora_targets
from mark.train import train
from mark.train.adapter import build_model
from mark.train.collator import IGNORED, AnswerCollator
from mark.train.lora_path import use_one_operation
from mark.train.loss import answer_loss, find_body
from mark.train.packing import PackedCollator, packed_tokens, segment
from tests.train.small import make_inputs, settings

LORA = Lora(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="auto")
SIZES = {
    "vocab_size": 200, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "rotary_pct": 0.5, "attention_bias": True,
}  # fmt: skip


def row(ids: list[int], answer_start: int) -> dict[str, Any]:
    return {"input_ids": ids, "answer_start": answer_start}


def questions() -> list[dict[str, Any]]:
    """Two passages with three and two questions, a third with one; all begin with the same instruction."""
    draw = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(4, 200, (count,), generator=draw).tolist()

    instruction, first, second, third = tokens(20), tokens(40), tokens(30), tokens(9)
    rows = []
    for passage, asked in ((first, 3), (second, 2), (third, 1)):
        for number in range(asked):
            prompt = instruction + passage + tokens(5 + number)
            rows.append(row(prompt + tokens(3 + 2 * number), len(prompt)))
    return [rows[i] for i in (3, 0, 5, 2, 4, 1)]


def test_shared_beginnings_are_one_segment() -> None:
    common, passage = list(range(100, 116)), list(range(50, 70))  # 16 and 20 tokens
    rows = [
        row([*common, *passage, 7, 9, 9], 37),
        row([*common, *passage, 8, 9], 37),
        row([*common, 3, 4, 5], 18),
    ]
    found = segment(rows)
    assert [(one.row, one.start, one.end, one.above) for one in found] == [
        (2, 0, 16, ()),  # the instruction, taken from the row that sorts first
        (2, 16, 19, (0,)),
        (0, 16, 36, (0,)),  # the passage
        (0, 36, 39, (0, 2)),
        (1, 36, 38, (0, 2)),
    ]
    batch = PackedCollator()(rows)
    assert batch["position_ids"].tolist() == [[*range(16), 16, 17, 18, *range(16, 36), 36, 37, 38, 36, 37]]
    assert batch["labels"].tolist() == [[IGNORED] * 18 + [5] + [IGNORED] * 21 + [9, 9] + [IGNORED, 9]]
    assert batch["segments"] == Segments((16, 3, 20, 3, 2), ((), (0,), (0,), (0, 2), (0, 2)), 39 + 38 + 19)
    assert packed_tokens(rows) == 44


def test_no_answer_and_not_the_token_before_it_is_shared() -> None:
    ids = list(range(4, 34))
    found = segment([row(ids, 25), row(ids, 25), row([*ids[:27], 99], 26)])
    assert [(one.start, one.end) for one in found] == [(0, 24), (24, 30), (24, 30), (24, 28)]
    assert segment([row(ids, 16), row(ids, 16)])[0].end == 30  # 15 tokens could be shared: too few


@pytest.mark.parametrize(("family", "kept"), [*((one, 1024) for one in sorted(_PLAIN)), ("llama", 0)])
def test_losses_and_gradients_are_those_of_separate_rows(
    family: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mark.models.packed_attention.KEPT", kept)  # 0: weights are computed anew
    torch.manual_seed(3)
    config = AutoConfig.for_model(family, **SIZES)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    assert attention_fits(model, 256)
    tuned = get_peft_model(
        model, LoraConfig(r=4, target_modules=lora_targets(family), task_type="CAUSAL_LM")
    ).train()
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:  # zero at the start, which would hide the gradient of A
            torch.nn.init.normal_(parameter, std=0.1)
    rows = questions()
    full = tuned(**AnswerCollator(pad_id=0)(rows)).loss
    full.backward()
    expected = _gradients(tuned)

    assert use_one_operation(tuned) > 0
    use_packed_attention(tuned)
    batch = PackedCollator()(rows)
    assert batch["input_ids"].numel() < 0.6 * sum(len(one["input_ids"]) for one in rows)
    total, count = answer_loss(tuned, find_body(tuned), batch)
    (total / count).backward()
    torch.testing.assert_close(total / count, full, rtol=1e-5, atol=0.0)
    found = _gradients(tuned)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.norm() > 0, name
        assert (found[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_in_bfloat16_it_is_as_near_to_full_precision_as_padded_rows(tiny_llama_dir: Path) -> None:
    rows = questions()
    gradients = {}
    for way in ("full", "padded", "packed"):
        model, _ = build_model(tiny_llama_dir, LORA, seed=0, device=torch.device("cpu"), bf16=way != "full")
        if way == "packed":
            use_one_operation(model)
            use_packed_attention(model)
        batch = PackedCollator()(rows) if way == "packed" else AnswerCollator(pad_id=0)(rows)
        with torch.autocast("cpu", torch.bfloat16, enabled=way != "full"):
            total, _ = answer_loss(model, find_body(model), batch)
        total.backward()
        gradients[way] = torch.cat([part.flatten() for part in _gradients(model).values()])
    error = {
        way: float((found - gradients["full"]).norm() / gradients["full"].norm())
        for way, found in gradients.items()
    }
    assert 0 < error["packed"] <= max(2 * error["padded"], 0.02)


def test_without_segments_the_model_attends_as_before(tiny_llama_dir: Path) -> None:
    model, _ = build_model(tiny_llama_dir, LORA, seed=0, device=torch.device("cpu"), bf16=False)
    batch = AnswerCollator(pad_id=0)(questions())
    ids = batch["input_ids"].flip(1)  # padding on the left
    inputs = {"input_ids": ids, "attention_mask": batch["attention_mask"].flip(1)}
    before = model(**inputs).logits
    use_packed_attention(model)
    torch.testing.assert_close(model(**inputs).logits, before)


@pytest.mark.parametrize(
    ("family", "changes", "fits"),
    [
        ("llama", {}, True),
        ("mistral", {"sliding_window": 256}, True),
        ("mistral", {"sliding_window": 128}, False),
        ("llama", {"attention_dropout": 0.1}, False),
        ("gpt_neox", {"hidden_dropout": 0.1}, False),
        ("gemma2", {}, False),  # soft-capped scores
        ("mamba", {}, False),
    ],
)
def test_other_attention_is_left_alone(family: str, changes: dict[str, Any], fits: bool) -> None:
    sizes = {
        name: value for name, value in SIZES.items() if name != "num_attention_heads" or family != "mamba"
    }
    model = torch.nn.Module()
    model.config = AutoConfig.for_model(family, **{**sizes, **changes})
    assert attention_fits(model, 256) is fits


def test_one_operation_keeps_to_what_it_computes(tiny_llama_dir: Path) -> None:
    model, _ = build_model(tiny_llama_dir, LORA, seed=0, device=torch.device("cpu"), bf16=False)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.arange(4, 40)[None]
    tuned = model(input_ids=ids).logits
    with model.disable_adapter():
        base = model(input_ids=ids).logits
    use_one_operation(model)
    torch.testing.assert_close(model(input_ids=ids).logits, tuned)
    with model.disable_adapter():
        assert torch.equal(model(input_ids=ids).logits, base)
    model.merge_adapter()
    torch.testing.assert_close(model(input_ids=ids).logits, tuned, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(tuned, base)

    dropping = LORA.model_copy(update={"lora_dropout": 0.1})
    assert use_one_operation(build_model(tiny_llama_dir, dropping, 0, torch.device("cpu"), False)[0]) == 0


@pytest.mark.parametrize("rows", [16, 14])  # 14: the last step of an epoch holds 2 examples
def test_packed_training_ends_with_the_adapter_of_padded_training(
    rows: int, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    adapters, losses = [], []
    for packing in ("off", "auto"):
        folder = tmp_path / packing
        section = settings(batch_size=4, epochs=2, packing=packing)
        out = folder / "models/tiny_lora"
        result = train(make_inputs(folder, tiny_llama_dir, train=rows), section, 7, out, confirmed=True)
        adapters.append(load_file(out / "adapter_model.safetensors"))
        losses.append((result.entry.train_loss, result.entry.val_loss, result.entry.steps))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name, tensor in adapters[0].items():
        # Adam divides by the gradient's own size, which lifts rounding: hence not 1e-5
        torch.testing.assert_close(adapters[1][name], tensor, rtol=1e-3, atol=1e-5)


def _gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found
