"""The eval stage through a server that holds base model and adapter: the metrics of the local engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mark.config import PARAMS as PARAMS_FILE
from mark.errors import ModelError
from mark.evaluation import evaluate_dataset, grid
from mark.evaluation.calibration import Calibrations
from mark.files import read_json, read_jsonl, write_json
from mark.models.loading import load_base, load_entry
from mark.records import Prediction
from stages.eval import main as eval_stage
from tests.answering.completions_server import CompletionsServer, serving

from .conftest import MAX_LENGTH, PARAMS, RETRIEVAL, SETTINGS

CELLS = ["base_retrieval", "tuned", "tuned_retrieval", "tuned_oracle", "extractive"]


@pytest.fixture(scope="module")
def served(project: Path) -> Iterator[CompletionsServer]:
    base, tokenizer = load_base(project / "models/base/random")
    tuned, _ = load_entry(project / "models/random_lora")
    eos = int(tokenizer.eos_token_id)
    with serving(CompletionsServer({"big-base": (base, eos), "random_lora": (tuned, eos)})) as server:
        yield server


def make_root(project: Path, root: Path, url: str | None, **server: Any) -> Path:
    """The project in a folder of its own, with this server."""
    root.mkdir()
    params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    named = {"url": url, "names": {"random": "big-base"}, "concurrency": 4, "max_tries": 1, **server}
    params["eval"] = SETTINGS.model_dump() | {
        "cells": CELLS,
        "engine": "local" if url is None else "openai",
        "server": SETTINGS.server.model_dump() | named,
    }
    params["retrieval"] = RETRIEVAL.model_dump()
    params["train"]["max_seq_length"] = MAX_LENGTH
    (root / PARAMS_FILE).write_text(yaml.safe_dump(params), encoding="utf-8")
    for part in ("data", "models"):
        (root / part).symlink_to(project / part)
    return root


def test_the_stage_writes_the_metrics_of_the_local_engine(
    project: Path, served: CompletionsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "preferred_dtype", lambda _: torch.float32)  # as the server holds the weights
    found = {}
    for name, url in (("here", None), ("there", served.url)):
        root = make_root(project, tmp_path / name, url)
        monkeypatch.chdir(root)
        eval_stage("random_lora")
        found[name] = read_json(root / "metrics/eval_random_lora.json")["eval_random_lora"]
    here, there = found["here"], found["there"]
    assert (here.pop("engine"), here.pop("precision"), here.pop("base_probe_equal")) == (
        "local", "float32", True,
    )  # fmt: skip
    assert there.pop("engine") == "openai/vllm"
    assert there.pop("engine_models") == {"base": "big-base", "tuned": "random_lora"}
    thresholds = [metrics.pop("refusal_threshold") for metrics in (here, there)]
    assert thresholds[1] == pytest.approx(thresholds[0], abs=1e-4)
    assert there == here
    rows = [
        read_jsonl(tmp_path / name / "reports/eval/random_lora/predictions.jsonl", Prediction)
        for name in ("here", "there")
    ]
    assert [row.prediction for row in rows[1]] == [row.prediction for row in rows[0]]
    assert [row.refusal_probability for row in rows[1]] == pytest.approx(
        [row.refusal_probability for row in rows[0]], abs=1e-4
    )
    kept = Calibrations.read(tmp_path / "there/reports/eval/random_lora/calibration.json")
    assert kept.engine == "openai/vllm"
    assert served.url.split("//")[1].split("/")[0] not in "".join(
        path.read_text(encoding="utf-8") for path in (tmp_path / "there").rglob("*.json*") if path.is_file()
    )


def test_one_model_under_both_names_is_refused(
    project: Path, served: CompletionsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = served.models["big-base"]
    monkeypatch.setattr(served, "models", {"big-base": one, "random_lora": one})
    root = make_root(project, tmp_path / "project", served.url)
    monkeypatch.chdir(root)
    with pytest.raises(ModelError, match="alike as big-base and as random_lora: the adapter is not loaded"):
        eval_stage("random_lora")
    assert not (root / "metrics").exists()


def test_a_file_of_questions_says_which_engine_answered(
    project: Path, served: CompletionsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_root(project, tmp_path / "project", served.url)
    few = root / "few.jsonl"
    few.write_text((root / "data/val_sft.jsonl").read_text(encoding="utf-8").splitlines()[0] + "\n")
    evaluate_dataset("random", few, root)
    (path,) = (root / "reports").glob("eval_*.json")
    found = read_json(path)
    assert (found["engine"], found["engine_model"]) == ("openai/vllm", "big-base")
    assert "precision" not in found
    write_json(root / "reports/eval/random_lora/calibration.json", calibration())
    with caplog.at_level("WARNING"):
        evaluate_dataset("random", few, root)
    assert "fitted on answers of the engine local, openai/vllm answers now" in caplog.text


def calibration() -> dict[str, Any]:
    """Of the base model `random`, by the local engine."""
    rule = {
        "threshold": 0.5, "fitted": True, "model": {"intercept": 0.0, "weights": {"refusal_log_odds": 1.0}},
        "mean_f1": 0.1, "answerable": 10, "unanswerable": 10, "curve": [],
    }  # fmt: skip
    return {"entry": "x", "base": "random", "question_ids": [], "thresholds": {"base_retrieval": rule}}
