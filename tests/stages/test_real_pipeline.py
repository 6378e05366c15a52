"""The whole pipeline on the sample corpus with the real models, shrunk to a few examples; minutes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stages.running import call, clone_of_working_tree, dvc, mark

pytestmark = pytest.mark.long

FEW = (
    "data_prep.max_samples=12", "data_prep.max_val=4", "data_prep.max_test=6", "eval.max_handwritten=4",
    "eval.max_rule_made=4", "eval.max_calibration=8", "eval.max_new_tokens=16", "eval.bootstrap_samples=100",
)  # fmt: skip


def test_sample_corpus_with_real_models(tmp_path: Path) -> None:
    folder = clone_of_working_tree(tmp_path / "clone")
    for key, value in (("user.name", "test"), ("user.email", "test@example.org")):
        call(folder, "git", "config", key, value)
    mark(folder, "params", *FEW)
    mark(folder, "params", "--check")
    dvc(folder, "repro", online=True)
    metrics = json.loads((folder / "metrics/eval_transformer_lora.json").read_text())["eval_transformer_lora"]
    assert metrics["counts"]["handwritten"] == 4 and metrics["verdict"] == "cannot tell"
    assert metrics["base_probe_equal"] is True
    pages = json.loads((folder / "data/ingest_report.json").read_text())
    assert pages["quarantined"] == [] if "quarantined" in pages else pages
    assert "Running stage" not in dvc(folder, "repro")
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "few")
    dvc(folder, "exp", "run", "-S", "train.lora.r=16", *[part for few in FEW for part in ("-S", few)])
    changed = dvc(folder, "metrics", "diff")
    assert "eval_transformer_lora" in changed
    params = dvc(folder, "params", "diff")
    assert "train.lora.r" in params and "16" in params
