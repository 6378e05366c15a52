"""No test is repeated, each candidate counts; RLHF's own entry; a champion that is gone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mark.errors import DataError
from mark.files import write_json, write_jsonl
from mark.registry import ModelRegistry
from mark.registry.champion import read_log
from mark.registry.comparison import answers_of
from mark.registry.gate import promote_if_better
from mark.registry.history import DECISIONS, questions_sha256, read_decisions
from mark.registry.promotion import promote, undo

from .conftest import Arrays, edit_entry, paired_scores, predictions, write_entry
from .test_gate import gate

Evaluated = Callable[..., None]


@pytest.fixture
def champion(registry: ModelRegistry, evaluated: Evaluated) -> ModelRegistry:
    """With transformer_lora promoted; its answers score one half."""
    evaluated("transformer_lora", np.full(400, 0.5))
    info = registry.get("transformer_lora")
    promote(registry.root, info.folder, info.sha256, "first", forced=False)
    return registry


def candidate(registry: ModelRegistry, evaluated: Evaluated, name: str, seed: int, scores: Arrays) -> str:
    write_entry(registry.root, name, seed=seed)
    evaluated(name, scores)
    return registry.get(name).sha256


def test_a_decision_is_repeated_and_not_tested_again(champion: ModelRegistry, evaluated: Evaluated) -> None:
    sha256 = candidate(champion, evaluated, "a_lora", 2, np.full(400, 0.5))
    first = gate(champion).decide("a_lora")
    (row,) = read_decisions(champion.root)
    assert (row.adapter_sha256, row.champion_sha256) == (sha256, champion.get("transformer_lora").sha256)
    assert (row.verdict, row.reason, row.test_sha256) == (
        "refused",
        first.reason,
        questions_sha256(answers_of("a_lora", champion)),
    )
    evaluated("a_lora", np.full(400, 0.9))  # better answers of the same adapter to the same questions
    second = gate(champion).decide("a_lora")
    assert [check.name for check in second.checks] == ["entry", "recorded"] and not second.passed
    assert first.reason in second.reason and "`--again` tests it once more" in second.reason
    assert len(read_decisions(champion.root)) == 1
    assert gate(champion, again=True).decide("a_lora").passed
    assert [row.verdict for row in read_decisions(champion.root)] == ["refused", "passed"]
    assert gate(champion).decide("a_lora").passed  # the last word is repeated


def test_new_questions_or_a_new_adapter_are_a_new_test(champion: ModelRegistry, evaluated: Evaluated) -> None:
    candidate(champion, evaluated, "a_lora", 2, np.full(400, 0.5))
    gate(champion).decide("a_lora")
    candidate(champion, evaluated, "a_lora", 3, np.full(400, 0.5))
    assert gate(champion).decide("a_lora").checks[-1].name == "better"
    candidate(champion, evaluated, "a_lora", 3, np.full(396, 0.5))
    assert gate(champion).decide("a_lora").checks[-1].name == "better"
    assert len(read_decisions(champion.root)) == 3


def test_each_candidate_widens_the_interval(champion: ModelRegistry, evaluated: Evaluated) -> None:
    """Bonferroni by hand: 95 % for the first, 97.5 % for the second, 98.33 % for the third."""
    widths = []
    new, _ = (scores[0] for scores in paired_scores(np.random.default_rng(4), 1, 0.0))
    for seed, level in ((2, "95 %"), (3, "97.5 %"), (4, "98.33 %")):
        candidate(champion, evaluated, f"c{seed}_lora", seed, new)
        reason = gate(champion).decide(f"c{seed}_lora").reason
        assert f"candidate {seed - 1} tried against this champion on this test, hence {level}" in reason
        low, high = reason.split(" points (")[1].split(")")[0].split(" to ")
        widths.append(float(high) - float(low))
    assert widths[0] < widths[1] <= widths[2]
    gate(champion, again=True).decide("c2_lora")
    assert "candidate 3 tried" in read_decisions(champion.root)[-1].reason  # the same one counts once


def test_a_gain_that_the_corrected_level_does_not_show_is_refused(
    champion: ModelRegistry, evaluated: Evaluated
) -> None:
    """A gain just beyond the 95 % interval passes as the first candidate and not as the fortieth."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0.0, 0.3, 400)
    noise -= noise.mean()
    scores = np.clip(0.5 + 0.035 + noise, 0, 1)
    candidate(champion, evaluated, "first_lora", 2, scores)
    assert gate(champion).decide("first_lora").checks[1].passed
    (row,) = read_decisions(champion.root)
    lines = [row.model_copy(update={"adapter_sha256": f"{i:064d}"}) for i in range(39)]
    write_jsonl(champion.root / DECISIONS, lines)
    decision = gate(champion).decide("first_lora")
    assert not decision.passed and "candidate 40 tried" in decision.reason


