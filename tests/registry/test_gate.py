"""The promotion gate: a planted better entry is promoted, a planted worse one refused, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mark.commands.models import compare_models
from mark.config import Eval, Registry, Retrieval, load_section
from mark.errors import DataError
from mark.evaluation.significance import Bootstrap
from mark.files import write_json
from mark.models.loading import load_model
from mark.registry import ModelRegistry
from mark.registry.champion import read_log
from mark.registry.comparison import answers_of
from mark.registry.evaluated import stale_evaluation
from mark.registry.export import Bench
from mark.registry.gate import Gate, candidates, promote_if_better
from mark.registry.history import DECISIONS
from mark.registry.parity import Answering, validation_questions
from mark.registry.promotion import promote
from mark.registry.reanswer import Asking
from tests.conftest import ROOT

from .conftest import edit_entry, paired_scores, write_entry

SETTINGS = load_section(Registry, "registry", ROOT / "params.yaml")
LOOSE = SETTINGS.model_copy(update={"forgetting_margin": 1.0})  # what random weights know is chance
PARAMS = ROOT / "params.yaml"
ASKING = Asking(load_section(Eval, "eval", PARAMS), load_section(Retrieval, "retrieval", PARAMS), 900, 1)
Evaluated = Callable[..., None]


def gate(registry: ModelRegistry, settings: Registry = LOOSE, again: bool = False) -> Gate:
    def bench() -> Bench:
        return Bench(validation_questions(registry.root, 4), Answering(900, 6, 4), settings)

    return Gate(registry, settings, Bootstrap(2000, 0.95, 1), 30, bench, ASKING, again)


def test_without_a_champion_the_own_verdict_decides(registry: ModelRegistry, evaluated: Evaluated) -> None:
    evaluated("transformer_lora", np.full(400, 0.5), verdict="cannot tell")
    refused = gate(registry).decide("transformer_lora")
    assert not refused.passed and [check.name for check in refused.checks] == ["entry", "better"]
    assert "no champion yet; Verdict on transformer_lora + retrieval: cannot tell" in refused.reason
    evaluated("transformer_lora", np.full(400, 0.5), verdict="ship")
    passed = gate(registry, again=True).decide("transformer_lora")
    assert passed.passed and [c.name for c in passed.checks] == ["entry", "better", "forgetting", "parity"]


@pytest.mark.parametrize(("gain", "promoted"), [(0.08, True), (0.0, False), (-0.08, False)])
def test_a_better_entry_is_promoted_and_a_worse_one_refused(
    registry: ModelRegistry, evaluated: Evaluated, gain: float, promoted: bool
) -> None:
    new, old = (scores[0] for scores in paired_scores(np.random.default_rng(4), 1, abs(gain)))
    if gain < 0:
        new, old = old, new
    evaluated("transformer_lora", old)
    champion = registry.get("transformer_lora")
    promote(registry.root, champion.folder, champion.sha256, "first", forced=False)
    write_entry(registry.root, "rl_trained_lora", seed=2)
    evaluated("rl_trained_lora", new)
    row, (decision,) = promote_if_better(gate(registry), ["rl_trained_lora"])
    assert (row is not None) == decision.passed == promoted
    assert registry.get("rl_trained_lora").champion == promoted
    assert (
        "over the champion transformer_lora on 400 common test questions in 100 clusters" in decision.reason
    )
    assert [item.entry for item in read_log(registry.root)] == ["transformer_lora", "rl_trained_lora"][
        : 1 + promoted
    ]
    if row is not None:
        assert (row.over, row.forced, row.reason) == ("transformer_lora", False, decision.reason)


def test_an_entry_that_forgot_is_refused(registry: ModelRegistry, evaluated: Evaluated) -> None:
    """A margin of minus one cannot be met: whatever falls by more than the margin is refused."""
    evaluated("transformer_lora", np.full(400, 0.5))
    strict = SETTINGS.model_copy(update={"forgetting_margin": -1.0})
    refused = gate(registry, strict).decide("transformer_lora")
    assert [(c.name, c.passed) for c in refused.checks][-1] == ("forgetting", False)
    assert "beyond the margin" in refused.reason


def test_an_entry_whose_merge_does_not_agree_is_refused(
    registry: ModelRegistry, evaluated: Evaluated
) -> None:
    evaluated("transformer_lora", np.full(400, 0.5))
    strict = LOOSE.model_copy(update={"parity_logprob": 0.0, "export_dtype": "bfloat16"})
    refused = gate(registry, strict).decide("transformer_lora")
    assert [(c.name, c.passed) for c in refused.checks][-1] == ("parity", False)

    record = registry.root / "models/base/transformer/SOURCE.json"
    held = json.loads(record.read_text()) | {"spread": True}
    record.unlink()
    record.write_text(json.dumps(held))
    passed = gate(registry, strict, again=True).decide("transformer_lora")  # it would never be merged
    assert [(c.name, c.passed) for c in passed.checks][-1] == ("parity", True)
    assert "held in 4 bits or on several devices" in passed.reason


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"random": True}, "random weights"), ({}, "add it to eval.entries and run `dvc repro eval`")],
)
def test_random_and_unevaluated_entries_are_refused(
    registry: ModelRegistry, changes: dict[str, Any], expected: str
) -> None:
    edit_entry(registry.root, "transformer_lora", **changes)
    decision = gate(registry).decide("transformer_lora")
    assert not decision.passed and expected in decision.reason


def test_an_entry_trained_after_its_evaluation_is_refused(
    registry: ModelRegistry, evaluated: Evaluated
) -> None:
    evaluated("transformer_lora", np.full(400, 0.5))

    def lock(md5: str) -> None:
        stages = {
            "train": {"outs": [{"path": "models/transformer_lora", "md5": md5}]},
            "eval@transformer_lora": {
                "deps": [{"path": "models/transformer_lora", "md5": "aa"}],
                "outs": [{"path": "reports/eval/transformer_lora", "md5": "cc"}],
            },
        }
        write_json(registry.root / "dvc.lock", {"schema": "2.0", "stages": stages})  # JSON is YAML

    lock("aa")
    sha256 = registry.get("transformer_lora").sha256
    assert stale_evaluation("transformer_lora", sha256, registry.root) is None
    lock("bb")
    decision = gate(registry).decide("transformer_lora")
    assert not decision.passed and "was trained again after its evaluation" in decision.reason
    assert stale_evaluation("other", sha256, registry.root) is None


def test_an_evaluation_of_another_adapter_is_refused_and_not_kept(
    registry: ModelRegistry, evaluated: Evaluated
) -> None:
    evaluated("transformer_lora", np.full(400, 0.5))
    write_entry(registry.root, "transformer_lora", seed=3)
    decision = gate(registry).decide("transformer_lora")
    assert [check.name for check in decision.checks] == ["entry"] and not decision.passed
    assert (
        "made of another adapter than models/transformer_lora holds; run `dvc repro eval`" in decision.reason
    )
    info = registry.get("transformer_lora")
    row = promote(registry.root, info.folder, info.sha256, "all the same", forced=True)
    assert row.reason.startswith("all the same (without its evaluation: ")
    kept = {path.name for path in (registry.root / "models/champion").iterdir()}
    assert "adapter_model.safetensors" in kept and not kept & {"predictions.jsonl", "calibration.json"}
    with pytest.raises(DataError, match="made of another adapter"):
        answers_of("champion", registry)


def test_an_evaluation_that_names_no_adapter_is_accepted(
    registry: ModelRegistry, evaluated: Evaluated
) -> None:
    """Files of older versions."""
    evaluated("transformer_lora", np.full(400, 0.5))
    path = registry.root / "reports/eval/transformer_lora/calibration.json"
    write_json(path, {k: v for k, v in json.loads(path.read_text()).items() if k != "adapter_sha256"})
    write_entry(registry.root, "transformer_lora", seed=3)
    info = registry.get("transformer_lora")
    assert stale_evaluation("transformer_lora", info.sha256, registry.root) is None
    promote(registry.root, info.folder, info.sha256, "first", forced=True)
    assert (registry.root / "models/champion/calibration.json").is_file()


def test_the_champion_outlives_a_new_training_of_its_name(
    registry: ModelRegistry, evaluated: Evaluated
) -> None:
    evaluated("transformer_lora", np.full(400, 0.9))
    info = registry.get("transformer_lora")
    promote(registry.root, info.folder, info.sha256, "first", forced=False)
    before = _logits("champion", registry.root)
    write_entry(registry.root, "transformer_lora", seed=3)
    evaluated("transformer_lora", np.full(400, 0.5))
    assert torch.equal(_logits("champion", registry.root), before)
    assert not torch.equal(_logits("transformer_lora", registry.root), before)
    assert not registry.get("transformer_lora").champion
    assert registry.list_models() == ["transformer_lora", "transformer"]  # the copy is no entry of its own
    decision = gate(registry).decide("transformer_lora")  # against the copy's answers, not its own
    assert not decision.passed and "token F1 -40.0 points" in decision.reason
    assert (registry.root / "models/champion/calibration.json").is_file()


def test_the_champion_is_not_promoted_twice(registry: ModelRegistry, evaluated: Evaluated) -> None:
    evaluated("transformer_lora", np.full(400, 0.5))
    info = registry.get("transformer_lora")
    promote(registry.root, info.folder, info.sha256, "first", forced=False)
    assert "is the champion already" in gate(registry).decide("transformer_lora").reason
    assert candidates(registry) == []


def test_a_champion_that_was_never_evaluated_can_be_evaluated_later(
    registry: ModelRegistry, evaluated: Evaluated
) -> None:
    with pytest.raises(DataError, match="there is no champion"):
        answers_of("champion", registry)
    info = registry.get("transformer_lora")
    promote(registry.root, info.folder, info.sha256, "a demonstration", forced=True)
    write_entry(registry.root, "rl_trained_lora", seed=2)
    evaluated("rl_trained_lora", np.full(400, 0.9))
    decision = gate(registry).decide("rl_trained_lora")
    assert [check.name for check in decision.checks] == ["entry", "forgetting", "parity", "better"]
    assert "data/index.json is missing" in decision.reason  # it must answer anew, and here there is no corpus
    assert not (registry.root / DECISIONS).exists()  # nothing was compared
    with pytest.raises(DataError, match="without an evaluation; add transformer_lora to"):
        answers_of("champion", registry)
    evaluated("transformer_lora", np.full(400, 0.5))
    assert len(answers_of("champion", registry)) == 400
    write_entry(registry.root, "transformer_lora", seed=3)
    with pytest.raises(DataError, match="its folder was written again since"):
        answers_of("champion", registry)


def test_candidates_come_by_development_figures(registry: ModelRegistry, evaluated: Evaluated) -> None:
    for name, value in (("a_lora", 0.2), ("b_lora", 0.6)):
        write_entry(registry.root, name)
        evaluated(name, np.full(4, 0.5))
        path = registry.root / f"metrics/eval_{name}.json"
        content = json.loads(path.read_text())
        content[f"eval_{name}"]["development"]["tuned_retrieval"]["f1_if_answered"] = value
        write_json(path, content)
    assert candidates(registry) == ["b_lora", "a_lora"]  # transformer_lora was not evaluated


def test_a_damaged_log_is_one_line(registry: ModelRegistry) -> None:
    write_json(registry.root / "models/champion.json", {"log": [{"entry": "x"}]})
    with pytest.raises(DataError, match=r"champion\.json is damaged \(log\.0\.adapter_sha256"):
        registry.champion()


def _logits(name: str, root: Path) -> torch.Tensor:
    model, _, _ = load_model(name, root, torch.float32, "cpu")
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    return found


def test_answers_of_different_engines_are_compared_and_that_is_said(
    registry: ModelRegistry, evaluated: Evaluated
) -> None:
    new, old = (scores[0] for scores in paired_scores(np.random.default_rng(4), 1, 0.08))
    evaluated("transformer_lora", old)
    champion = registry.get("transformer_lora")
    promote(registry.root, champion.folder, champion.sha256, "first", forced=False)
    write_entry(registry.root, "rl_trained_lora", seed=2)
    evaluated("rl_trained_lora", new)
    told = "these answers were not given by one engine (rl_trained_lora by openai/vllm, "
    assert "engine" not in gate(registry).decide("rl_trained_lora").reason
    path = registry.root / "reports/eval/rl_trained_lora/calibration.json"
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), "engine": "openai/vllm"})
    decision = gate(registry, again=True).decide("rl_trained_lora")
    assert f"{told}the champion transformer_lora by local)" in decision.reason
    table = compare_models("rl_trained_lora", "transformer_lora", registry.root)
    assert f"{told}transformer_lora by local)" in table
