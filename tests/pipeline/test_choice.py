"""Who answers: named, champion, list, nobody; what is missing or broken is passed over."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from mark.config import Serve, load_section
from mark.errors import ModelError
from mark.files import sha256_file
from mark.models.source_file import base_sha256, read_source
from mark.pipeline.choice import Answerer, Limits, candidates, working

from .conftest import MakeRoot, promote

LISTED = ["mamba_lora", "transformer_lora", "rl_trained_lora", "mamba", "transformer"]


def chosen(root: Path, model: str | None = None) -> Answerer:
    serve = load_section(Serve, "serve", root / "params.yaml")
    return working(iter(candidates(serve, root, model)), root, Limits(1200, 6, 4), None)


def damage(root: Path, name: str, how: str) -> None:
    entry = root / "models" / name
    if how == "adapter cut":
        path = entry / "adapter_model.safetensors"
        path.write_bytes(path.read_bytes()[:100])
    elif how == "no adapter":
        (entry / "adapter_model.safetensors").unlink()
    elif how == "entry.json broken":
        (entry / "entry.json").write_text("{", encoding="utf-8")
    elif how == "other base":
        facts = json.loads((entry / "entry.json").read_text()) | {"base_sha256": "0" * 64}
        (entry / "entry.json").write_text(json.dumps(facts), encoding="utf-8")
    elif how == "no base":
        facts = json.loads((entry / "entry.json").read_text()) | {"base": "nobody"}
        (entry / "entry.json").write_text(json.dumps(facts), encoding="utf-8")
    elif how == "config broken":
        (entry / "adapter_config.json").write_text('{"peft_type": "NOPE"}', encoding="utf-8")
    elif how == "empty folder":
        shutil.rmtree(entry)
        entry.mkdir()


def test_the_list_is_the_runbooks_with_ours_in_it(make_root: MakeRoot) -> None:
    serve = load_section(Serve, "serve", make_root([]) / "params.yaml")
    assert (serve.policy, serve.priority) == ("auto", LISTED)


@pytest.mark.parametrize("first", range(len(LISTED)))
def test_the_first_that_is_there_answers(make_root: MakeRoot, first: int) -> None:
    there = [name for name in LISTED[first:]]
    if LISTED[first] == "mamba":
        there = ["mamba"]  # a base that the entries above it are not on
    answerer = chosen(make_root(there))
    assert (answerer.name, answerer.rule) == (LISTED[first], "priority")
    assert answerer.engine is not None


@pytest.mark.parametrize(
    "how",
    [
        "adapter cut",
        "no adapter",
        "entry.json broken",
        "other base",
        "no base",
        "config broken",
        "empty folder",
    ],
)
def test_a_damaged_entry_gives_way_to_the_next(
    make_root: MakeRoot, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_root(["transformer_lora", "rl_trained_lora"])
    damage(root, "transformer_lora", how)
    with caplog.at_level(logging.INFO, "mark.pipeline"):
        answerer = chosen(root)
    assert (answerer.name, answerer.rule) == ("rl_trained_lora", "priority")
    lines = [record.message for record in caplog.records]
    assert lines[0] == "mamba_lora is skipped: there is no such model"
    assert lines[1].startswith("transformer_lora is skipped: ") and "\n" not in lines[1]


def test_every_entry_damaged_leaves_the_base(make_root: MakeRoot) -> None:
    root = make_root(["mamba_lora", "transformer_lora", "rl_trained_lora"])
    for name, how in zip(LISTED[:3], ["adapter cut", "other base", "no adapter"], strict=True):
        damage(root, name, how)
    answerer = chosen(root)
    assert (answerer.name, answerer.rule) == ("transformer", "priority")
    assert answerer.sha256 == base_sha256(read_source(root / "models/base/transformer"))


def test_the_champion_comes_before_the_list(make_root: MakeRoot) -> None:
    root = make_root(["transformer_lora", "rl_trained_lora"])
    promote(root, "rl_trained_lora")
    answerer = chosen(root)
    assert (answerer.name, answerer.rule) == ("rl_trained_lora", "champion")
    assert answerer.sha256 == sha256_file(root / "models/rl_trained_lora/adapter_model.safetensors")


def test_policy_priority_passes_the_champion_over(make_root: MakeRoot) -> None:
    root = make_root(["transformer_lora", "rl_trained_lora"], policy="priority")
    promote(root, "rl_trained_lora")
    assert chosen(root).name == "transformer_lora"


def test_a_champion_that_is_gone_or_broken_gives_way_to_the_list(make_root: MakeRoot) -> None:
    root = make_root(["transformer_lora", "rl_trained_lora"])
    promote(root, "rl_trained_lora")
    damage(root, "rl_trained_lora", "adapter cut")
    assert (chosen(root).name, chosen(root).rule) == ("transformer_lora", "priority")
    promote(root, "nobody", "a" * 64)
    assert chosen(root).name == "transformer_lora"


def test_only_the_adapter_that_was_promoted_is_the_champion(
    make_root: MakeRoot, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a copy that was changed, nor what a later training wrote under the champion's name."""
    root = make_root(["transformer_lora", "rl_trained_lora"])
    promote(root, "rl_trained_lora", "a" * 64)
    with caplog.at_level(logging.WARNING, "mark.pipeline"):
        assert (chosen(root).name, chosen(root).rule) == ("transformer_lora", "priority")
    line = (
        "rl_trained_lora is skipped: models/rl_trained_lora holds another adapter than models/champion.json"
    )
    assert caplog.records[0].message.startswith(line)
    shutil.copytree(root / "models/rl_trained_lora", root / "models/champion")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "mark.pipeline"):
        assert chosen(root).rule == "priority"
    assert "models/champion holds another adapter" in caplog.records[0].message
    promote(root, "rl_trained_lora")
    (root / "models/champion/adapter_model.safetensors").write_bytes(b"other")
    assert (chosen(root).name, chosen(root).rule) == ("rl_trained_lora", "champion")  # its entry is unchanged


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"log": []}', '{"champion": null, "log": []}', '{"champion": 3}', '{"champion": "../x"}'],
)
def test_a_champion_file_that_names_none_is_no_obstacle(make_root: MakeRoot, content: str) -> None:
    root = make_root(["transformer_lora"])
    (root / "models/champion.json").write_text(content, encoding="utf-8")
    assert (chosen(root).name, chosen(root).rule) == ("transformer_lora", "priority")


