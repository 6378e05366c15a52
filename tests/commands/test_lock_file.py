"""Whether what a commit holds of a stage belongs to its settings."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from dvc.utils.serialize import dumps_yaml

from mark.commands.lock_file import is_current, out_md5, read_lock
from mark.errors import DataError

LOCK = """
schema: '2.0'
stages:
  data_prep:
    deps: [{path: data/chunks.jsonl, md5: c1}]
    params: {params.yaml: {data_prep: {max_samples: 9}}}
    outs: [{path: data/train_sft.jsonl, md5: d1}]
  train:
    deps: [{path: data/train_sft.jsonl, md5: d1}, {path: mark/train, md5: x.dir}]
    params: {params.yaml: {model.name: random, train: {lora: {r: 4}}}}
    outs: [{path: models/random_lora, md5: m1.dir}]
  eval@random_lora:
    deps: [{path: models/random_lora, md5: m1.dir}]
    outs: [{path: reports/eval/random_lora, md5: e1.dir}]
"""
PARAMS = {"data_prep": {"max_samples": 9}, "model": {"name": "random"}, "train": {"lora": {"r": 4}}}


def test_a_whole_run_is_current() -> None:
    stages = read_lock(LOCK)
    assert all(is_current(stage, stages, PARAMS) for stage in stages)
    assert out_md5("models/random_lora", stages) == "m1.dir" and out_md5("models/x", stages) is None
    assert not is_current("rlhf", stages, PARAMS) and not is_current("train", read_lock(""), PARAMS)


def test_a_small_number_is_one() -> None:
    params = {"train": {"learning_rate": 1e-05, "scheduler": "no"}}
    text = dumps_yaml({"stages": {"train": {"params": {"params.yaml": params}}}})  # as DVC writes dvc.lock
    assert "1e-05" in text and is_current("train", read_lock(text), params)


def test_a_damaged_lock_is_one_line() -> None:
    with pytest.raises(DataError, match=r"dvc\.lock cannot be read"):
        read_lock("<<<<<<< HEAD\nstages: {}\n")


@pytest.mark.parametrize(
    ("change", "current"),
    [
        (lambda s, p: p["train"]["lora"].update(r=8), {"data_prep"}),
        (lambda s, p: p["model"].update(name="other"), {"data_prep"}),
        (lambda s, p: p["data_prep"].update(max_samples=10), set()),  # whatever rests on it is stale too
        (
            lambda s, p: s["train"]["outs"][0].update(md5="m2.dir"),
            {"data_prep", "train"},
        ),  # trained since eval
        (lambda s, p: s["data_prep"]["outs"][0].update(md5="d2"), {"data_prep"}),
        (lambda s, p: p.update(serve={"port": 1}), {"data_prep", "train", "eval@random_lora"}),
    ],
)
def test_what_a_partial_run_leaves_stale(change: Any, current: set[str]) -> None:
    stages, params = read_lock(LOCK), copy.deepcopy(PARAMS)
    change(stages, params)
    assert {stage for stage in stages if is_current(stage, stages, params)} == current
