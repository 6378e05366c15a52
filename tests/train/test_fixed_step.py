"""Steps in fixed shapes give the losses and gradients of padded rows, compiled or not, recorded or not."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from mark.errors import ConfigError
from mark.models.packed_attention import _PLAIN
from mark.models.targets import lora_targets
from mark.train import train
from mark.train.buckets import STEP, BucketCollator
from mark.train.collator import IGNORED, AnswerCollator
from mark.train.compiling import wants_fixed_steps
from mark.train.fixed_step import FixedStep
from mark.train.hardware import training_device
from mark.train.loss import answer_loss, find_body
from tests.models.recording import Waits
from tests.train.small import make_inputs, settings
from tests.train.test_packing import SIZES, questions, row

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def tuned_model(family: str = "llama", device: torch.device = CPU) -> Any:
    torch.manual_seed(3)
    config = AutoConfig.for_model(family, **SIZES)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    lora = LoraConfig(r=4, target_modules=lora_targets(family), task_type="CAUSAL_LM")
    tuned = get_peft_model(model, lora).train()
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:  # zero at the start, which would hide the gradient of A
            torch.nn.init.normal_(parameter, std=0.1)
    return tuned.to(device)


def gradients(model: Any) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def plain(model: Any, rows: list[dict[str, Any]]) -> tuple[Tensor, dict[str, Tensor]]:
    """transformers' own mean loss on padded rows, and its gradients."""
    batch = {name: part.to(model.device) for name, part in AnswerCollator(pad_id=0)(rows).items()}
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), gradients(model)


def answers(rows: list[dict[str, Any]]) -> int:
    return sum(len(one["input_ids"]) - one["answer_start"] for one in rows)


def check(step: FixedStep, rows: list[dict[str, Any]], close: float = 1e-5) -> None:
    loss, expected = plain(step.model, rows)
    found = step(BucketCollator(pad_id=0)(rows), answers(rows))
    torch.testing.assert_close(found, loss, rtol=close / 10, atol=0.0)
    ours = gradients(step.model)
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.norm() > 0, name
        assert (ours[name] - gradient).norm() <= close * gradient.norm(), name


def test_shapes_repeat_and_places_point_at_what_predicts_an_answer() -> None:
    batch = BucketCollator(pad_id=9)([row([5, 6, 7, 8], 2), row([5, 6, 4], 2)])
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape == (2, STEP)
    assert batch["input_ids"][1].tolist() == [5, 6, 4] + [9] * (STEP - 3)
    assert batch["labels"][0, :5].tolist() == [IGNORED, IGNORED, 7, 8, IGNORED]
    assert batch["places"].tolist() == [1, 2, STEP + 1] + [0] * 61
    assert batch["targets"].tolist() == [7, 8, 4] + [IGNORED] * 61
    assert batch["tokens"] == 7
    many = BucketCollator(pad_id=9)([row([5] * (STEP + 1), 1), row([5] * 3, 2)])
    assert (many["input_ids"].shape[1], len(many["places"])) == (2 * STEP, 128)  # 65 answer tokens


@pytest.mark.parametrize("family", sorted(_PLAIN))
def test_losses_and_gradients_are_those_of_padded_rows(family: str) -> None:
    step = FixedStep(tuned_model(family), rows=6, bf16=False, backend=None)
    rows = questions()
    check(step, rows)
    check(step, rows[:4])  # what lies in the other two rows counts for nothing
    assert len(step.shapes) == 1
    assert step.model.config._attn_implementation == "sdpa"


def test_in_bfloat16_gradients_are_those_of_padded_rows_under_autocast() -> None:
    model, rows = tuned_model(), questions()
    with torch.autocast("cpu", torch.bfloat16):
        total, count = answer_loss(model, find_body(model), AnswerCollator(pad_id=0)(rows))
    (total / count).backward()
    expected = gradients(model)
    FixedStep(model, rows=6, bf16=True, backend=None)(BucketCollator(pad_id=0)(rows), count)
    for name, gradient in gradients(model).items():
        assert (gradient - expected[name]).norm() <= 0.02 * expected[name].norm(), name


def test_compiled_layers_give_the_same() -> None:
    torch._dynamo.reset()
    step = FixedStep(tuned_model(), rows=6, bf16=False, backend="aot_eager")
    check(step, questions())
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    check(step, questions()[:3])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    plain(step.model, questions())  # and the model is as it was
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


@pytest.mark.long
@pytest.mark.parametrize("family", sorted(_PLAIN))
def test_the_layers_of_every_family_compile_as_a_whole(family: str) -> None:
    torch._dynamo.reset()
    check(FixedStep(tuned_model(family), rows=6, bf16=False), questions())


