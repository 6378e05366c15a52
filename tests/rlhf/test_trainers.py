"""Each trainer of TRL's for two steps on a tiny Llama and on a tiny Mamba, from a fine-tuned adapter."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mark.prompting import answer_ids
from mark.rlhf.policy import (
    REFERENCE,
    add_reference,
    as_reference,
    deployed,
    divergence,
    evaluating,
    load_policy,
)
from mark.rlhf.preferences import Pair, Rated
from mark.rlhf.sampling import Sampler
from mark.rlhf.schedule import GroupSampler, Steps
from mark.rlhf.trainers import Setup, build_trainer
from mark.train.checkpoints import is_complete
from tests.rlhf.small import make_entry, rlhf_settings, short_tasks

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def entries(
    tiny_llama_dir: Path, tiny_mamba_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    return {
        name: make_entry(tmp_path_factory.mktemp(name), folder, name)
        for name, folder in (("llama", tiny_llama_dir), ("mamba", tiny_mamba_dir))
    }


def trained(entry: Path, method: str, folder: Path, bf16: bool = False, **changes: Any) -> tuple[Any, Any]:
    """A finished trainer of two steps and the weights that it started from."""
    model, tokenizer = load_policy(entry, CPU)
    tasks = short_tasks(tokenizer)
    settings = rlhf_settings(method=method, **changes)
    rows: Any = tasks
    if method == "dpo":
        rows = [(t, Pair(id=t.id, origin="sampled", question=t.question, contexts=[], chosen="one", rejected="not two",
                         gap=1.0)) for t in tasks]  # fmt: skip
    if method == "kto":
        rows = [(t, Rated(id=t.id, origin="sampled", question=t.question, contexts=[], answer=f"a{i}", good=i % 2 == 0))
                for i, t in enumerate(tasks)]  # fmt: skip
    setup = Setup(
        model, tokenizer, settings, Steps.of(settings, len(rows)), folder, 3, bf16=bf16, use_cpu=True
    )
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trainer = build_trainer(setup, rows, lambda answers: [sum(map(ord, a.text)) % 7 / 7 for a in answers])
    assert {n for n, w in model.named_parameters() if w.requires_grad} == {
        n for n in before if ".default." in n
    }
    trainer.train()
    return trainer, before


@pytest.mark.parametrize("method", ["dpo", "kto", "grpo", "rloo"])
@pytest.mark.parametrize("architecture", ["llama", "mamba"])
def test_two_steps_move_every_b_and_nothing_else(
    entries: dict[str, Path], architecture: str, method: str, tmp_path: Path
) -> None:
    trainer, before = trained(entries[architecture], method, tmp_path)
    assert trainer.state.global_step == 2
    after = dict(trainer.model.named_parameters())
    matrices = [name for name in before if "lora_B" in name]
    assert matrices
    assert [name for name in matrices if torch.equal(before[name], after[name])] == []
    assert [n for n in before if "lora_" not in n and not torch.equal(before[n], after[n])] == []
    for name in before:  # the reference is the adapter that training started from
        if ".default." in name:
            reference = after[name.replace(".default.", f".{REFERENCE}.")]
            assert torch.equal(reference, before[name]) and not reference.requires_grad
    assert trainer.meter.tokens > 0
    ids = torch.tensor([short_tasks(trainer.processing_class, 1)[0].prompt_ids])
    with torch.no_grad():  # a trainer may have laid its own forward over the model
        ours = trainer.model.eval()(input_ids=ids).logits
        copied = deployed(trainer.model, torch.float32)(input_ids=ids).logits
        with as_reference(trainer.model):
            reference = deployed(trainer.model, torch.float32)(input_ids=ids).logits
    assert torch.allclose(ours, copied, atol=1e-4) and not torch.allclose(reference, copied, atol=1e-4)
    if method == "dpo":  # policy = reference at first: -log sigmoid(0) = log 2, and then it falls
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        assert losses[0] == pytest.approx(math.log(2), abs=1e-5) and losses[1] < losses[0]


def test_a_checkpoint_is_marked_complete_and_holds_the_adapter_alone(
    entries: dict[str, Path], tmp_path: Path
) -> None:
    trainer, _ = trained(entries["llama"], "dpo", tmp_path)
    trainer._save_checkpoint(trainer.model, None)
    folder = tmp_path / "checkpoint-2"
    assert is_complete(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]  # TRL's model card is not written
    stored = load_file(folder / "adapter_model.safetensors")
    assert {name.split(".lora_")[1] for name in stored} == {"A.weight", "B.weight"}


@pytest.mark.parametrize("architecture", ["llama", "mamba"])
def test_divergence_is_zero_at_first_and_grows(entries: dict[str, Path], architecture: str) -> None:
    model, tokenizer = load_policy(entries[architecture], CPU)
    add_reference(model)
    prompts = [task.prompt_ids for task in short_tasks(tokenizer, 2)]

    def measured() -> float:
        answering = deployed(model, torch.float32)
        drawn = [answer for (answer,) in Sampler(1.0, 6, 4, seed=1).draw(answering, tokenizer, prompts)]
        with evaluating(model):
            return divergence(model, lambda: as_reference(model), prompts, drawn, tokenizer.eos_token_id)

    assert measured() == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".default." in name:
                weight.mul_(3.0)
    moved = measured()
    assert moved > 1e-4
    assert measured() == moved  # the same samples each time


def test_only_answers_are_projected_onto_the_vocabulary(
    entries: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl.trainer import utils

    rows: list[int] = []
    plain = utils._ChunkedLogProbFunction.apply

    def seen(hidden: Any, *rest: Any) -> Any:
        rows.append(len(hidden))
        return plain(hidden, *rest)

    monkeypatch.setattr(utils._ChunkedLogProbFunction, "apply", seen)
    trainer, _ = trained(entries["llama"], "dpo", tmp_path)
    answers = sum(len(answer_ids(trainer.processing_class, text)) for text in ("one", "not two"))
    assert rows == [2 * answers] * 4  # two pairs a step: policy and reference, two steps


def test_rpo_alpha_adds_the_loss_of_the_better_answers(entries: dict[str, Path], tmp_path: Path) -> None:
    model, tokenizer = load_policy(entries["llama"], CPU)
    losses = []
    with torch.no_grad():
        for task in short_tasks(tokenizer):
            answer = answer_ids(tokenizer, "one")
            ids = torch.tensor([[*task.prompt_ids, *answer]])
            logits = model.eval()(ids).logits[0, -len(answer) - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(answer)).item())
    for alpha in (0.0, 2.0):
        folder = tmp_path / str(alpha)
        trainer, _ = trained(entries["llama"], "dpo", folder, rpo_alpha=alpha, max_steps=1, batch_size=4)
        (first,) = (row["loss"] for row in trainer.state.log_history if "loss" in row)
        expected = math.log(2) + alpha * sum(losses) / len(
            losses
        )  # the same answer for all: the mean of means
        assert first == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("architecture", ["llama", "mamba"])
def test_the_deployed_copy_answers_as_the_policy_and_leaves_it_trainable(
    entries: dict[str, Path], architecture: str
) -> None:
    model, tokenizer = load_policy(entries[architecture], CPU)
    add_reference(model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".default." in name:
                weight.mul_(3.0)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    ids = torch.tensor([short_tasks(tokenizer, 1)[0].prompt_ids])
    copy = deployed(model, torch.float32)
    with torch.no_grad():
        ours, copied = model.eval()(ids).logits, copy(ids).logits
        with as_reference(model):
            reference = deployed(model, torch.float32)(ids).logits
    assert torch.allclose(ours, copied, atol=1e-4)
    assert not torch.allclose(reference, copied, atol=1e-4)
    assert not any("lora" in name for name, _ in copy.named_parameters())
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert any(weight.requires_grad for weight in after.values())


def test_rounding_of_a_trainer_in_bfloat16_is_no_divergence(entries: dict[str, Path], tmp_path: Path) -> None:
    trainer, _ = trained(entries["llama"], "dpo", tmp_path, bf16=True)
    model, eos = trainer.model, trainer.processing_class.eos_token_id
    prompts = [task.prompt_ids for task in short_tasks(trainer.processing_class, 4)]
    policy = deployed(model, torch.float32)
    with as_reference(model):
        reference = deployed(model, torch.float32)
    drawn = [one for (one,) in Sampler(1.0, 6, 4, seed=1).draw(policy, trainer.processing_class, prompts)]
    expected = divergence(policy, lambda: nullcontext(reference), prompts, drawn, eos)
    with evaluating(model):
        assert divergence(model, lambda: as_reference(model), prompts, drawn, eos) == pytest.approx(
            expected, rel=1e-3
        )


def test_samples_depend_on_the_seed_and_know_whether_they_end(entries: dict[str, Path]) -> None:
    model, tokenizer = load_policy(entries["llama"], CPU)
    model.eval()
    prompts = [task.prompt_ids for task in short_tasks(tokenizer, 3)]
    draws = [Sampler(1.0, 5, 4, seed).draw(model, tokenizer, prompts, 2) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert [len(answers) for answers in draws[0]] == [2, 2, 2]
    for answer in (a for answers in draws[0] for a in answers):
        assert tokenizer.eos_token_id not in answer.ids
        assert answer.truncated == (len(answer.ids) == 5)


def test_steps_take_whole_groups_and_the_order_repeats_after_a_resume() -> None:
    settings = rlhf_settings(
        max_steps=-1, epochs=2, batch_size=2, gradient_accumulation_steps=2, evaluations=3
    )
    steps = Steps.of(settings, 13)  # 3 groups of 4 an epoch, 6 steps, every 2nd
    assert (steps.steps, steps.steps_per_epoch, steps.every) == (6, 3, 2)
    assert [s for s in range(1, 7) if steps.evaluates(s)] == [2, 4, 6]
    order = GroupSampler(5, 2, seed=1, answers=3, repeats=2)
    rows = list(order)
    assert len(rows) == len(order) == 2 * 2 * 3 * 2  # the fifth row is left out
    assert rows[0:3] == [rows[0]] * 3 and rows[:6] == rows[6:12]
    order.set_epoch(1)
    again = GroupSampler(5, 2, seed=1, answers=3, repeats=2)
    again.set_epoch(1)
    assert list(order) == list(again) != rows
