"""Whole runs on tiny models: the entry, its determinism, the best checkpoint, memory, refusals."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mark.train.workload as workload
from mark.errors import ConfigError, DataError, MarkError
from mark.models.loading import load_entry
from mark.train import TrainInputs, plan, train
from mark.train.trainer import AnswerTrainer, Schedule
from tests.train.small import make_inputs, settings


def _bytes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def done(tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainInputs, Path]:
    """A finished run of three epochs with TensorBoard."""
    folder = tmp_path_factory.mktemp("run")
    inputs = make_inputs(folder, tiny_llama_dir)
    out = folder / "models/tiny_lora"
    result = train(inputs, settings(epochs=3, report_to=["tensorboard"]), 7, out, confirmed=True)
    assert result.tokens_per_s > 0
    assert result.peak_memory_mb > 0
    return inputs, out


def test_the_loss_falls_and_the_entry_is_complete(done: tuple[TrainInputs, Path]) -> None:
    inputs, out = done
    rows = json.loads((out / "curves.json").read_text())
    assert rows == json.loads((inputs.plots / "tiny_lora.json").read_text())
    losses = [row["loss"] for row in rows if row["split"] == "train"]
    assert len(losses) == 21  # 14 examples, 2 a step, 3 epochs
    assert losses[-1] < losses[0] - 0.1
    # 7 steps an epoch, 2 validations an epoch: every 4th step, and the last
    assert [row["step"] for row in rows if row["split"] == "val"] == [4, 8, 12, 16, 20, 21]

    entry = json.loads((out / "entry.json").read_text())
    source = json.loads((inputs.base_folder / "SOURCE.json").read_text())
    assert entry["base"] == "tiny"
    assert entry["base_sha256"] == source["files"]["model.safetensors"]
    assert entry["random"] is True
    assert entry["architecture"] == "llama"
    assert (entry["examples"], entry["steps"], entry["seed"]) == (14, 21, 7)
    assert entry["train_loss"] == pytest.approx(sum(losses) / len(losses), abs=2e-6)
    val = {row["step"]: row["loss"] for row in rows if row["split"] == "val"}
    assert entry["best_step"] == min(val, key=lambda step: val[step])
    assert entry["val_loss"] == min(val.values())
    # rank 4 on seven layers of two blocks: 4 * (in + out) each, width 32, key and value 16, MLP 64
    sizes = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)]
    assert entry["trainable_parameters"] == 2 * sum(4 * (i + o) for i, o in sizes)


def test_the_entry_loads_and_names_no_place(done: tuple[TrainInputs, Path]) -> None:
    inputs, out = done
    assert sorted(p.name for p in out.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "curves.json", "entry.json",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "models/base/tiny"
    assert config["target_modules"] == sorted(config["target_modules"])
    root = str(inputs.checkpoints.parent).encode()
    assert not [p.name for p in out.iterdir() if root in p.read_bytes()]
    model, tokenizer = load_entry(out)
    ids = tokenizer("How much is the rent?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        tuned = model(ids).logits
        with model.disable_adapter():
            base = model(ids).logits
    assert not torch.allclose(tuned, base)


def test_checkpoints_are_gone_and_logs_are_there(done: tuple[TrainInputs, Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    inputs, _ = done
    assert list(inputs.checkpoints.iterdir()) == []
    events = EventAccumulator(str(inputs.logs)).Reload()
    assert len(events.Scalars("train/loss")) == 21
    assert len(events.Scalars("val/loss")) == 6


def test_the_same_run_elsewhere_gives_the_same_bytes(
    done: tuple[TrainInputs, Path], tiny_llama_dir: Path, tmp_path: Path
) -> None:
    _, out = done
    inputs = make_inputs(tmp_path, tiny_llama_dir)
    again = tmp_path / "models/tiny_lora"
    train(inputs, settings(epochs=3, report_to=["tensorboard"]), 7, again, confirmed=True)
    assert _bytes(again) == _bytes(out)


def test_the_best_checkpoint_becomes_the_entry(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[int, Path] = {}
    save = AnswerTrainer._save_checkpoint

    def save_and_copy(self: AnswerTrainer, model: Any, trial: Any) -> None:
        save(self, model, trial)
        found = sorted(Path(self.args.output_dir).glob("checkpoint-*"))
        assert len(found) <= 2
        step = self.state.global_step
        kept[step] = tmp_path / f"kept-{step}.safetensors"
        kept[step].write_bytes(
            (Path(self.args.output_dir) / f"checkpoint-{step}/adapter_model.safetensors").read_bytes()
        )

    def evaluate(self: AnswerTrainer, *_: Any, **__: Any) -> dict[str, float]:
        loss = {2: 5.0, 4: 3.0, 6: 4.0, 7: 3.5}[self.state.global_step]
        self.log({"eval_loss": loss})
        return {"eval_loss": loss}

    monkeypatch.setattr(AnswerTrainer, "_save_checkpoint", save_and_copy)
    monkeypatch.setattr(AnswerTrainer, "evaluate", evaluate)
    out = tmp_path / "models/tiny_lora"
    inputs = make_inputs(tmp_path, tiny_llama_dir)
    result = train(inputs, settings(evals_per_epoch=4), 7, out, confirmed=True)
    assert (result.entry.best_step, result.entry.val_loss) == (4, 3.0)
    assert (out / "adapter_model.safetensors").read_bytes() == kept[4].read_bytes()
    assert kept[4].read_bytes() != kept[7].read_bytes()


def test_without_validation_rows_the_last_step_is_the_entry(tiny_llama_dir: Path, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, tiny_llama_dir, val=0)
    result = train(inputs, settings(max_steps=3), 7, tmp_path / "models/tiny_lora", confirmed=True)
    assert (result.entry.best_step, result.entry.val_loss, result.entry.steps) == (3, None, 3)


def test_every_lora_matrix_of_a_mamba_gets_a_gradient(
    tiny_mamba_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[dict[str, float]] = []
    clip = AnswerTrainer._clip_grad_norm

    def watch(self: AnswerTrainer, model: Any) -> Any:
        steps.append({n: float(p.grad.norm()) for n, p in model.named_parameters() if p.requires_grad})
        return clip(self, model)

    monkeypatch.setattr(AnswerTrainer, "_clip_grad_norm", watch)
    inputs = make_inputs(tmp_path, tiny_mamba_dir, train=4, val=1)
    train(inputs, settings(max_steps=2, warmup_ratio=0.0), 7, tmp_path / "models/m_lora", confirmed=True)
    first, second = steps
    assert len(first) == 2 * 2 * 2  # two layers, in_proj and x_proj, A and B
    assert all(norm > 0 for name, norm in first.items() if "lora_B" in name)  # A has none while B is zero
    assert all(norm > 0 for norm in second.values())
    tensors = load_file(tmp_path / "models/m_lora/adapter_model.safetensors")
    assert all(bool(tensor.any()) for tensor in tensors.values())


def test_out_of_gpu_memory_halves_the_micro_batch_and_goes_on(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = settings(batch_size=4, epochs=2, packing="off")  # as on a GPU
    smooth = train(make_inputs(tmp_path / "a", tiny_llama_dir), wanted, 7, tmp_path / "a/e", confirmed=True)
    sizes: list[int] = []
    compute = AnswerTrainer.compute_loss

    def fail_late(self: AnswerTrainer, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if self.state.global_step == 5 and len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(AnswerTrainer, "compute_loss", fail_late)
    inputs = make_inputs(tmp_path / "b", tiny_llama_dir)
    with caplog.at_level(logging.INFO, logger="mark"):
        halved = train(inputs, wanted, 7, tmp_path / "b/e", confirmed=True)
    assert "out of GPU memory: going on with 2 instead of 4 examples at a time" in caplog.text
    assert "going on from step 4 of 8" in caplog.text  # a checkpoint every 2nd of 4 steps an epoch
    assert set(sizes) == {4, 2}
    assert halved.entry.val_loss == pytest.approx(smooth.entry.val_loss, rel=1e-5)


def test_out_of_gpu_memory_with_one_example_is_one_line(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AnswerTrainer, "compute_loss", fail)
    inputs = make_inputs(tmp_path, tiny_llama_dir)
    with pytest.raises(MarkError, match=r"lower train\.max_seq_length \(now 700\)"):
        train(inputs, settings(), 7, tmp_path / "models/e", confirmed=True)
    assert not (tmp_path / "models/e").exists()


def test_on_a_cpu_the_micro_batch_shrinks_until_it_fits(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = workload.load_workload(make_inputs(tmp_path, tiny_llama_dir), settings(), 7)
    asked = Schedule.of(settings(batch_size=8), 14)
    assert workload.fitting_schedule(work, asked)[0] == asked  # there is plenty for a tiny model

    class Needs:
        before, grown = 0, 100 << 20

    class Measured:
        def __enter__(self) -> Needs:
            return Needs()

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(workload, "peak_memory", lambda _device: Measured())
    monkeypatch.setattr(workload, "_refuse_unless", lambda *_: None)
    # one row needs 100 MiB; of 300 MiB free 270 may be used: 2 rows fit, 4 do not
    monkeypatch.setattr(workload, "free_memory_bytes", lambda: 300 << 20)
    fitted = workload.fitting_schedule(work, asked)[0]
    assert (fitted.micro_batch, fitted.accumulation) == (2, 4)


def test_too_little_memory_for_one_example_is_refused(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "free_memory_bytes", lambda: -1 << 20)
    with pytest.raises(MarkError, match=r"lower train\.max_seq_length"):
        train(make_inputs(tmp_path, tiny_llama_dir), settings(), 7, tmp_path / "models/e", confirmed=True)


@pytest.mark.parametrize(
    ("batch", "accumulation", "halved"), [(4, 2, (2, 4)), (6, 1, (3, 2)), (3, 2, (1, 6)), (1, 8, None)]
)
def test_halving_keeps_the_examples_of_a_step(
    batch: int, accumulation: int, halved: tuple[int, int] | None
) -> None:
    section = settings(batch_size=batch, gradient_accumulation_steps=accumulation)
    smaller = Schedule.of(section, 24).halved()
    assert (None if smaller is None else (smaller.micro_batch, smaller.accumulation)) == halved


def test_a_diverging_run_stops(tiny_llama_dir: Path, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, tiny_llama_dir)
    with pytest.raises(MarkError, match=r"loss is nan at step \d+; lower train\.learning_rate"):
        train(inputs, settings(epochs=4, learning_rate=1e30), 7, tmp_path / "models/e", confirmed=True)


def test_missing_data_names_the_command(tmp_path: Path, tiny_llama_dir: Path) -> None:
    inputs = make_inputs(tmp_path, tiny_llama_dir)
    inputs.train_file.unlink()
    with pytest.raises(
        DataError, match=r"Training data not found: .*train\.jsonl; run `dvc repro data_prep`"
    ):
        train(inputs, settings(), 7, tmp_path / "models/e", confirmed=True)


def test_missing_peft_names_the_command(
    tmp_path: Path, tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mark.train.inputs.find_spec", lambda _name: None)
    with pytest.raises(MarkError, match="PEFT is not installed: run `pip install peft`"):
        plan(make_inputs(tmp_path, tiny_llama_dir), settings(), 7, tmp_path / "models/e")


def test_wrong_target_modules_are_one_line(tmp_path: Path, tiny_llama_dir: Path) -> None:
    wrong = settings(lora={"target_modules": ["nonsense"]})
    with pytest.raises(ConfigError, match=r"train\.lora\.target_modules: \['nonsense'\] found"):
        train(make_inputs(tmp_path, tiny_llama_dir), wrong, 7, tmp_path / "models/e", confirmed=True)


def test_dvclive_leaves_the_project_alone(tmp_path: Path, tiny_llama_dir: Path) -> None:
    pytest.importorskip("dvclive")
    inputs = make_inputs(tmp_path, tiny_llama_dir)
    train(inputs, settings(max_steps=2, report_to=["dvclive"]), 7, tmp_path / "models/e", confirmed=True)
    lines = (inputs.logs / "dvclive/plots/metrics/loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["step", "1", "2"]
    assert not list(tmp_path.rglob("dvc.yaml"))
    assert "output_dir" not in (inputs.logs / "dvclive/params.yaml").read_text()


def test_what_accelerate_was_configured_for_changes_nothing(
    done: tuple[TrainInputs, Path], tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`accelerate config` asks for a precision and a compiler, and its launcher sets both for every program."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    out = tmp_path / "models/tiny_lora"
    result = train(make_inputs(tmp_path, tiny_llama_dir), settings(epochs=3), 7, out, confirmed=True)
    assert result.entry.precision == "fp32"
    adapters = [load_file(entry / "adapter_model.safetensors") for entry in (done[1], out)]
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    AcceleratorState._reset_state(reset_partial_state=True)


def test_another_way_of_training_together_is_one_line(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = make_inputs(tmp_path, tiny_llama_dir)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    for call in (
        lambda: plan(inputs, settings(), 7, tmp_path / "models/e"),
        lambda: train(inputs, settings(), 7, tmp_path / "models/e", confirmed=True),
    ):
        with pytest.raises(
            ConfigError, match=r"asks for DeepSpeed \(ACCELERATE_USE_DEEPSPEED\); launch with"
        ):
            call()


def test_a_step_is_divided_by_its_tokens_whatever_loss_the_model_itself_takes(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some models (Gemma 3n and 4) say that their own loss cannot be divided so; here it is not used."""
    from transformers import LlamaForCausalLM

    inputs = make_inputs(tmp_path, tiny_llama_dir)
    section = settings(batch_size=1, gradient_accumulation_steps=3)
    for name in ("plain_lora", "other_lora"):
        train(inputs, section, 7, tmp_path / "models" / name, confirmed=True)
        monkeypatch.setattr(LlamaForCausalLM, "accepts_loss_kwargs", False, raising=False)
    plain, other = (
        tmp_path / "models" / name / "adapter_model.safetensors" for name in ("plain_lora", "other_lora")
    )
    assert plain.read_bytes() == other.read_bytes()
