"""The reward model: split, training, what is kept of it, when it is used, and that a killed run ends the same."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mark.config import Train
from mark.errors import ModelError
from mark.evaluation.significance import Interval
from mark.models.loading import entry_base
from mark.records import Chunk, Example
from mark.rlhf import RlhfInputs, train_policy
from mark.rlhf.arms import Arms
from mark.rlhf.plan import plan_text
from mark.rlhf.preferences import (
    FromPeople,
    FromSamples,
    Pair,
    Preferences,
    QuestionCounts,
    build_preferences,
)
from mark.rlhf.reward_model import LearnedReward, Scorer, check_architecture, new_reward_model
from mark.rlhf.reward_record import RewardModelRecord, usable
from mark.rlhf.reward_split import clusters_of, hold_out
from mark.rlhf.reward_training import train_reward_model
from mark.rlhf.sampling import Answered
from mark.rlhf.schedule import Steps
from mark.rlhf.trainers import Setup, build_reward_trainer
from mark.rlhf.validation import Validation, ValidationCallback
from tests.rlhf.small import make_entry, rlhf_settings, short_tasks
from tests.train.small import chunk, example

CPU = torch.device("cpu")
SHORT = {"enabled": True, "min_pairs": 8, "held_out_share": 0.3, "min_clusters": 2, "epochs": 2, "batch_size": 2,
         "gradient_accumulation_steps": 1, "learning_rate": 0.01}  # fmt: skip


def pair(number: int, chosen: str = "yes", rejected: str = "no", question: str | None = None) -> Pair:
    """A preference about passage `number`."""
    return Pair(
        id=f"train-{number}", origin="sampled", question=question or f"What is {number}?",
        contexts=[chunk(number).chunk_id], chosen=chosen, rejected=rejected, gap=1.0,
    )  # fmt: skip


def gathered(pairs: list[Pair]) -> Preferences:
    """The preferences of a run with these pairs alone."""
    counts = QuestionCounts(asked=len(pairs), paired=len(pairs))
    return build_preferences("dpo", FromSamples(pairs=pairs, questions=counts), FromPeople(), len(pairs), 7)


@pytest.fixture
def arms(inputs: RlhfInputs, tmp_path: Path) -> Callable[..., Arms]:
    """Arms of a run that has only its reward model to train."""

    def made(**changes: Any) -> Arms:
        settings = rlhf_settings(method="grpo", evaluations=2, reward_model=SHORT | changes)
        validation = Validation([], [], settings.reward, 700, 8, 8, 7)
        train = Train.model_validate(inputs.sft_record["params"])
        (tmp_path / "run/reward_model").mkdir(parents=True, exist_ok=True)
        return Arms(
            inputs=inputs, settings=settings, train=train, seed=7, folder=tmp_path / "run", chunks=inputs.passages(),
            validation=validation, start=0.0, device=CPU, bf16=False, steps=Steps(2, 2, 1),
        )  # fmt: skip

    return made


def test_preferences_of_one_question_are_never_apart() -> None:
    chunks = {c.chunk_id: c for c in (chunk(i) for i in range(20))}
    examples = [example(i, "train", list(chunks.values())) for i in range(3)]
    pairs = [pair(0), pair(1), pair(30, question="WHAT is  0?"), pair(2)]
    names = clusters_of(pairs[:2] + pairs[3:], examples, chunks, 0.25, 2)
    assert names == ["acts > Article 0", "acts > Article 1", "acts > Article 2"]  # one document: sections
    found = clusters_of([*pairs, pair(5).model_copy(update={"id": "by a person"})], examples, chunks, 0.25, 2)
    assert found[2] == found[0]  # asked again, in other letters, about another passage
    assert found[4] == "acts > Article 5"  # of its first passage


def test_documents_are_the_clusters_where_enough_of_them_are_held_out() -> None:
    chunks: dict[str, Chunk] = {
        c.chunk_id: c.model_copy(update={"document": f"d{i}"}) for i, c in enumerate(map(chunk, range(8)))
    }
    none: list[Example] = []
    pairs = [pair(i) for i in range(8)]
    assert clusters_of(pairs, none, chunks, 0.25, 2) == [f"d{i}" for i in range(8)]
    assert clusters_of(pairs, none, chunks, 0.25, 3)[0] == "d0 > Article 0"  # 3 of a quarter take 12


def test_whole_clusters_are_held_out_and_the_seed_decides() -> None:
    clusters = [f"c{i // 2}" for i in range(20)] + ["large"] * 30
    held = hold_out(clusters, 0.2, 7)
    assert 10 <= sum(held) <= 11  # a fifth of 50, by twos; "large" would more than double it
    for name in set(clusters):
        assert len({out for cluster, out in zip(clusters, held, strict=True) if cluster == name}) == 1
    assert not held[-1]
    assert held == hold_out(clusters, 0.2, 7) and held != hold_out(clusters, 0.2, 8)


@pytest.mark.parametrize(("low", "used"), [(0.5, False), (0.51, True)])
def test_it_is_used_only_where_it_is_shown_to_beat_guessing(low: float, used: bool) -> None:
    found, reason = usable(Interval(0.7, low, 0.9), 40)
    assert found == used
    assert ("not shown to be more than guessing" in reason) != used
    assert "70.0 % (50 to 90)" in reason or "70.0 % (51 to 90)" in reason


def test_two_steps_move_head_and_adapter_and_nothing_else(
    tiny_llama_dir: Path, inputs: RlhfInputs, tmp_path: Path
) -> None:
    base = entry_base(make_entry(tmp_path, tiny_llama_dir, "llama"))
    lora = Train.model_validate(inputs.sft_record["params"]).lora
    model, tokenizer = new_reward_model(base, lora, 3, CPU)
    assert model.config.num_labels == 1 and model.config.pad_token_id == tokenizer.pad_token_id is not None
    settings = rlhf_settings(method="grpo", max_steps=-1, epochs=1)
    rows = [(task, pair(i)) for i, task in enumerate(short_tasks(tokenizer))]
    steps = Steps.of(settings, len(rows))
    setup = Setup(model, tokenizer, settings, steps, tmp_path / "c", 3, bf16=False, use_cpu=True)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trainer = build_reward_trainer(setup, rows)
    trainer.train()
    assert trainer.state.global_step == steps.steps == 2
    moved = {n for n, w in model.named_parameters() if not torch.equal(before[n], w)}
    assert {n for n in before if "lora_B" in n or "score.modules_to_save" in n} <= moved
    assert [n for n in moved if "lora_" not in n and "score.modules_to_save" not in n] == []
    again, _ = new_reward_model(base, lora, 3, CPU)
    assert all(torch.equal(before[name], weight) for name, weight in again.named_parameters())


def test_separable_preferences_are_learnt_and_the_score_is_bounded(arms: Callable[..., Arms]) -> None:
    run = arms()
    made = train_reward_model(run, gathered([pair(i) for i in range(20)]))
    record = made.record
    assert (record.used, record.accuracy, record.accuracy_low) == (True, 1.0, 1.0)
    assert (record.pairs, record.trained_on, record.held_out, record.held_out_clusters) == (20, 14, 6, 6)
    assert record.steps == 14  # two epochs of seven
    assert record.reason == "it ranks 100.0 % (100 to 100) of 6 held-out preferences right"
    learned = made.load(run)
    assert learned is not None
    task = replace(short_tasks(learned.scorer.tokenizer, 1)[0], prompt_ids=tuple(range(5, 20)))
    yes, no, cut_off, odd = learned(
        [Answered(task, "yes", False), Answered(task, "no", False), Answered(task, "yes", True),
         Answered(task, "yes " * 50, False)]
    )  # fmt: skip
    assert no < yes and cut_off == -0.5
    assert all(abs(value) <= 0.5 for value in (yes, no, odd))
    far = LearnedReward(learned.scorer, record.model_copy(update={"centre": -1e9}), learned.settings)
    assert far([Answered(task, "yes", False)]) == [0.5]


def test_answers_that_are_drawn_by_lot_teach_nothing(
    arms: Callable[..., Arms], caplog: pytest.LogCaptureFixture
) -> None:
    lot = random.Random(3)
    pairs = [pair(i, *lot.sample(["yes", "no"], 2)) for i in range(20)]
    run = arms(held_out_share=0.5)
    made = train_reward_model(run, gathered(pairs))
    assert made.record.accuracy is not None and made.record.accuracy_low is not None
    assert not made.record.used and made.record.accuracy_low <= 0.5
    assert made.load(run) is None
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        f"the reward model is not used: {made.record.reason}"
    ]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"min_pairs": 11}, "10 preferences are fewer than rlhf.reward_model.min_pairs (11)"),
        ({"min_clusters": 4}, "3 documents or sections are held out, fewer than rlhf.reward_model.min_clusters (4)"),
        ({"batch_size": 8}, "7 preferences are left to train on, fewer than one step takes (8)"),
    ],
)  # fmt: skip
def test_too_few_preferences_train_nothing(
    arms: Callable[..., Arms], changes: dict[str, int], why: str, tmp_path: Path
) -> None:
    made = train_reward_model(arms(**changes), gathered([pair(i) for i in range(10)]))
    assert not made.record.used and made.record.reason.startswith(why + "; ")
    assert made.record.accuracy is None and made.record.steps == 0
    made.write(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["preferences.jsonl"]


def test_a_mamba_base_is_refused_before_anything_is_loaded(
    tiny_mamba_dir: Path, inputs: RlhfInputs, tmp_path: Path
) -> None:
    check_architecture("llama")
    entry = make_entry(tmp_path, tiny_mamba_dir, "mamba")
    settings = rlhf_settings(method="grpo", reward_model={"enabled": True})
    wanted = (
        r"^rlhf.reward_model.enabled: a mamba base cannot be a reward model .*; take model=transformer, or "
    )
    with pytest.raises(ModelError, match=wanted):
        train_policy(replace(inputs, sft=entry), settings, 7, tmp_path / "out", confirmed=True)
    with pytest.raises(ModelError, match=wanted):
        plan_text(replace(inputs, sft=entry), settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _bytes(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def _wholes() -> dict[str, dict[str, str]]:
    """The bytes of the run that nobody killed, once it was made."""
    return {}


@pytest.mark.parametrize("killed_in", ["training", "rlhf"])
def test_a_run_with_a_reward_model_that_was_killed_ends_the_same(
    inputs: RlhfInputs, answers: None, monkeypatch: pytest.MonkeyPatch, killed_in: str, _wholes: Any
) -> None:
    own = SHORT | {"epochs": 0.5, "batch_size": 1}
    settings = rlhf_settings(
        method="grpo", evaluations=2, max_steps=4, max_pairs=14, sampling={"questions": 14}, reward_model=own
    )
    out = inputs.sft.parent / "rl_trained_lora"
    if not _wholes:
        train_policy(inputs, settings, 7, out, confirmed=True)
        _wholes |= _bytes(out)
        _check_kept(inputs, out)
    plain = ValidationCallback.on_step_end

    def killed(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == 4 and Path(args.output_dir).name == killed_in:
            raise KeyboardInterrupt
        plain(self, args, state, control, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(ValidationCallback, "on_step_end", killed)
        with pytest.raises(KeyboardInterrupt):
            train_policy(inputs, settings, 7, out, confirmed=True)
    assert [p.parent.name for p in inputs.checkpoints.rglob("checkpoint-[0-9]*")][-1] == killed_in
    train_policy(inputs, settings, 7, out, confirmed=True)
    assert _bytes(out) == _wholes


def _check_kept(inputs: RlhfInputs, out: Path) -> None:
    """What a policy with a reward model leaves."""
    kept = out / "reward_model"
    assert {path.suffix for path in kept.iterdir()} == {".safetensors", ".json", ".jsonl"}  # never pickle
    assert str(inputs.data.parent) not in "".join(p.read_text() for p in kept.glob("*.json*"))
    stored = load_file(kept / "adapter_model.safetensors")
    assert any("score" in name for name in stored) and any("lora_B" in name for name in stored)
    policy = json.loads((out / "entry.json").read_text())
    record = RewardModelRecord.model_validate(policy["reward_model"])
    assert record.pairs == len((kept / "preferences.jsonl").read_text().splitlines()) >= 8
    assert record.preferences is not None and record.preferences.method == "dpo"
    assert policy["params"]["reward_model"]["enabled"] and record.used
    ledger = json.loads((out / "ledger.json").read_text())
    assert (ledger["method"], ledger["pairs"], policy["pairs"]) == ("grpo", 0, 14)
    scorer = Scorer.load(kept, entry_base(inputs.sft), CPU, 4)
    task = short_tasks(scorer.tokenizer, 1)[0]
    assert scorer.scores([(task, "yes"), (task, "no")]) == scorer.scores([(task, "yes"), (task, "no")])
