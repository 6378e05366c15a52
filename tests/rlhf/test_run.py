"""Whole runs on a tiny model: entries, control arm, ledger, best checkpoint, resume, refusals."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import mark.rlhf.run as running
from mark.errors import DataError, GuardError
from mark.evaluation.calibration import Calibrations
from mark.files import write_json, write_jsonl
from mark.models.loading import load_entry
from mark.rlhf import RlhfInputs, train_policy
from mark.rlhf.plan import plan_text
from mark.rlhf.preferences import PreferenceLedger
from mark.rlhf.sampling import Sampled
from mark.rlhf.validation import ValidationCallback
from mark.train import train
from tests.rlhf.small import rlhf_settings
from tests.rlhf.test_feedback import row as inbox_row
from tests.train.small import make_inputs, settings


@pytest.fixture(scope="module")
def inputs(tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> RlhfInputs:
    """A project after eval: data, a fine-tuned entry, eval's calibration, accepted feedback."""
    root = tmp_path_factory.mktemp("project")
    source = make_inputs(root, tiny_llama_dir)
    train(source, settings(max_steps=2), 7, root / "models/tiny_lora", confirmed=True)
    for split in ("train", "val"):
        source_file = root / f"data/{split}.jsonl"
        source_file.rename(root / f"data/{split}_sft.jsonl")
    used = Calibrations(
        entry="tiny_lora", base="tiny", question_ids=["val-100", "val-101", "hw"], thresholds={}
    )
    write_json(root / "reports/eval/tiny_lora/calibration.json", used.model_dump())
    write_jsonl(root / "data/feedback_accepted.jsonl", [])
    return RlhfInputs(
        data=root / "data", sft=root / "models/tiny_lora", feedback=root / "data/feedback_accepted.jsonl",
        handwritten_test=root / "data/handwritten_test.jsonl",
        calibration=root / "reports/eval/tiny_lora/calibration.json", embedder=root / "models/embedder",
        checkpoints=root / ".ckpt", plots=root / "plots/train",
    )  # fmt: skip


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model ends no answer: one right and one empty word stand in for what it would sample."""

    def sampled(self: Any, model: Any, tokenizer: Any) -> Any:
        tasks = running.tasks_of(self.asked, self.chunks, tokenizer, self._prompt_tokens)
        return [(t, [Sampled((1,), t.golds[0], False), Sampled((1,), "none", False)]) for t in tasks]

    monkeypatch.setattr(running._Run, "_sampled", sampled)


def _bytes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_both_arms_become_entries(inputs: RlhfInputs, answers: None, tmp_path: Path) -> None:
    out = inputs.sft.parent / "rl_trained_lora"
    chosen = rlhf_settings(method="dpo", evaluations=2, max_steps=4)
    result = train_policy(inputs, chosen, 7, out, confirmed=True)
    control = out.parent / "sft_continued_lora"
    files = {"adapter_config.json", "adapter_model.safetensors", "curves.json", "entry.json", "tokenizer.json",
             "tokenizer_config.json"}  # fmt: skip
    assert {p.name for p in out.iterdir()} == files | {"ledger.json", "preferences.jsonl"}
    assert {p.name for p in control.iterdir()} == files
    for folder in (out, control):
        load_entry(folder)
    policy = json.loads((out / "entry.json").read_text())
    assert (policy["method"], policy["sft"], policy["pairs"], policy["steps"]) == ("dpo", "tiny_lora", 4, 4)
    assert json.loads((control / "entry.json").read_text())["steps"] == 4  # as many steps
    assert result.policy.sft_val_reward == result.control.sft_val_reward
    curves = json.loads((out / "curves.json").read_text())
    rewards = {r["step"]: r["value"] for r in curves if (r["arm"], r["metric"]) == ("rlhf", "val_reward")}
    assert sorted(rewards) == [0, 2, 4]
    assert policy["best_step"] == max([2, 4], key=lambda step: (rewards[step], -step))
    kl = {r["step"]: r["value"] for r in curves if (r["arm"], r["metric"]) == ("rlhf", "val_kl")}
    assert kl[0] == 0.0 < kl[4]
    plotted = json.loads((inputs.plots / "rl_trained_lora.json").read_text())
    assert {row["step"]: row["val_reward"] for row in plotted} == rewards
    ledger = PreferenceLedger.model_validate_json((out / "ledger.json").read_text())
    ledger.check()
    assert (ledger.questions.asked, ledger.answers.sampled, ledger.pairs) == (6, 12, 4)
    assert not list(inputs.checkpoints.glob("*"))
    assert str(inputs.data.parent) not in (out / "entry.json").read_text()


@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_a_run_that_was_killed_ends_the_same(
    inputs: RlhfInputs, answers: None, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = rlhf_settings(method=method, evaluations=2, max_steps=4, max_pairs=4)
    whole, broken = inputs.sft.parent / f"whole_{method}", inputs.sft.parent / f"broken_{method}"
    train_policy(inputs, chosen, 7, whole, confirmed=True)
    plain = ValidationCallback.on_step_end

    def killed(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt
        plain(self, args, state, control, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(ValidationCallback, "on_step_end", killed)
        for _ in range(2):  # goes on at step 2 and is killed again
            with pytest.raises(KeyboardInterrupt):
                train_policy(inputs, chosen, 7, broken, confirmed=True)
    assert [p.name for p in inputs.checkpoints.glob("*/rlhf/checkpoint-*")] == ["checkpoint-2"]
    train_policy(inputs, chosen, 7, broken, confirmed=True)
    first, second = _bytes(whole), _bytes(broken)
    entries = [json.loads((f / "entry.json").read_text()) for f in (whole, broken)]
    assert {**entries[0], "name": ""} == {**entries[1], "name": ""}
    del first["entry.json"], second["entry.json"]
    assert first == second


def test_no_preference_is_said_with_the_counts(inputs: RlhfInputs) -> None:
    with pytest.raises(DataError, match="no preference came of 6 questions"):
        train_policy(inputs, rlhf_settings(), 7, inputs.sft.parent / "none", confirmed=True)


@pytest.mark.parametrize(
    ("changes", "confirmed", "named"),
    [
        ({"dry_run": True}, True, "rlhf.dry_run: true"),
        ({"max_steps": 0}, True, "rlhf.max_steps: 0"),
        ({"max_steps": -1, "epochs": 0}, True, "rlhf.epochs: 0"),
        ({}, False, "--confirm-run"),
    ],
)
def test_guards(inputs: RlhfInputs, changes: dict[str, Any], confirmed: bool, named: str) -> None:
    with pytest.raises(GuardError, match=named):
        train_policy(inputs, rlhf_settings(**changes), 7, inputs.sft.parent / "x", confirmed=confirmed)


def test_setup_mode_blocks(inputs: RlhfInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK_SETUP_MODE", "1")
    with pytest.raises(GuardError, match="MARK_SETUP_MODE=1"):
        train_policy(inputs, rlhf_settings(), 7, inputs.sft.parent / "x", confirmed=True)


def test_the_plan_trains_nothing(inputs: RlhfInputs) -> None:
    text = plan_text(inputs, rlhf_settings(dry_run=True), inputs.sft.parent / "planned")
    assert "dpo, from" in text and text.endswith(
        "RLHF is guarded by rlhf.dry_run: true; set it to false to train."
    )
    assert not (inputs.sft.parent / "planned").exists()


def test_validation_questions_are_those_that_eval_used(inputs: RlhfInputs) -> None:
    assert [row.example_id for row in inputs.validation()] == ["val-100", "val-101"]


def test_accepted_feedback_about_a_test_question_is_dropped_again(inputs: RlhfInputs, tmp_path: Path) -> None:
    from mark.rlhf.inputs import held_out_questions
    from mark.rlhf.preferences import Human, build_preferences
    from tests.train.small import chunk, example

    asked = example(1, "test", [chunk(i) for i in range(20)]).model_copy(
        update={"question": "How soon must a breach be reported?"}
    )
    write_jsonl(tmp_path / "test_sft.jsonl", [asked])
    held_out = held_out_questions(tmp_path, tmp_path / "none.jsonl", None)
    rows = [inbox_row(1, question="How soon must a breach be reported??", edited="soon").accepted()]
    chosen = rlhf_settings()
    found = build_preferences(
        "dpo", [], Human(rows, held_out, {}, lambda *_: True), (chosen.sampling, chosen.reward, 9), 1
    )
    assert found.pairs == [] and found.ledger.human.test_question == 1
