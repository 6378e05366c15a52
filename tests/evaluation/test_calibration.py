"""Which evaluation's thresholds a model gets."""

from __future__ import annotations

from pathlib import Path

from mark.answering.refusal import Evidence, fit
from mark.evaluation.calibration import Calibrations, Thresholds, thresholds_of
from mark.files import write_json


def evaluated(root: Path, entry: str, cells: list[str]) -> None:
    evidence = [Evidence(i / 30, -i / 10, i / 30) for i in range(30)]
    rule = fit(evidence, [1.0] * 30, ["answerable" if i % 3 else "unanswerable" for i in range(30)])
    found = Calibrations(
        entry=entry, base="transformer", question_ids=[], thresholds=dict.fromkeys(cells, rule)
    )
    write_json(root / f"reports/eval/{entry}/calibration.json", found.model_dump())


def test_a_base_is_calibrated_by_the_evaluation_that_asked_it(tmp_path: Path) -> None:
    evaluated(tmp_path, "rl_trained_lora", ["tuned", "tuned_retrieval", "extractive"])
    assert thresholds_of("transformer", tmp_path) == Thresholds(None, None)
    evaluated(tmp_path, "transformer_lora", ["base", "base_retrieval", "tuned", "tuned_retrieval"])
    base = thresholds_of("transformer", tmp_path)
    assert base.without is not None and base.retrieval is not None
    for entry in ("rl_trained_lora", "transformer_lora"):
        assert thresholds_of(entry, tmp_path).retrieval is not None
    assert thresholds_of("extractive", tmp_path).retrieval is not None
    assert thresholds_of("mamba", tmp_path) == Thresholds(None, None)
