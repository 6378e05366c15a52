"""A run killed with SIGKILL goes on by itself and ends as an unbroken one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import ROOT
from tests.train.small import make_inputs, settings

# Two epochs of 7 steps with dropout, checkpoints at steps 2, 4, 6, ..: resumes fall inside epochs.
SECTION = settings(epochs=2, evals_per_epoch=4, lora={"lora_dropout": 0.2})

PROGRAM = """
import logging, sys, time
from pathlib import Path
logging.basicConfig(level=logging.INFO, format="%(message)s")
from mark.config import Train
from mark.train import TrainInputs, train
from mark.train.trainer import AnswerTrainer
folder, section, slow_from = Path(sys.argv[1]), Train.model_validate_json(sys.argv[2]), int(sys.argv[3])
step = AnswerTrainer.training_step
def slow(self, *args, **kwargs):  # gives the test time to kill between two checkpoints
    if self.state.global_step >= slow_from:
        Path(folder, "waiting").touch()
        time.sleep(600)
    return step(self, *args, **kwargs)
if slow_from >= 0:
    AnswerTrainer.training_step = slow
inputs = TrainInputs(*(folder / "data" / f"{n}.jsonl" for n in ("train", "val", "chunks", "none")),
                     folder / "models/base/tiny", folder / ".ckpt", folder / "logs", folder / "plots")
train(inputs, section, 7, folder / "models/tiny_lora", confirmed=True)
"""


def _start(folder: Path, slow_from: int = -1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), SECTION.model_dump_json(), str(slow_from)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def _kill_at(folder: Path, step: int) -> None:
    process = _start(folder, slow_from=step)
    deadline = time.monotonic() + 120
    while not (folder / "waiting").exists():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (folder / "waiting").unlink()


def _finish(folder: Path) -> str:
    process = _start(folder)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors[-3000:]
    return errors


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_ends_with_the_same_losses_and_weights(tiny_llama_dir: Path, tmp_path: Path) -> None:
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    for folder in (broken, whole):
        make_inputs(folder, tiny_llama_dir)
    assert "going on" not in _finish(whole)

    _kill_at(broken, 5)  # after the checkpoint of step 4, in the middle of the first epoch
    assert not (broken / "models/tiny_lora").exists()
    half_written = next(broken.glob(".ckpt/*/")) / "checkpoint-6"
    half_written.mkdir()  # as a kill during the next checkpoint leaves it
    (half_written / "adapter_model.safetensors").write_bytes(b"half")
    _kill_at(broken, 11)  # resumed once, killed again in the second epoch, after step 10
    errors = _finish(broken)
    assert "going on from step 10 of 14" in errors

    rows = [json.loads((f / "models/tiny_lora/curves.json").read_text()) for f in (broken, whole)]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0] if row["split"] == "train"] == list(range(1, 15))
    tensors = [load_file(f / "models/tiny_lora/adapter_model.safetensors") for f in (broken, whole)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    entries = [(f / "models/tiny_lora/entry.json").read_text() for f in (broken, whole)]
    assert entries[0] == entries[1]
    assert list((broken / ".ckpt").iterdir()) == []
