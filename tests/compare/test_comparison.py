"""One table over planted evaluations."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mark.commands.evaluation import last_report
from mark.compare import CompareInputs, compare_entries, write_comparison
from mark.compare.results import comparison_text, plot_rows
from mark.config import Eval
from mark.errors import DataError
from mark.files import read_json, write_json, write_jsonl
from mark.records import Prediction
from tests.conftest import ROOT

QUESTIONS = 60
SFT, POLICY = "transformer_lora", "rl_trained_lora"
RIVALS = {f"over {SFT} + retrieval", "over transformer + retrieval", "over best sentence"}


def settings(**changes: Any) -> Eval:
    values: dict[str, Any] = {
        "entries": [SFT, POLICY], "max_handwritten": 60, "max_rule_made": 0, "max_calibration": 4,
        "batch_size": 4, "max_new_tokens": 8, "cells": ["tuned_retrieval"], "recall_at": [1],
        "bootstrap_samples": 500, "confidence": 0.95, "min_clusters": 30,
        "engine": "local",
        "server": {"url": None, "names": {}, "api_key_env": None, "concurrency": 1, "timeout_s": 1, "max_tries": 1},
    }  # fmt: skip
    return Eval.model_validate(values | changes)


def prediction(number: int, cell: str, f1: float, rule_id: str = "handwritten") -> Prediction:
    return Prediction(
        example_id=f"q{number}", cell=cell, question="Who pays?", kind="answerable", style="short",
        rule_id=rule_id, document="law", section=f"Article {number}", contexts=[], answers=["the tenant"],
        prediction="", raw_prediction="", unrefused_prediction="", refused=False, refusal_probability=None,
        quote=None, quote_chunk=None, exact_match=0.0, token_f1=f1, rouge_l=f1, bleu=0.0, f1_if_answered=f1,
        source_in_contexts=True,
    )  # fmt: skip


def evaluated(root: Path, name: str, cells: dict[str, float], **record: str) -> None:
    """An entry whose cells have these means of token F1, with noise that is paired but for the mean."""
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.1, QUESTIONS)
    rows = [
        prediction(i, cell, float(np.clip(mean + noise[i] + rng.normal(0, 0.05), 0, 1)))
        for cell, mean in cells.items()
        for i in range(QUESTIONS)
    ]
    write_jsonl(root / f"reports/eval/{name}/predictions.jsonl", rows)
    write_json(root / f"models/{name}/entry.json", {"name": name, "base": "transformer", **record})
    values = {
        cell: {"token_f1": m, "token_f1_low": m - 0.1, "token_f1_high": m + 0.1} for cell, m in cells.items()
    }
    metrics = {
        "handwritten": values, "retrieval": {}, "test_documents_seen_in_training": {"law": 12, "act": 0},
        "unseen_documents": values, "counts": {"unseen_documents": 7},
    }  # fmt: skip
    write_json(root / f"metrics/eval_{name}.json", {f"eval_{name}": metrics})


def project(root: Path, sft: float, policy: float, kept: str | None) -> CompareInputs:
    evaluated(root, SFT, {"base_retrieval": 0.3, "tuned_retrieval": sft, "extractive": 0.35})
    evaluated(root, POLICY, {"tuned_retrieval": policy, "extractive": 0.35}, sft=SFT)
    if kept is not None:
        told = {
            "kept": kept,
            "verdict": "ship" if kept == "rlhf" else "cannot tell",
            "reason": "its gate says so",
        }
        write_json(root / "metrics/rlhf.json", {"rlhf": told})
    return CompareInputs.of_project([SFT, POLICY], root)


@pytest.mark.parametrize(
    ("sft", "policy", "kept", "verdicts", "best"),
    [
        (0.5, 0.6, "rlhf", ["ship", "ship"], POLICY),
        (0.5, 0.6, "sft", ["ship", "cannot tell"], SFT),  # RLHF's own gate asks for more
        (0.5, 0.6, None, ["ship", "cannot tell"], SFT),
        (0.5, 0.5, "rlhf", ["ship", "cannot tell"], SFT),  # better than all but what it started from
        (0.2, 0.6, "rlhf", ["don't ship", "ship"], POLICY),
        (0.6, 0.4, "rlhf", ["ship", "don't ship"], SFT),
        (0.35, 0.35, "rlhf", ["cannot tell", "cannot tell"], "none"),
    ],
)
def test_verdicts(
    tmp_path: Path, sft: float, policy: float, kept: str | None, verdicts: list[str], best: str
) -> None:
    found = compare_entries(project(tmp_path, sft, policy, kept), settings(), 7)
    assert [found["verdict"][SFT], found["verdict"][POLICY]] == verdicts
    assert found["best"] == best and found["judged"] == "handwritten" and found["clusters"] == QUESTIONS
    assert set(found["gain"][POLICY]) == RIVALS and set(found["gain"][SFT]) < RIVALS
    gain = found["gain"][POLICY][f"over {SFT} + retrieval"]
    assert gain["low"] < policy - sft < gain["high"]
    assert gain["difference"] == pytest.approx(policy - sft, abs=0.03)


def test_few_clusters_decide_nothing(tmp_path: Path) -> None:
    found = compare_entries(project(tmp_path, 0.6, 0.7, "rlhf"), settings(min_clusters=61), 7)
    assert set(found["verdict"].values()) == {"cannot tell"} and found["best"] == "none"
    assert found["reason"][SFT] == "60 clusters of answerable questions are too few, 61 are needed"


def test_each_model_has_one_row(tmp_path: Path) -> None:
    found = compare_entries(project(tmp_path, 0.5, 0.6, "rlhf"), settings(), 7)
    write_comparison(found, tmp_path)
    assert found["models"] == [
        "transformer + retrieval",
        f"{SFT} + retrieval",
        f"{POLICY} + retrieval",
        "best sentence",
    ]
    assert set(found["rows"]["handwritten"]) == set(found["models"])
    text = (tmp_path / "reports/compare/table.txt").read_text()
    assert text == comparison_text(read_json(tmp_path / "metrics/compare.json")["compare"]) + "\n"
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert f"{POLICY} + retrieval - 60.0 - - - - - -" in lines
    assert lines.index("best sentence - 35.0 - - - - - -") > lines.index(
        f"{POLICY} + retrieval - 60.0 - - - - - -"
    )
    assert f"Best shown: {POLICY}." in lines and any("act 0 (unseen), law 12" in line for line in lines)
    assert read_json(tmp_path / "plots/compare.json") == plot_rows(found) and len(plot_rows(found)) == 4


def test_entries_that_different_engines_ran_are_compared_and_that_is_said(tmp_path: Path) -> None:
    project(tmp_path, 0.5, 0.6, "rlhf")
    path = tmp_path / f"metrics/eval_{POLICY}.json"
    metrics = read_json(path)
    metrics[f"eval_{POLICY}"]["engine"] = "openai/vllm"
    write_json(path, metrics)
    found = compare_entries(CompareInputs.of_project([SFT, POLICY], tmp_path), settings(), 7)
    told = f"these answers were not given by one engine ({SFT} by local, {POLICY} by openai/vllm)"
    assert found["engines"] == told
    assert f"With care: {told}." in " ".join(comparison_text(found).split())
    assert "engines" not in compare_entries(project(tmp_path, 0.5, 0.6, "rlhf"), settings(), 7)
    for name, precision in ((SFT, "bfloat16"), (POLICY, "float32")):
        path = tmp_path / f"metrics/eval_{name}.json"
        metrics = read_json(path)
        metrics[f"eval_{name}"] |= {"engine": "local", "precision": precision}
        write_json(path, metrics)
    found = compare_entries(CompareInputs.of_project([SFT, POLICY], tmp_path), settings(), 7)
    assert f"({SFT} by local in bfloat16, {POLICY} by local in float32)" in found["engines"]


def test_other_questions_are_not_compared(tmp_path: Path) -> None:
    inputs = project(tmp_path, 0.5, 0.6, "rlhf")
    del inputs.entries[1].predictions[0]
    with pytest.raises(DataError, match=f"answered different test questions .*{POLICY}.* 59"):
        compare_entries(inputs, settings(), 7)


@pytest.mark.parametrize("content", [[], {}, {f"eval_{POLICY}": 3}])
def test_metrics_of_another_shape_are_one_line(tmp_path: Path, content: Any) -> None:
    project(tmp_path, 0.5, 0.6, "rlhf")
    write_json(tmp_path / f"metrics/eval_{POLICY}.json", content)
    with pytest.raises(DataError, match=f"eval_{POLICY}.json .*; run `dvc repro -f eval@{POLICY}`"):
        CompareInputs.of_project([SFT, POLICY], tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"compare": []}', "", '{"compare": {"rows": 1}}'])
def test_a_damaged_table_is_one_line(tmp_path: Path, content: str) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    project(tmp_path, 0.5, 0.6, "rlhf")
    (tmp_path / "metrics/compare.json").write_text(content)
    with pytest.raises(DataError, match="`dvc repro"):
        last_report(tmp_path)


def test_a_missing_evaluation_is_named(tmp_path: Path) -> None:
    project(tmp_path, 0.5, 0.6, "rlhf")
    (tmp_path / f"metrics/eval_{POLICY}.json").unlink()
    with pytest.raises(DataError, match=f"eval_{POLICY}.json is missing; run `dvc repro eval@{POLICY}`"):
        CompareInputs.of_project([SFT, POLICY], tmp_path)
