"""A project with a small training task, and several processes that train on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from mark.commands.params import write_params
from mark.config import Train
from mark.files import write_jsonl
from mark.train import TrainInputs, train
from tests.stages.running import clone_of_working_tree
from tests.train.small import chunk, example

CONFIG = "small.yaml"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
TWO = (*TORCHRUN, "--standalone", "--nproc_per_node", "2")
TRAIN = ("-m", "mark.train", "--config", CONFIG, "--confirm-run")
ENTRY = Path("models/random_lora_small")


def project(folder: Path, base: Path, section: Train, train_rows: int = 13) -> Path:
    """A clone with examples, a base model and a configuration file, in which `mark train` can run."""
    clone = clone_of_working_tree(folder)
    write_params(["experiment=smoke"], clone)
    chunks = [chunk(number) for number in range(20)]
    write_jsonl(clone / "data/chunks.jsonl", chunks)
    write_jsonl(clone / "data/practice_passages.jsonl", [])
    write_jsonl(clone / "data/train_sft.jsonl", [example(i, "train", chunks) for i in range(train_rows)])
    write_jsonl(clone / "data/val_sft.jsonl", [example(i + 100, "val", chunks) for i in range(5)])
    shutil.copytree(base, clone / "models/base/random")
    (clone / CONFIG).write_text(json.dumps(section.model_dump()), encoding="utf-8")
    return clone


def alone(clone: Path, section: Train) -> Path:
    """Train in this process; the entry's folder."""
    inputs = TrainInputs(
        train_file=clone / "data/train_sft.jsonl",
        val_file=clone / "data/val_sft.jsonl",
        chunks_file=clone / "data/chunks.jsonl",
        practice_file=clone / "data/practice_passages.jsonl",
        base_folder=clone / "models/base/random",
        checkpoints=clone / ".ckpt",
        logs=clone / "logs/alone",
        plots=clone / "runs/alone",
    )
    out = clone / "models/alone"
    train(inputs, section, 7, out, confirmed=True)
    return out


def variables(clone: Path, **more: str) -> dict[str, str]:
    """The environment of a process in the project."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(clone), **more}


def run(clone: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project."""
    return subprocess.run(
        list(command), cwd=clone, env=variables(clone, **more), capture_output=True, text=True, check=False
    )


def record(entry: Path) -> dict[str, Any]:
    """An entry's record without its name."""
    found: dict[str, Any] = json.loads((entry / "entry.json").read_text())
    return {key: value for key, value in found.items() if key != "name"}


def losses(entry: Path) -> list[tuple[int, str, float]]:
    """An entry's curves."""
    return [
        (row["step"], row["split"], row["loss"]) for row in json.loads((entry / "curves.json").read_text())
    ]