def test_micro_batches_add_up_until_gradients_are_dropped() -> None:
    step, rows = FixedStep(tuned_model(), rows=3, bf16=False, backend=None), questions()
    loss, expected = plain(step.model, rows)
    for _ in range(2):
        parts = [step(BucketCollator(0)(rows[i : i + 3]), answers(rows)) for i in (0, 3)]
        torch.testing.assert_close(sum(parts), loss)
        for name, gradient in gradients(step.model).items():  # drops them, as the trainer does
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", sorted(_PLAIN))
def test_nothing_in_a_step_waits_for_a_value(family: str) -> None:
    step = FixedStep(tuned_model(family), rows=6, bf16=True, backend=None)
    batch = BucketCollator(0)(questions())
    step(batch, 1)
    with Waits() as waits:
        next(iter(step.shapes.values())).run()
    assert waits.count > 100 and not waits.found
    with Waits() as waits:  # as the plain way does
        answer_loss(step.model, step.body, batch)
    assert {"index.Tensor", "_local_scalar_dense.default"} <= set(waits.found)


def test_more_shapes_than_expected_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr("mark.train.fixed_step._SHAPES", 1)
    step = FixedStep(tuned_model(), rows=1, bf16=False, backend="aot_eager")
    step(BucketCollator(0)([row(list(range(4, 34)), 20)]), 1)
    refused = (torch._dynamo.exc.FailOnRecompileLimitHit, torch._dynamo.exc.Unsupported)
    with pytest.raises(refused, match="limit"):
        for tokens in (STEP + 9, 2 * STEP + 9):
            step(BucketCollator(0)([row([5] * tokens, tokens - 3)]), 1)


def test_the_setting(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    model = tuned_model()
    assert not wants_fixed_steps(model, settings(), CPU)
    assert not wants_fixed_steps(model, settings(compile="auto"), CPU)
    assert "compile" not in settings().model_dump()  # records are those from before the key was there
    assert settings(compile="auto").model_dump()["compile"] == "auto"
    with pytest.raises(ConfigError, match=r"train.compile: on found, but this machine shows no CUDA GPU"):
        wants_fixed_steps(model, settings(compile="on"), CPU)

    cuda = torch.device("cuda", 0)  # what is said of one that is not there
    monkeypatch.setattr("mark.train.compiling.find_spec", lambda _: object())
    monkeypatch.setattr("mark.train.compiling.shutil.which", lambda name: f"/usr/bin/{name}")
    assert wants_fixed_steps(model, settings(compile="auto"), cuda)
    assert not wants_fixed_steps(model, settings(), cuda)
    assert not wants_fixed_steps(model, settings(compile="off"), cuda)
    with caplog.at_level("INFO"):
        assert not wants_fixed_steps(model, settings(compile="auto", lora={"lora_dropout": 0.1}), cuda)
    assert "train.lora.lora_dropout is not 0" in caplog.text
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="several processes"):
        wants_fixed_steps(model, settings(compile="on"), cuda)


def trained(folder: Path, base: Path, **changes: Any) -> dict[str, Tensor]:
    section = settings(batch_size=4, gradient_accumulation_steps=2, epochs=2, **changes)
    train(make_inputs(folder, base, train=18), section, 7, folder / "models/tiny_lora", confirmed=True)
    found: dict[str, Tensor] = load_file(folder / "models/tiny_lora/adapter_model.safetensors")
    return found


def same_adapters(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        # Adam divides by the gradient's own size, which lifts rounding: hence not 1e-5
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_training_in_fixed_shapes_ends_with_the_adapter_of_padded_training(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("of a CPU")
    before = trained(tmp_path / "padded", tiny_llama_dir, packing="off")
    monkeypatch.setattr("mark.train.workload.wants_fixed_steps", lambda *_: True)
    for place in ("trainer", "workload"):
        monkeypatch.setattr(f"mark.train.{place}.FixedStep", partial(FixedStep, backend=None))
    same_adapters(before, trained(tmp_path / "fixed", tiny_llama_dir))


@pytest.mark.gpu
@needs_gpu
def test_recorded_steps_give_the_same_on_a_gpu() -> None:
    step = FixedStep(tuned_model(device=training_device()), rows=6, bf16=False)
    for rows in (questions(), questions()[:4], [*questions()[2:], row(list(range(4, 4 + STEP + 9)), 20)]):
        check(step, rows, close=1e-4)
        check(step, rows, close=1e-4)
    assert len(step.shapes) == 2


@pytest.mark.gpu
@needs_gpu
def test_a_recorded_training_ends_with_the_adapter_of_a_plain_one(
    tiny_llama_dir: Path, tmp_path: Path
) -> None:
    before = trained(tmp_path / "plain", tiny_llama_dir, compile="off")
    same_adapters(before, trained(tmp_path / "recorded", tiny_llama_dir, compile="on"))
