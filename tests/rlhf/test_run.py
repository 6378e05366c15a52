"""Whole runs on a tiny model: entries, control arm, ledger, best checkpoint, resume, refusals."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mark.errors import DataError, GuardError
from mark.files import write_jsonl
from mark.models.loading import load_entry
from mark.rlhf import RlhfInputs, train_policy
from mark.rlhf.gathering import Gathering, offered_questions
from mark.rlhf.plan import plan_text
from mark.rlhf.policy import load_policy
from mark.rlhf.preferences import FromSamples, PreferenceLedger
from mark.rlhf.validation import Validation, ValidationCallback
from tests.rlhf.small import prediction, rlhf_settings
from tests.rlhf.test_feedback import row as inbox_row


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
    assert policy["best_step"] == max(rewards, key=lambda step: (rewards[step], -step))
    assert policy["val_reward"] == rewards[policy["best_step"]]
    kl = {r["step"]: r["value"] for r in curves if (r["arm"], r["metric"]) == ("rlhf", "val_kl")}
    assert kl[0] == 0.0 < kl[4]
    plotted = json.loads((inputs.plots / "rl_trained_lora.json").read_text())
    assert {row["step"]: row["val_reward"] for row in plotted} == rewards
    ledger = PreferenceLedger.model_validate_json((out / "ledger.json").read_text())
    ledger.check()
    assert (ledger.questions.asked, ledger.questions.left) == (
        4,
        2,
    )  # blocks of two, until four pairs are found
    assert (ledger.answers.sampled, ledger.pairs) == (8, 4)
    assert not list(inputs.checkpoints.glob("*"))
    assert str(inputs.data.parent) not in (out / "entry.json").read_text()
    for path in (*out.iterdir(), *control.iterdir()):  # off: no trace of a reward model
        assert b"reward_model" not in path.read_bytes()


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


@pytest.mark.parametrize(("after", "best"), [(0.1, 0), (0.5, 0), (0.9, 2)])
def test_no_checkpoint_that_is_worse_than_the_start_is_written(
    inputs: RlhfInputs, answers: None, monkeypatch: pytest.MonkeyPatch, after: float, best: int
) -> None:
    values = iter([0.5, after, after, after, after])  # the start, then two checkpoints of each arm
    monkeypatch.setattr(Validation, "reward", lambda *_: next(values))
    out = inputs.sft.parent / "rl_trained_lora"
    chosen = rlhf_settings(method="dpo", evaluations=2, max_steps=4)
    result = train_policy(inputs, chosen, 7, out, confirmed=True)
    assert next(values, None) is None
    assert [(e.best_step, e.val_reward) for e in (result.policy, result.control)] == [
        (best, max(0.5, after))
    ] * 2
    same = _bytes(out)["adapter_model.safetensors"] == _bytes(inputs.sft)["adapter_model.safetensors"]
    assert same == (best == 0)


def _unchanged(inputs: RlhfInputs, out: Path) -> dict[str, Any]:
    """The policy's record, once both entries are seen to be copies of the fine-tuned one."""
    kept = _bytes(inputs.sft)["adapter_model.safetensors"]
    for folder in (out, out.parent / "sft_continued_lora"):
        assert _bytes(folder)["adapter_model.safetensors"] == kept
        load_entry(folder)
        record: dict[str, Any] = json.loads((folder / "entry.json").read_text())
        assert (record["steps"], record["best_step"], record["examples"], record["val_kl"]) == (0, 0, 0, 0.0)
        assert record["val_reward"] == record["sft_val_reward"]
        curves = json.loads((folder / "curves.json").read_text())
        assert {(r["arm"], r["step"]) for r in curves} == {("rlhf", 0), ("sft_continued", 0)}
    start = {"step": 0, "val_reward": record["val_reward"], "val_kl": 0.0}
    assert json.loads((inputs.plots / f"{out.name}.json").read_text()) == [start]
    assert (out / "preferences.jsonl").is_file() and not list(inputs.checkpoints.glob("*"))
    policy: dict[str, Any] = json.loads((out / "entry.json").read_text())
    return policy


def test_without_a_preference_both_entries_are_copies_and_one_line_says_why(
    inputs: RlhfInputs, caplog: pytest.LogCaptureFixture
) -> None:
    out = inputs.sft.parent / "none"
    result = train_policy(inputs, rlhf_settings(), 7, out, confirmed=True)
    assert _unchanged(inputs, out)["pairs"] == 0
    result.ledger.check()
    counts = result.ledger.questions
    assert (counts.asked, counts.left, counts.paired) == (6, 0, 0)
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "RLHF trains nothing, both entries are copies of tiny_lora: 0 preferences of 6 questions "
        f"({counts.tied} tied, {counts.no_two_answers} without two different answers that end) are fewer than one step "
        "takes (2); raise rlhf.sampling.questions or rlhf.sampling.answers, or lower rlhf.sampling.min_gap"
    ]


