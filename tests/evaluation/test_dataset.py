"""`mark eval --model NAME --dataset FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mark.answering.refusal import is_refusal
from mark.errors import DataError, ModelError
from mark.evaluation import EvalInputs, evaluate, evaluate_dataset, write_results
from mark.files import read_json

from .conftest import MAX_LENGTH, PARAMS, RETRIEVAL, SETTINGS


@pytest.fixture
def root(project: Path, tmp_path: Path) -> Path:
    """The project with params.yaml, in a folder of its own for reports."""
    import yaml

    params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    params["eval"] = SETTINGS.model_dump()
    params["retrieval"] = RETRIEVAL.model_dump()
    params["train"]["max_seq_length"] = MAX_LENGTH
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for part in ("data", "models"):
        (tmp_path / part).symlink_to(project / part)
    return tmp_path


def report(root: Path) -> dict[str, Any]:
    (path,) = (root / "reports").glob("eval_*.json")
    found: dict[str, Any] = read_json(path)
    return found


def test_rule_made_rows_of_an_entry_use_its_threshold(root: Path) -> None:
    result = evaluate(EvalInputs.of_project("random_lora", 7, root), SETTINGS, RETRIEVAL, MAX_LENGTH)
    write_results(result, "random_lora", root)
    text = evaluate_dataset("random_lora", root / "data/test_sft.jsonl", root)
    assert text.startswith("random_lora on test_sft.jsonl: 3 questions in 3 clusters")
    found = report(root)
    threshold = result.calibrations.thresholds["tuned_retrieval"].threshold
    assert found["refusal_threshold"]["retrieval"] == threshold
    same = {row.example_id: row for row in result.predictions if row.cell == "tuned_retrieval"}
    for row in found["predictions"]:
        # not the text: bf16 logits of random weights tie, and batches of other sizes break ties otherwise
        assert is_refusal(row["prediction"]) == same[row["example_id"]].refused


def test_handwritten_rows_of_a_base_model_are_retrieved_for(root: Path) -> None:
    evaluate_dataset("random", root / "data/handwritten_test.jsonl", root)
    found = report(root)
    assert found["refusal_threshold"] == {"without": None, "retrieval": None}
    assert [len(row["contexts"]) for row in found["predictions"]] == [2, 2, 2]
    assert 0 <= found["metrics"]["token_f1_low"] <= found["metrics"]["token_f1"] <= 1


def test_a_row_that_fits_nothing_is_named(root: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    first = (root / "data/test_sft.jsonl").read_text(encoding="utf-8").splitlines()[0]
    bad.write_text(first + '\n{"prompt": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2: neither") as fault:
        evaluate_dataset("random", bad, root)
    assert "\n" not in str(fault.value)


def test_no_rows_and_no_model(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="holds no question"):
        evaluate_dataset("random", empty, root)
    with pytest.raises(ModelError, match="no model named"):
        evaluate_dataset("nobody", root / "data/test_sft.jsonl", root)