def test_the_kept_copy_of_the_champion_answers(make_root: MakeRoot) -> None:
    """Its stage may have run again and have replaced the entry since it was promoted."""
    root = make_root(["transformer_lora"])
    promote(root, "transformer_lora")
    shutil.copytree(root / "models/transformer_lora", root / "models/champion")
    damage(root, "transformer_lora", "adapter cut")
    answerer = chosen(root)
    assert (answerer.name, answerer.rule) == ("transformer_lora", "champion")
    assert answerer.sha256 == sha256_file(root / "models/champion/adapter_model.safetensors")


def test_no_model_at_all_leaves_the_best_sentence(make_root: MakeRoot) -> None:
    answerer = chosen(make_root([]))
    assert (answerer.name, answerer.rule, answerer.engine) == ("extractive", "fallback", None)


def test_a_model_asked_for_by_name_is_that_one_or_an_error(make_root: MakeRoot) -> None:
    root = make_root(["transformer_lora", "transformer"])
    promote(root, "transformer_lora")
    assert (chosen(root, "transformer").name, chosen(root, "transformer").rule) == (
        "transformer",
        "asked_for",
    )
    assert chosen(root, "extractive").engine is None
    with pytest.raises(ModelError, match="no model named 'nobody'"):
        chosen(root, "nobody")
    with pytest.raises(ModelError, match="is no name of a model"):
        chosen(root, "../models/transformer_lora")
    damage(root, "transformer_lora", "adapter cut")
    with pytest.raises(ModelError, match="transformer_lora cannot be loaded"):
        chosen(root, "transformer_lora")
