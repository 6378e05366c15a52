"""The forgetting probe: its items, its numbers, and an adapter that wrecks the model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mark.models.loading import load_base, load_entry
from mark.registry import ModelRegistry
from mark.registry.probe import Forgetting, ProbeItem, load_probe, margins, measure_forgetting

from .conftest import write_entry


def test_items_are_distinct_and_of_like_length() -> None:
    items = load_probe()
    assert len(items) >= 40 and len({item.context for item in items}) == len(items)
    assert len({item.id for item in items}) == len(items)
    for item in items:
        assert item.right != item.wrong
        assert abs(len(item.right.split()) - len(item.wrong.split())) <= 1, item
    assert len({item.topic for item in items}) >= 8


@pytest.mark.parametrize("base", ["tiny_llama_dir", "tiny_mamba_dir"])
def test_margins_equal_one_sequence_at_a_time(base: str, request: pytest.FixtureRequest) -> None:
    model, tokenizer = load_base(request.getfixturevalue(base))
    items = load_probe()[:3]

    def logprob(context: str, answer: str) -> float:
        start = tokenizer(context)["input_ids"]
        ids = torch.tensor([start + tokenizer(f" {answer}")["input_ids"]])
        with torch.no_grad():
            steps = model(input_ids=ids).logits.log_softmax(-1)[0]
        values = [float(steps[i - 1, ids[0, i]]) for i in range(len(start), ids.shape[1])]
        return sum(values) / len(values)

    wanted = [logprob(item.context, item.right) - logprob(item.context, item.wrong) for item in items]
    assert margins(model, tokenizer, items) == pytest.approx(wanted, abs=1e-4)


def test_before_is_the_base_and_after_the_entry(project: Path) -> None:
    items = load_probe()
    base, tokenizer = load_base(project / "models/base/transformer")
    tuned, _ = load_entry(project / "models/transformer_lora")
    found = measure_forgetting(tuned, tokenizer, items)

    def share(model: Any) -> float:
        return sum(value > 0 for value in margins(model, tokenizer, items)) / len(items)

    assert (found.before, found.after) == (share(base), share(tuned))
    assert all(any(item.id == lost for item in items) for lost in found.lost)


def test_the_margin_is_a_share_of_the_items() -> None:
    found = Forgetting(items=40, before=0.9, after=0.85, lost=())
    assert found.passes(0.05) and not found.passes(0.04)
    assert "34 of 40 general sentences continued rightly, 36 by the base model" in found.sentence(0.05)
    assert "a fall of 5.0 points, within the margin of 5.0" in found.sentence(0.05)
    assert Forgetting(items=40, before=0.5, after=0.9, lost=()).passes(0.0)


def test_an_item_has_both_ends() -> None:
    with pytest.raises(ValueError):
        ProbeItem.model_validate({"id": "a", "topic": "t", "context": "c", "right": "r"})


@pytest.mark.long
def test_the_real_model_knows_most_and_a_wrecked_one_little(project: Path, smollm2_dir: Path) -> None:
    shutil.copytree(smollm2_dir, project / "models/base/smol")
    for name, scale in (("tame_lora", 0.0), ("wrecked_lora", 30.0)):
        write_entry(project, name, scale=scale, base="smol")
    found = {}
    for name in ("tame_lora", "wrecked_lora"):
        tuned, tokenizer = load_entry(ModelRegistry(project).get(name).folder)
        found[name] = measure_forgetting(tuned, tokenizer, load_probe())
    assert found["tame_lora"].before > 0.8 and found["tame_lora"].fall == 0.0
    assert not found["wrecked_lora"].passes(0.05)