def test_without_a_champion_a_second_candidate_must_pass_the_corrected_level(
    registry: ModelRegistry, evaluated: Evaluated
) -> None:
    evaluated("transformer_lora", np.full(400, 0.5), verdict="cannot tell")
    gate(registry).decide("transformer_lora")
    candidate(registry, evaluated, "a_lora", 2, np.full(400, 0.9))
    refused = gate(registry).decide("a_lora")
    assert "no evaluation of a_lora holds answers of cell base_retrieval" in refused.reason
    base = [*predictions(np.full(400, 0.4), "base_retrieval"), *predictions(np.full(400, 0.5), "extractive")]
    path = registry.root / "reports/eval/a_lora/predictions.jsonl"
    write_jsonl(path, [*predictions(np.full(400, 0.9)), *base])
    passed = gate(registry).decide("a_lora")
    assert passed.passed and "candidate 2 tried against the baselines on this test" in passed.reason
    assert "over base + retrieval" in passed.reason and "over the best sentence" in passed.reason


def rlhf_entry(registry: ModelRegistry, evaluated: Evaluated, kept: str, f1: float) -> None:
    """An entry that RLHF made on transformer_lora, whose evaluation holds the base model's cells."""
    evaluated("transformer_lora", np.full(400, 0.5), verdict="cannot tell")
    base = [*predictions(np.full(400, 0.4), "base_retrieval"), *predictions(np.full(400, 0.5), "extractive")]
    path = registry.root / "reports/eval/transformer_lora/predictions.jsonl"
    write_jsonl(path, [*predictions(np.full(400, 0.5)), *base])
    write_entry(registry.root, "rl_trained_lora", seed=2)
    edit_entry(
        registry.root, "rl_trained_lora", sft="transformer_lora", sft_sha256="a" * 64, method="dpo", val_reward=0.25
    )  # fmt: skip
    evaluated("rl_trained_lora", np.full(400, f1), verdict="cannot tell")
    metrics = registry.root / "metrics/eval_rl_trained_lora.json"
    content = json.loads(metrics.read_text(encoding="utf-8"))
    for gains in content["eval_rl_trained_lora"]["gain"].values():
        gains.pop("over_base_retrieval", None)
    write_json(metrics, content)
    sha256 = registry.entry("rl_trained_lora").sha256
    report = {"kept": kept, "reason": "token F1 rose", "adapter_sha256": sha256}
    write_json(registry.root / "metrics/rlhf.json", {"rlhf": report})


@pytest.mark.parametrize(("f1", "passed"), [(0.9, True), (0.45, False)])
def test_an_entry_of_rlhf_is_judged_by_the_baselines_of_the_entry_it_started_from(
    registry: ModelRegistry, evaluated: Evaluated, f1: float, passed: bool
) -> None:
    """0.45 beats the base's 0.4, but not the best sentence's 0.5."""
    rlhf_entry(registry, evaluated, "rlhf", f1)
    decision = gate(registry).decide("rl_trained_lora")
    assert [check.name for check in decision.checks[:3]] == ["entry", "rlhf", "better"]
    assert decision.checks[2].passed == passed
    assert "token F1 rose" in decision.reason and "over the best sentence" in decision.reason
    assert len(answers_of("transformer", registry)) == 400  # the base's answers, though rl_... comes first


