"""Hydra's sweep syntax as a search space, and what may be searched for what."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from mark.commands.conf_groups import leaves
from mark.commands.tune.objective import check_comparable, choose_objective
from mark.commands.tune.request import told
from mark.commands.tune.space import parse_space
from mark.config import load_params
from mark.errors import ConfigError
from tests.conftest import ROOT

PARAMS = load_params(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("override", "expected", "size"),
    [
        ("train.lora.r=8,16", "train.lora.r: 8, 16", 2),
        (
            "train.lora.target_modules=auto,[q_proj,v_proj]",
            "train.lora.target_modules: auto, [q_proj,v_proj]",
            2,
        ),
        ("train.batch_size=range(1,6,2)", "train.batch_size: 1, 3, 5", 3),
        ("rlhf=dpo,kto", "rlhf: dpo, kto", 2),
        ("train.lora.r=int(interval(4,32))", "train.lora.r: 4 to 32", 29),
        ("train.learning_rate=interval(0,0.001)", "train.learning_rate: 0 to 0.001", math.inf),
        (
            "train.learning_rate=tag(log,interval(1e-4,1e-3))",
            "train.learning_rate: 0.0001 to 0.001, by its logarithm",
            math.inf,
        ),
    ],
)
def test_a_dimension(override: str, expected: str, size: float) -> None:
    space = parse_space(["train.epochs=2", override])
    assert [told(dimension) for dimension in space.dimensions] == [expected]
    assert space.fixed == ("train.epochs=2",) and space.size == size


def test_corners_show_each_value_once() -> None:
    space = parse_space(
        ["train.lora.r=8,16,32", "train.learning_rate=tag(log,interval(1e-4,1e-3))", "seed=3"]
    )
    assert space.corners() == [
        ["seed=3", "train.lora.r=8", "train.learning_rate=0.0001"],
        ["seed=3", "train.lora.r=16", "train.learning_rate=0.001"],
        ["seed=3", "train.lora.r=32", "train.learning_rate=0.0001"],
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.epochs=2"], "no key has several values"),
        (["a=="], "override not understood: a==; write train.lora.r=8,16"),
        (["train.lora.r=8,16", "train.lora.r=4,2"], "train.lora.r is searched twice"),
        (
            ["train.lora.r=4", "train.lora.r=8,16"],
            "train.lora.r is searched and has one value too (train.lora.r=4)",
        ),
        (["+train.x=1,2"], "only keys that are there can be set"),
        (["~train.lora"], "only keys that are there can be set"),
        (["train=glob(*)"], "DVC takes no glob"),
        (["train.learning_rate=tag(log,interval(0,1))"], "above 0 with log"),
        (["train.learning_rate=interval(2,1)"], "from a smaller to a larger number"),
    ],
)
def test_no_space(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_space(overrides)


def test_no_figure_of_the_test_questions_can_be_tuned() -> None:
    """Every key of the committed metrics: only development and RLHF's validation reward pass."""
    allowed, refused = set(), 0
    for name in ("eval_transformer_lora", "eval_rl_trained_lora", "rlhf", "compare"):
        for key in leaves(json.loads((ROOT / f"metrics/{name}.json").read_text())):
            for asked in (key, key.partition(".")[2]):  # with and without the file's own name
                try:
                    allowed.add(choose_objective(asked, PARAMS).name)
                except ConfigError:
                    refused += 1
    assert refused > 1000
    assert {key.removeprefix("eval_transformer_lora.").removeprefix("eval_rl_trained_lora.").rpartition(".")[0]
            for key in allowed} == {
        "development.base", "development.base_retrieval", "development.extractive", "development.tuned",
        "development.tuned_retrieval", "rlhf.val_reward",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"is measured on the test questions.*tune val_loss"):
        choose_objective("handwritten.tuned_retrieval.token_f1", PARAMS)


def test_where_a_figure_stands_and_which_stage_gives_it() -> None:
    loss = choose_objective("val_loss", PARAMS)
    assert (loss.target, loss.file, loss.minimize) == (
        "train",
        Path("models/transformer_lora/entry.json"),
        True,
    )
    short = choose_objective("development.tuned_retrieval.f1_if_answered", PARAMS)
    assert (short.target, short.minimize) == ("eval@transformer_lora", False)
    other = choose_objective("eval_rl_trained_lora.development.tuned.f1_if_answered", PARAMS)
    assert (other.target, other.file) == ("eval@rl_trained_lora", Path("metrics/eval_rl_trained_lora.json"))
    assert choose_objective("rlhf.val_reward.rlhf", PARAMS).target == "rlhf_report"
    with pytest.raises(ConfigError, match=r"x_lora is not evaluated; eval\.entries: transformer_lora"):
        choose_objective("eval_x_lora.development.tuned.f1_if_answered", PARAMS)


@pytest.mark.parametrize(
    ("objective", "key", "allowed"),
    [
        ("val_loss", "train.lora.r", True),
        ("val_loss", "train.max_seq_length", False),  # shortens the passages of the validation examples
        ("val_loss", "data_prep.max_samples", False),  # other validation examples
        ("val_loss", "model", False),  # other tokens
        ("val_loss", "seed", False),
        ("development.tuned_retrieval.f1_if_answered", "data_prep.distractors", True),
        ("development.tuned_retrieval.f1_if_answered", "ingest.chunk_tokens", True),
        ("development.tuned_retrieval.f1_if_answered", "eval.max_calibration", False),
        ("rlhf.val_reward.rlhf", "rlhf.learning_rate", True),
        ("rlhf.val_reward.rlhf", "rlhf.reward.quote", False),
        ("rlhf.val_reward.rlhf", "train.lora.r", False),
    ],
)
def test_what_changes_the_measure_is_not_searched(objective: str, key: str, allowed: bool) -> None:
    chosen = choose_objective(objective, PARAMS)
    if allowed:
        check_comparable(chosen, [key])
    else:
        with pytest.raises(ConfigError, match=f"{key} changes"):
            check_comparable(chosen, [key])
