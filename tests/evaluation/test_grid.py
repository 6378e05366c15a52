"""The whole grid on a small real project."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mark.errors import LeakError, ModelError
from mark.evaluation import EvalInputs, EvalResult, evaluate, grid, summary_text, write_results
from mark.evaluation.calibration import Calibrations, PrecisionCheck
from mark.files import ADAPTER, read_json, read_jsonl, sha256_file, write_json, write_jsonl
from mark.prompting import REFUSAL
from mark.records import Example, Prediction

from .conftest import MAX_LENGTH, RETRIEVAL, SETTINGS


@pytest.fixture(scope="module")
def result(project: Path) -> EvalResult:
    return evaluate(EvalInputs.of_project("random_lora", 7, project), SETTINGS, RETRIEVAL, MAX_LENGTH)


def scalars(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        for value in tree.values():
            yield from scalars(value)
    else:
        yield tree


def test_every_cell_answers_every_test_question_once(result: EvalResult) -> None:
    assert len(result.predictions) == len(SETTINGS.cells) * 6
    assert {(row.cell, row.example_id) for row in result.predictions} == {
        (cell, ident)
        for cell in SETTINGS.cells
        for ident in ("test-hw-1", "test-hw-2", "test-hw-3", "test-0", "test-1", "test-2")
    }


def test_cells_see_what_they_should(result: EvalResult) -> None:
    for row in result.predictions:
        if row.cell in ("base", "tuned"):
            assert row.contexts == [] and row.source_in_contexts is None
        elif row.kind == "answerable" and row.cell.endswith("oracle"):
            assert row.source_in_contexts
        else:
            assert 1 <= len(row.contexts) <= RETRIEVAL.top_k


def test_predictions_follow_their_threshold(result: EvalResult) -> None:
    thresholds = result.calibrations.thresholds
    for row in result.predictions:
        threshold = thresholds[row.cell.replace("oracle", "retrieval")].threshold
        assert row.refusal_probability is not None
        if abs(row.refusal_probability - threshold) > 1e-5:
            assert row.refused == (row.refusal_probability >= threshold)
        assert (row.prediction == REFUSAL) == row.refused
        if row.kind == "unanswerable":
            assert row.token_f1 == float(row.refused)
        elif row.refused:
            assert row.token_f1 == 0.0


def test_only_validation_questions_set_thresholds(result: EvalResult) -> None:
    assert sorted(result.calibrations.question_ids) == ["dev-hw-3", "val-0", "val-1"]
    assert sorted(result.calibrations.thresholds) == [
        "base", "base_retrieval", "extractive", "tuned", "tuned_retrieval",
    ]  # fmt: skip


def test_metrics_have_the_promised_shape(result: EvalResult) -> None:
    metrics = result.metrics
    for group in ("all", "handwritten", "rule_made", "answerable", "short", "full", "unseen_documents"):
        assert set(metrics[group]) == set(SETTINGS.cells)
        for cell in metrics[group].values():
            assert 0 <= cell["token_f1_low"] <= cell["token_f1"] <= cell["token_f1_high"] <= 1
    for gains in metrics["gain"].values():
        assert set(gains) == {
            "over_base_retrieval", "over_extractive", "over_tuned_without_retrieval", "over_base",
        }  # fmt: skip
    assert metrics["counts"]["all"] == 6 and metrics["counts"]["handwritten"] == 3
    assert metrics["test_documents_seen_in_training"] == {"lease": 1, "policy": 0, "statute": 0}
    assert metrics["base_probe_equal"] is True
    assert metrics["precision"] in ("bfloat16", "float32")
    assert metrics["verdict"] in ("ship", "don't ship", "cannot tell")
    assert metrics["verdict_on"] == "handwritten"
    for value in scalars(metrics):
        assert isinstance(value, str | bool | int) or (math.isfinite(value) and value == round(value, 6))


def test_the_development_questions_have_figures_of_their_own(result: EvalResult) -> None:
    found = result.metrics["development"]
    assert found["questions"] == 1 and found["handwritten"] is True  # dev-hw-3
    assert {"base", "base_retrieval", "extractive", "tuned", "tuned_retrieval"} < set(found)


def test_means_are_those_of_the_predictions(result: EvalResult) -> None:
    rows = [row for row in result.predictions if row.cell == "extractive"]
    found = result.metrics["all"]["extractive"]
    assert found["token_f1"] == pytest.approx(sum(row.token_f1 for row in rows) / 6, abs=1e-5)
    refused = [row.refused for row in rows if row.kind == "unanswerable"]
    assert found["refusal_recall"] == pytest.approx(sum(refused) / 2, abs=1e-5)


def test_an_entry_trained_on_from_another_leaves_out_the_base_model(
    project: Path, result: EvalResult, tmp_path: Path
) -> None:
    root = tmp_path / "project"
    shutil.copytree(project, root)
    record = read_json(root / "models/random_lora/entry.json")
    write_json(root / "models/random_lora/entry.json", {**record, "sft": "transformer_lora"})
    found = evaluate(EvalInputs.of_project("random_lora", 7, root), SETTINGS, RETRIEVAL, MAX_LENGTH)
    assert found.predictions == [row for row in result.predictions if not row.cell.startswith("base")]
    assert "base_probe_equal" not in found.metrics and result.metrics["base_probe_equal"] is True
    told = " ".join(summary_text({"eval_random_lora": found.metrics}).split())
    assert "was not compared with base + retrieval" in told


def test_a_second_run_writes_the_same_bytes(project: Path, result: EvalResult, tmp_path: Path) -> None:
    again = evaluate(EvalInputs.of_project("random_lora", 7, project), SETTINGS, RETRIEVAL, MAX_LENGTH)
    for folder, found in (("a", result), ("b", again)):
        write_results(found, "random_lora", tmp_path / folder)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert [str(path) for path in files] == [
        "metrics/eval_random_lora.json",
        "plots/eval_grid_random_lora.json",
        "plots/refusal_random_lora.json",
        "reports/eval/random_lora/calibration.json",
        "reports/eval/random_lora/development.jsonl",
        "reports/eval/random_lora/predictions.jsonl",
        "reports/eval/random_lora/table.txt",
    ]
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path
    assert len(read_jsonl(tmp_path / "a/reports/eval/random_lora/predictions.jsonl", Prediction)) == 42
    assert Calibrations.read(tmp_path / "a/reports/eval/random_lora/calibration.json") == result.calibrations
    assert result.calibrations.adapter_sha256 == sha256_file(project / "models/random_lora" / ADAPTER)


def test_the_table_names_every_cell_and_ends_with_the_verdict(result: EvalResult) -> None:
    text = summary_text({"eval_random_lora": result.metrics})
    for label in (
        "base, no retrieval",
        "tuned + retrieval",
        "best sentence = no model",
        "Rule-made questions: 3",
    ):
        assert label in text
    assert "Verdict on random_lora + retrieval: cannot tell; 2 clusters are too few, 4 are needed" in text


def test_an_adapter_in_the_base_model_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def adapted(folder: Path, *args: Any) -> Any:
        from mark.models.loading import load_entry

        return load_entry(project / "models/random_lora", *args)

    monkeypatch.setattr(grid, "load_base", adapted)
    with pytest.raises(ModelError, match="adapter layers: True"):
        evaluate(EvalInputs.of_project("random_lora", 7, project), SETTINGS, RETRIEVAL, MAX_LENGTH)


@pytest.mark.parametrize("how", ["question", "section"])
def test_a_leak_stops_the_evaluation(project: Path, tmp_path: Path, how: str) -> None:
    for path in (project / "data").iterdir():
        (tmp_path / path.name).symlink_to(path)
    train = tmp_path / "train_sft.jsonl"
    row = json.loads(train.read_text(encoding="utf-8"))
    if how == "question":
        row["question"] = "how MANY members  can force a meeting?"
    else:
        row |= {"document": "lease", "section": "Article 3"}
    train.unlink()
    write_jsonl(train, [Example.model_validate(row)])
    inputs = EvalInputs.of_project("random_lora", 7, project)
    inputs = EvalInputs(**{**vars(inputs), "data": tmp_path})
    with pytest.raises(LeakError, match="test-hw-1" if how == "question" else "Article 3"):
        evaluate(inputs, SETTINGS, RETRIEVAL, MAX_LENGTH)


def test_bfloat16_answers_only_where_its_answers_agree(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random model's do not; an arm that went on from an entry answers as that did."""
    monkeypatch.setattr(grid, "preferred_dtype", lambda device: torch.bfloat16)
    fewer = SETTINGS.model_copy(update={"cells": ["tuned_retrieval"]})
    root = tmp_path / "project"
    shutil.copytree(project, root)
    inputs = EvalInputs.of_project("random_lora", 7, root)
    own = evaluate(inputs, fewer, RETRIEVAL, MAX_LENGTH)
    check = own.metrics["precision_check"]
    assert check["questions"] == 3
    agrees = PrecisionCheck(**check).agrees
    assert own.calibrations.answers_in == own.metrics["precision"] == ("bfloat16" if agrees else "float32")
    for precision in ("bfloat16", "float32"):
        write_json(
            inputs.entry / "entry.json", read_json(inputs.entry / "entry.json") | {"answers_in": precision}
        )
        followed = evaluate(inputs, fewer, RETRIEVAL, MAX_LENGTH)
        assert followed.metrics["precision"] == followed.calibrations.answers_in == precision
        assert "precision_check" not in followed.metrics
