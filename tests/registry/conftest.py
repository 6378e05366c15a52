"""A small project with a base model, an entry whose adapter changes its answers, questions and planted answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mark.evaluation.calibration import Calibrations
from mark.files import write_json, write_jsonl
from mark.records import Prediction
from mark.registry import ModelRegistry
from mark.registry.view import ENTRY_FILE, adapter_sha256
from tests.conftest import ROOT
from tests.train.small import chunk, example

CLUSTERS, EACH = 100, 4
Arrays = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Tiny products gain nothing from more threads, and busy machines lose much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_llama_dir: Path) -> Path:
    """The project, made once: base `transformer`, entry `transformer_lora`, validation questions, DVC."""
    root = tmp_path_factory.mktemp("registry") / "project"
    root.mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(tiny_llama_dir, root / "models/base/transformer")
    write_entry(root, "transformer_lora")
    chunks = [chunk(number) for number in range(20)]
    write_jsonl(root / "data/chunks.jsonl", chunks)
    write_jsonl(root / "data/val_sft.jsonl", [example(i, "val", chunks) for i in range(6)])
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, as the working folder."""
    root = tmp_path / "project"
    shutil.copytree(template, root, symlinks=True)
    monkeypatch.chdir(root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return root


@pytest.fixture
def registry(project: Path) -> ModelRegistry:
    return ModelRegistry(project)


def write_entry(root: Path, name: str, seed: int = 1, scale: float = 1.0, base: str = "transformer") -> Path:
    """An entry with a seeded random adapter; it claims a real base, so that the gate looks at it."""
    from peft import LoraConfig, get_peft_model

    from mark.models.loading import load_base
    from mark.models.source_file import base_sha256, read_source
    from mark.models.targets import lora_targets

    folder = root / "models/base" / base
    model, tokenizer = load_base(folder)
    source = read_source(folder)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, target_modules=lora_targets(source.architecture), init_lora_weights=False, task_type="CAUSAL_LM"
    )
    tuned = get_peft_model(model, config)
    with torch.no_grad():
        for key, weight in tuned.named_parameters():
            if "lora_B" in key:
                weight.mul_(scale)
    entry = root / "models" / name
    tuned.save_pretrained(entry)
    tokenizer.save_pretrained(entry)
    record = {
        "schema_version": 1, "name": name, "base": base, "base_sha256": base_sha256(source),
        "architecture": source.architecture, "random": False, "data_sha256": "d" * 64, "params_sha256": "p" * 64,
        "params": {}, "seed": seed, "examples": 200, "steps": 50, "best_step": 25, "train_loss": 0.886984,
        "val_loss": 0.474712, "trainable_parameters": 2442240, "max_seq_length": 768, "precision": "fp32",
    }  # fmt: skip
    write_json(entry / ENTRY_FILE, record)
    (entry / "README.md").unlink(missing_ok=True)
    return entry


def edit_entry(root: Path, name: str, **changes: Any) -> None:
    path = root / "models" / name / ENTRY_FILE
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def paired_scores(rng: np.random.Generator, runs: int, gain: float) -> tuple[Arrays, Arrays]:
    """Token F1 of two systems on the same questions, [runs, CLUSTERS * EACH] each.

    A cluster has a difficulty; an answer's F1 is uniform around it. The new system answers every second
    question anew and copies the old answer otherwise; a cluster suits one of the two a little better. A gain is
    planted by making a share of its answers perfect: a mean of one half gains half of that share.
    """
    shape = (runs, CLUSTERS, EACH)

    def answers() -> Arrays:
        return np.clip(difficulty + rng.uniform(-0.4, 0.4, shape), 0.0, 1.0)

    difficulty = rng.uniform(0.3, 0.7, (runs, CLUSTERS, 1))
    old = answers()
    new = np.where(rng.random(shape) < 0.5, answers(), old)
    taste = rng.normal(0.0, 0.025, (runs, CLUSTERS, 1))  # symmetric: without a gain both are exchangeable
    old, new = np.clip(old - taste, 0.0, 1.0), np.clip(new + taste, 0.0, 1.0)
    new = np.where(rng.random(shape) < 2 * gain, 1.0, new)
    return new.reshape(runs, -1), old.reshape(runs, -1)


def predictions(scores: Arrays, cell: str = "tuned_retrieval") -> list[Prediction]:
    """Hand-written answerable questions with these token F1, EACH to a section."""
    return [
        Prediction(
            example_id=f"hw-{i}", cell=cell, question=f"Question {i}?", kind="answerable", style="short",
            rule_id="handwritten", document="acts", section=f"Article {i // EACH}", contexts=[], answers=["gold"],
            prediction="x", raw_prediction="x", unrefused_prediction="x", refused=False, refusal_probability=0.1,
            quote=None, quote_chunk=None, exact_match=float(value == 1), token_f1=float(value),
            rouge_l=float(value), bleu=0.0, f1_if_answered=float(value), source_in_contexts=None,
        )
        for i, value in enumerate(scores)
    ]  # fmt: skip


@pytest.fixture
def evaluated(project: Path) -> Callable[..., None]:
    """Write predictions and metrics of an entry: `evaluated(name, scores, verdict)`."""

    def write(name: str, scores: Arrays, verdict: str = "ship") -> None:
        write_jsonl(project / f"reports/eval/{name}/predictions.jsonl", predictions(scores))
        adapter = adapter_sha256(project / "models" / name)
        rules = Calibrations(
            entry=name, adapter_sha256=adapter, base="transformer", question_ids=[], thresholds={}
        )
        write_json(project / f"reports/eval/{name}/calibration.json", rules.model_dump())
        metrics = json.loads((ROOT / "metrics/eval_transformer_lora.json").read_text(encoding="utf-8"))
        content = {**metrics["eval_transformer_lora"], "verdict": verdict}
        write_json(project / f"metrics/eval_{name}.json", {f"eval_{name}": content})

    return write