@pytest.mark.parametrize(
    ("method", "changes", "pairs"),
    [
        ("dpo", {"max_pairs": 1}, 1),
        ("kto", {"max_pairs": 1, "batch_size": 3}, 1),
        ("grpo", {"max_pairs": 1}, 1),
    ],
)
def test_fewer_preferences_than_a_step_takes(
    inputs: RlhfInputs, answers: None, method: str, changes: dict[str, Any], pairs: int, caplog: Any
) -> None:
    out = inputs.sft.parent / f"few_{method}"
    train_policy(inputs, rlhf_settings(method=method, **changes), 7, out, confirmed=True)
    assert _unchanged(inputs, out)["pairs"] == pairs
    assert "fewer than one step takes" in caplog.text


def test_without_a_validation_question_nothing_is_asked(
    inputs: RlhfInputs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    shutil.copytree(inputs.data, data)
    write_jsonl(data / "val_sft.jsonl", [])
    out = inputs.sft.parent / "unvalidated"
    result = train_policy(replace(inputs, data=data), rlhf_settings(), 7, out, confirmed=True)
    _unchanged(inputs, out)
    assert (result.ledger.questions.asked, result.ledger.questions.left) == (0, 6)
    assert "no validation question to choose a checkpoint by; raise data_prep.max_val" in caplog.text


def test_sampling_that_was_killed_goes_on_with_the_same_answers(
    inputs: RlhfInputs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = rlhf_settings()
    drawn: dict[str, list[Any]] = {"whole": [], "broken": []}
    plain = Gathering._draw

    def gather(name: str, stop: int) -> FromSamples:
        def seen(self: Any, number: int, *rest: Any) -> Any:
            if number == stop:
                raise KeyboardInterrupt
            drawn[name].append(plain(self, number, *rest))
            return drawn[name][-1]

        monkeypatch.setattr(Gathering, "_draw", seen)
        (tmp_path / name).mkdir(exist_ok=True)
        model, tokenizer = load_policy(inputs.sft, torch.device("cpu"))
        gathering = Gathering(inputs, settings, 7, tmp_path / name, inputs.passages(), 600)
        offered = offered_questions(inputs.train(), settings, 7)
        return gathering._sampled(offered, 0, model, tokenizer)

    whole = gather("whole", -1)
    with pytest.raises(KeyboardInterrupt):
        gather("broken", 1)
    assert gather("broken", -1) == whole
    assert drawn["broken"] == drawn["whole"] and len(drawn["whole"]) == 3
    assert len({answer.ids for block in drawn["whole"] for rows in block for answer in rows}) > 6


def test_the_questions_are_those_of_all_documents_whenever_sampling_stops(inputs: RlhfInputs) -> None:
    rows = inputs.train()
    offered = offered_questions(rows, rlhf_settings(sampling={"questions": 14}), 7)
    assert sorted(r.example_id for r in offered) == sorted(r.example_id for r in rows)
    assert offered != rows and offered == offered_questions(
        rows, rlhf_settings(sampling={"questions": 14}), 7
    )


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


def test_validation_has_the_development_questions_with_what_eval_retrieved(
    inputs: RlhfInputs, tmp_path: Path
) -> None:
    shutil.copy(inputs.calibration, tmp_path)
    asked = [
        {
            "cell": "tuned_retrieval",
            "rule_id": "handwritten",
            "example_id": "dev-1",
            "contexts": ["c1", "c2"],
        },
        {"cell": "base_retrieval", "rule_id": "handwritten", "example_id": "dev-1", "contexts": []},
        {"cell": "tuned_retrieval", "rule_id": "shall", "example_id": "val-100", "contexts": ["c1"]},
    ]
    write_jsonl(tmp_path / "development.jsonl", [prediction(**row) for row in asked])
    found = replace(inputs, calibration=tmp_path / inputs.calibration.name)
    assert [row.example_id for row in found.validation()] == ["val-100", "val-101", "dev-1"]
    added = found.validation()[-1]
    assert (added.contexts, added.answers, added.kind) == (["c1", "c2"], ["six months"], "answerable")
    assert found.data_sha256() != inputs.data_sha256()
    write_jsonl(tmp_path / "development.jsonl", [prediction(cell="base_retrieval")])
    with pytest.raises(DataError, match=r"tuned_retrieval; put it into eval\.cells"):
        found.validation()
    (tmp_path / "development.jsonl").unlink()
    with pytest.raises(DataError, match=r"development\.jsonl is missing; run `dvc repro eval`"):
        found.check(rlhf_settings())


def test_accepted_feedback_about_a_test_question_is_dropped_again(inputs: RlhfInputs, tmp_path: Path) -> None:
    from mark.rlhf.inputs import held_out_questions
    from mark.rlhf.people import Human, from_people
    from tests.train.small import chunk, example

    asked = example(1, "test", [chunk(i) for i in range(20)]).model_copy(
        update={"question": "How soon must a breach be reported?"}
    )
    write_jsonl(tmp_path / "test_sft.jsonl", [asked])
    held_out = held_out_questions(tmp_path, tmp_path / "none.jsonl", None)
    rows = [inbox_row(1, question="How soon must a breach be reported??", edited="soon").accepted()]
    found = from_people("dpo", Human(rows, held_out, {}, lambda *_: True))
    assert found.pairs == [] and found.counts.test_question == 1
