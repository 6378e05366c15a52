"""A champion whose kept answers are about another corpus answers the present test questions anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mark.config import Registry, load_section
from mark.evaluation import EvalInputs, evaluate, write_results
from mark.evaluation.significance import Bootstrap
from mark.files import read_jsonl, write_json, write_jsonl
from mark.models.loading import load_entry
from mark.records import Prediction
from mark.registry import ModelRegistry
from mark.registry.export import Bench
from mark.registry.gate import Gate, promote_if_better
from mark.registry.history import read_decisions
from mark.registry.parity import Answering, validation_questions
from mark.registry.promotion import promote
from mark.registry.reanswer import Asking
from tests.evaluation.conftest import MAX_LENGTH, PARAMS, RETRIEVAL, SETTINGS, project

from .conftest import predictions

__all__ = ["project"]

NEW, OLD = "random_lora", "old_lora"
CELL = "tuned_retrieval"
QUICK = SETTINGS.model_copy(update={"cells": ["base_retrieval", CELL, "extractive"]})


@pytest.fixture
def registry(project: Path, tmp_path: Path) -> ModelRegistry:
    """A candidate, evaluated for real, and a champion whose kept answers are about other questions."""
    root = tmp_path / "root"
    shutil.copytree(project, root, symlinks=True)
    shutil.copytree(root / "models" / NEW, root / "models" / OLD)
    model, _ = load_entry(root / "models" / OLD)
    torch.manual_seed(9)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * 0.3)
    model.save_pretrained(root / "models" / OLD)
    answer(root, NEW)
    registry = ModelRegistry(root)
    old = registry.get(OLD)
    promote(root, old.folder, old.sha256, "first", forced=False)
    write_jsonl(root / "models/champion/predictions.jsonl", predictions(np.full(8, 1.0)))
    return registry


def answer(root: Path, name: str) -> None:
    result = evaluate(EvalInputs.of_project(name, 7, root), QUICK, RETRIEVAL, MAX_LENGTH)
    write_results(result, name, root)


def plant(root: Path, f1: float, verdict: str = "cannot tell") -> None:
    """Give the candidate's answers this token F1."""
    path = root / f"reports/eval/{NEW}/predictions.jsonl"
    rows = [
        row.model_copy(update={"token_f1": f1}) if row.cell == CELL else row
        for row in read_jsonl(path, Prediction)
    ]
    write_jsonl(path, rows)
    metrics = root / f"metrics/eval_{NEW}.json"
    content = json.loads(metrics.read_text(encoding="utf-8"))
    content[f"eval_{NEW}"]["verdict"] = verdict
    write_json(metrics, content)


def gate(registry: ModelRegistry) -> Gate:
    settings = load_section(Registry, "registry", PARAMS).model_copy(update={"forgetting_margin": 1.0})

    def bench() -> Bench:
        return Bench(validation_questions(registry.root, 2), Answering(MAX_LENGTH, 6, 4), settings)

    asking = Asking(QUICK, RETRIEVAL, MAX_LENGTH, 7)
    return Gate(registry, settings, Bootstrap(500, 0.95, 1), 2, bench, asking)


@pytest.mark.parametrize(("f1", "promoted"), [(1.0, True), (0.0, False)])
def test_the_champion_answers_the_present_questions(
    registry: ModelRegistry, f1: float, promoted: bool
) -> None:
    plant(registry.root, f1)
    row, (decision,) = promote_if_better(gate(registry), [NEW])
    assert (row is not None) == promoted
    assert [check.name for check in decision.checks] == ["entry", "forgetting", "parity", "better"]
    assert "over the champion old_lora on 3 common test questions" in decision.reason
    (recorded,) = read_decisions(registry.root)
    assert (recorded.entry, recorded.champion_sha256) == (NEW, registry.get(OLD).sha256)


def test_its_new_answers_are_those_that_eval_gives(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("grid", "precision"):  # eval checks bfloat16 where a machine has it; nothing planted did
        monkeypatch.setattr(f"mark.evaluation.{place}.preferred_dtype", lambda device: torch.float32)
    plant(registry.root, 0.0)
    gate(registry).decide(NEW)
    kept = read_jsonl(registry.root / "models/champion/present.jsonl", Prediction)
    answer(registry.root, OLD)
    rows = read_jsonl(registry.root / f"reports/eval/{OLD}/predictions.jsonl", Prediction)
    assert kept == [row for row in rows if row.cell == CELL] and len(kept) == 6
    before = (registry.root / "models/champion/present.jsonl").stat().st_mtime_ns
    decision = Gate(**{**vars(gate(registry)), "again": True}).decide(NEW)  # they are made once a corpus
    assert [check.name for check in decision.checks] == ["entry", "better"]
    assert (registry.root / "models/champion/present.jsonl").stat().st_mtime_ns == before


def test_questions_that_the_candidate_did_not_answer_are_no_comparison(registry: ModelRegistry) -> None:
    path = registry.root / f"reports/eval/{NEW}/predictions.jsonl"
    rows = [row.model_copy(update={"question": f"{row.question}?"}) for row in read_jsonl(path, Prediction)]
    write_jsonl(path, rows)
    decision = gate(registry).decide(NEW)
    assert "was evaluated on other questions than the present ones" in decision.reason
    assert read_decisions(registry.root) == []


@pytest.mark.parametrize(("how", "why"), [("config", "it does not load"), ("adapter", "was changed")])
def test_a_champion_that_does_not_load_is_left_out_and_the_log_says_so(
    registry: ModelRegistry, how: str, why: str
) -> None:
    copy = registry.root / "models/champion"
    if how == "config":
        (copy / "adapter_config.json").write_text('{"peft_type": "NOPE"}', encoding="utf-8")
    else:
        path = copy / "adapter_model.safetensors"
        path.write_bytes(path.read_bytes()[:100])
        shutil.rmtree(registry.root / "models" / OLD)
    plant(registry.root, 1.0, verdict="ship")
    row, (decision,) = promote_if_better(gate(registry), [NEW])
    assert row is not None and row.reason == decision.reason and row.over == OLD
    assert "the champion old_lora is left out, since it" in row.reason and why in row.reason
    assert "\n" not in row.reason
    (recorded,) = read_decisions(registry.root)
    assert recorded.champion_sha256 is None
