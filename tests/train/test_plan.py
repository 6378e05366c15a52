"""The dry run: measured, told, and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mark.train import plan
from mark.train.hardware import free_memory_bytes, peak_memory, training_device
from mark.train.trainer import Schedule
from mark.train.workload import run_tokens
from tests.conftest import ROOT
from tests.train.small import make_inputs, settings


def test_the_plan_says_everything_and_writes_nothing(tiny_llama_dir: Path, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, tiny_llama_dir)
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "models/tiny_lora"
    planned = plan(inputs, settings(epochs=2), 7, out)
    assert sorted(tmp_path.rglob("*")) == before
    assert (planned.examples, planned.validation_examples, planned.steps) == (14, 4, 14)
    assert planned.trainable_parameters == 4096
    assert 0 < planned.computed_tokens < planned.tokens  # the instruction is read once for two rows
    assert planned.seconds > 0
    assert planned.peak_memory_mb > 50
    text = planned.as_text()
    for place in (out, inputs.plots, inputs.logs, inputs.checkpoints):
        assert str(place) in text
    assert "4,096" in text
    assert "fp32" in text
    assert "of them shared by several rows and read once" in text
    assert "--confirm-run" in text


def test_a_guarded_recipe_is_planned_for_one_epoch_and_names_its_guard(
    tiny_llama_dir: Path, tmp_path: Path
) -> None:
    inputs = make_inputs(tmp_path, tiny_llama_dir)
    planned = plan(inputs, settings(dry_run=True, epochs=0), 7, tmp_path / "models/tiny_lora")
    assert planned.steps == 7
    assert planned.guard is not None
    assert planned.as_text().endswith(planned.guard)
    assert "train.dry_run" in planned.guard


def test_tokens_of_a_run() -> None:
    # 3 rows, 2 a step, cut after 3 steps: the steps hold 2, 1 and 2 rows.
    # Not grouped, one order an epoch; all rows have 10 tokens, so 5 rows = 50 tokens, no padding.
    section = settings(batch_size=2, max_steps=3)
    assert run_tokens([10, 10, 10], None, Schedule.of(section, 3), 0, by_length=False) == (50, 50)
    # 2 rows of 4 and 10 tokens in one batch: 14 real, 20 padded
    section = settings(batch_size=2, max_steps=1)
    assert run_tokens([4, 10], None, Schedule.of(section, 2), 0, by_length=True) == (14, 20)
    # Rows of 30 and 40 tokens that are alike up to the answer's 21st place: 20 of 70 are read once
    alike = [{"input_ids": list(range(size)), "answer_start": 21} for size in (30, 40)]
    assert run_tokens([30, 40], alike, Schedule.of(section, 2), 0, by_length=True) == (70, 50)


def test_peak_memory_sees_what_is_freed_again() -> None:
    import torch

    with peak_memory(torch.device("cpu")) as measured:
        block = torch.ones(64, 1 << 20)  # 256 MiB
        for _ in range(5):
            block.add_(1)
        del block
    assert 200 << 20 < measured.grown < 400 << 20


def test_free_memory_is_not_more_than_the_machine_has() -> None:
    import psutil

    assert 0 < free_memory_bytes() <= psutil.virtual_memory().total
    assert training_device().type in ("cpu", "cuda")


@pytest.mark.parametrize("module", ["mark.train", "mark.train.guard"])
def test_importing_the_package_does_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