def test_an_entry_that_rlhf_did_not_keep_is_refused(registry: ModelRegistry, evaluated: Evaluated) -> None:
    rlhf_entry(registry, evaluated, "sft", 0.9)
    decision = gate(registry).decide("rl_trained_lora")
    assert [check.name for check in decision.checks] == ["entry", "rlhf"] and not decision.passed
    assert "RLHF's own comparison kept sft: token F1 rose" in decision.reason
    report = registry.root / "metrics/rlhf.json"
    write_json(report, {"rlhf": {"kept": "rlhf", "reason": "", "adapter_sha256": "b" * 64}})
    assert "about another training of it" in gate(registry).decide("rl_trained_lora").reason
    (registry.root / "metrics/rlhf.json").write_text("{}")
    assert "metrics/rlhf.json is damaged" in gate(registry).decide("rl_trained_lora").reason
    (registry.root / "metrics/rlhf.json").unlink()
    assert "run `dvc repro rlhf_report`" in gate(registry).decide("rl_trained_lora").reason
    edit_entry(registry.root, "rl_trained_lora", method="sft")
    assert "control arm" in gate(registry).decide("rl_trained_lora").reason


def test_a_champion_that_is_gone_is_no_reason_to_promote(
    champion: ModelRegistry, evaluated: Evaluated
) -> None:
    candidate(champion, evaluated, "a_lora", 2, np.full(400, 0.9))
    shutil.rmtree(champion.root / "models/champion")
    decision = gate(champion).decide("a_lora")  # models/transformer_lora still holds the champion's adapter
    assert decision.passed and "over the champion transformer_lora" in decision.reason
    write_entry(champion.root, "transformer_lora", seed=8)
    row, (decision,) = promote_if_better(gate(champion, again=True), ["a_lora"])
    assert row is None and "the champion transformer_lora is gone" in decision.reason
    assert "restore models/champion" in decision.reason and "--force --reason TEXT" in decision.reason


def test_a_damaged_line_is_named(champion: ModelRegistry, evaluated: Evaluated) -> None:
    candidate(champion, evaluated, "a_lora", 2, np.full(400, 0.9))
    (champion.root / DECISIONS).write_text("{}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"decisions\.jsonl, line 1: "):
        gate(champion).decide("a_lora")


def test_the_log_only_grows(champion: ModelRegistry, evaluated: Evaluated, project: Path) -> None:
    candidate(champion, evaluated, "a_lora", 2, np.full(400, 0.5))
    gate(champion).decide("a_lora")
    before = (project / DECISIONS).read_bytes()
    gate(champion, again=True).decide("a_lora")
    assert (project / DECISIONS).read_bytes().startswith(before)


def test_an_undone_promotion_brings_the_champion_before_back(
    champion: ModelRegistry, evaluated: Evaluated
) -> None:
    root = champion.root
    first = (root / "models/champion/adapter_model.safetensors").read_bytes()
    candidate(champion, evaluated, "a_lora", 2, np.full(400, 0.9))
    row, _ = promote_if_better(gate(champion), ["a_lora"])
    assert row is not None and (root / "models/champion/adapter_model.safetensors").read_bytes() != first
    write_entry(root, "transformer_lora", seed=8)  # the copy is all that is left of the first
    back = undo(root)
    assert (back.entry, back.over, back.undo) == ("transformer_lora", "a_lora", True)
    assert (root / "models/champion/adapter_model.safetensors").read_bytes() == first
    assert (root / "models/champion/predictions.jsonl").is_file()
    assert [item.entry for item in read_log(root)] == ["transformer_lora", "a_lora", "transformer_lora"]
    row, (decision,) = promote_if_better(gate(champion), ["a_lora"])
    assert row is None and "undone on " in decision.reason
    with pytest.raises(DataError, match="no earlier champion to bring back"):
        undo(root)
    row, _ = promote_if_better(gate(champion, again=True), ["a_lora"])
    assert row is not None and undo(root).entry == "transformer_lora"


def test_three_earlier_champions_are_kept(champion: ModelRegistry) -> None:
    hashes = [champion.get("transformer_lora").sha256]
    for seed in range(2, 7):
        folder = write_entry(champion.root, f"c{seed}_lora", seed=seed)
        hashes.append(champion.get(folder.name).sha256)
        promote(champion.root, folder, hashes[-1], "a try", forced=True)
    kept = {path.name for path in (champion.root / "models/champions").iterdir()}
    assert kept == {sha256[:12] for sha256 in hashes[-4:-1]}
    assert "champions" not in champion.list_models()
