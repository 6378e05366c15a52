"""A project whose pipeline runs in seconds: a chunk file, an adapter and metrics, made by a short script."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

PIPELINE = """
stages:
  ingest:
    cmd: python make.py ingest
    deps: [make.py, data/source.pdf]
    outs: [data/chunks.jsonl]
  train:
    cmd: python make.py train
    deps: [make.py, data/chunks.jsonl]
    params: [seed]
    outs: [models/tiny_lora]
  eval:
    matrix:
      entry: ${eval.entries}
    cmd: python make.py eval
    deps: [make.py, "models/${item.entry}"]
    params: [seed, eval]
    metrics:
      - metrics/eval_${item.entry}.json:
          cache: false
  compare:
    cmd: python make.py compare
    deps: [make.py, metrics/eval_tiny_lora.json]
    params: [seed]
    metrics:
      - metrics/compare.json:
          cache: false
"""
# The gain is a hundredth of the seed. The variable PLANT makes a run differ, as another machine would.
SCRIPT = """
import json, os, sys
from pathlib import Path
import numpy as np, yaml
from safetensors.numpy import save_file
from mark.commands.stage import run_stage

stage, planted = sys.argv[1], "PLANT" in os.environ
seed = yaml.safe_load(Path("params.yaml").read_text())["seed"]

def ingest():
    rows = [{"chunk_id": f"c{n}", "text": f"Clause {n}."} for n in range(3)]
    if planted:
        rows[1]["text"] = "Clause one."
    Path("data/chunks.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))

def train():
    folder = Path("models/tiny_lora")
    folder.mkdir(parents=True)
    weights = {"q.lora_A": np.array([[1.0, -4.0]], np.float32), "v.lora_A": np.array([[2.0]], np.float32)}
    if planted:
        weights["q.lora_A"][0, 0] = 2.0
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "entry.json").write_text(json.dumps({"seed": seed}))

def evaluate():
    Path("metrics").mkdir(exist_ok=True)
    found = {"eval_tiny_lora": {"token_f1": 0.3 + seed / 100 + 0.005 * planted, "verdict": "cannot tell"}}
    Path("metrics/eval_tiny_lora.json").write_text(json.dumps(found))

def compare():
    gain = {"tiny_lora": {"over tiny + retrieval": {"difference": seed / 100}}}
    Path("metrics/compare.json").write_text(json.dumps({"compare": {"gain": gain}}))

run_stage(stage, {"ingest": ingest, "train": train, "eval": evaluate, "compare": compare}[stage])
"""


def call(folder: Path, *command: str) -> str:
    """Run a command with this interpreter's programs first on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def commit(folder: Path, message: str) -> str:
    """Commit everything; the commit's id."""
    call(folder, "git", "add", "-A")
    call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", message)
    return call(folder, "git", "rev-parse", "HEAD").strip()


@pytest.fixture(scope="session")
def tiny_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed project in which the pipeline ran once, with one thread."""
    root = tmp_path_factory.mktemp("tiny") / "project"
    (root / "data").mkdir(parents=True)
    call(root, "git", "init", "-q")
    call(root, sys.executable, "-m", "dvc", "init", "-q")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text("seed: 7\neval:\n  entries: [tiny_lora]\n")
    (root / "make.py").write_text(SCRIPT)
    (root / "requirements.lock").write_text("numpy==2.4.6\n")
    (root / "mark").symlink_to(ROOT / "mark")
    (root / "data/source.pdf").write_bytes(b"%PDF-1.4 the source")
    (root / ".gitignore").write_text(
        "/data/chunks.jsonl\n/models/tiny_lora\n/tmp/\n/reports/timing_*\n__pycache__/\n"
    )
    call(root, sys.executable, "-m", "dvc", "add", "-q", "data/source.pdf")
    call(root, sys.executable, "-m", "dvc", "repro")
    commit(root, "a run")
    return root


@pytest.fixture
def tiny(tiny_template: Path, tmp_path: Path) -> Path:
    """A clone of it to work in, with its cache."""
    root = tmp_path / "project"
    call(tmp_path, "cp", "-a", str(tiny_template), str(root))
    return root


MakeFile = Callable[[str, bytes], Path]


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Writes a file below the test's folder."""

    def make(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return make
