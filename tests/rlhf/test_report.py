"""The comparison on a small project that eval ran on: arms, gains, gate, files."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mark.errors import DataError
from mark.evaluation import EvalInputs, evaluate, write_results
from mark.evaluation.report import Tree
from mark.files import ADAPTER, read_json, sha256_file, write_json, write_jsonl
from mark.models.source_file import base_sha256, read_source
from mark.rlhf import train_policy
from mark.rlhf.entry import RlhfEntry
from mark.rlhf.preferences import AnswerCounts, HumanCounts, PreferenceLedger, QuestionCounts
from mark.rlhf.report import Report, ReportInputs, engines_apart, make_report, write_report
from mark.rlhf.reward_record import RewardModelRecord
from mark.rlhf.table import report_text
from tests.evaluation.conftest import MAX_LENGTH, RETRIEVAL, SETTINGS, project
from tests.rlhf.small import inputs_of, rlhf_settings
from tests.train.small import settings as training

__all__ = ["project"]
EVAL = SETTINGS.model_copy(update={"cells": ["base_retrieval", "tuned_retrieval"]})
LEDGER = PreferenceLedger(
    method="dpo", questions=QuestionCounts(asked=24, paired=12, tied=6, no_two_answers=6),
    answers=AnswerCounts(sampled=96, truncated=20, duplicate=30, in_pairs=24, left_over=22),
    human=HumanCounts(), sampled_pairs=12, human_pairs=0, beyond_limit=0, pairs=12, human_ratings=0, rows=12,
)  # fmt: skip


def _arm(root: Path, name: str, scale: float) -> None:
    """An entry beside the fine-tuned one: its adapter with every B scaled; 1 = the same model."""
    sft, out = root / "models/random_lora", root / "models" / name
    shutil.copytree(sft, out)
    weights = load_file(sft / "adapter_model.safetensors")
    changed = {key: value * (scale if "lora_B" in key else 1) for key, value in weights.items()}
    save_file(changed, out / "adapter_model.safetensors", metadata={"format": "pt"})
    entry = RlhfEntry(
        name=name, base="random", base_sha256=base_sha256(read_source(root / "models/base/random")),
        architecture="llama", random=True, data_sha256="", params_sha256="", params={}, seed=7, examples=12, steps=6,
        best_step=6, train_loss=0.6, val_loss=None, trainable_parameters=1, max_seq_length=MAX_LENGTH,
        precision="fp32", method="dpo", sft="random_lora", sft_sha256="", val_reward=0.2, val_kl=0.1,
        sft_val_reward=0.1, pairs=12,
    )  # fmt: skip
    write_json(out / "entry.json", entry.model_dump())
    curves = [
        {"arm": arm, "step": step, "metric": metric, "value": value}
        for arm in ("rlhf", "sft_continued")
        for step, kl, reward in ((0, 0.0, 0.1), (6, 0.1, 0.2))
        for metric, value in (("val_kl", kl), ("val_reward", reward), ("loss", 0.6))
    ]
    write_json(out / "curves.json", curves)
    write_json(out / "ledger.json", LEDGER.model_dump())


def _evaluate(root: Path, name: str) -> None:
    write_results(evaluate(EvalInputs.of_project(name, 7, root), EVAL, RETRIEVAL, MAX_LENGTH), name, root)


def _report(root: Path) -> Report:
    inputs = ReportInputs.of_project(inputs_of(root, "random_lora"), 7, root)
    return make_report(inputs, rlhf_settings(min_pairs=150), EVAL, RETRIEVAL)


@pytest.fixture(scope="module")
def metrics(project: Path) -> Iterator[Tree]:
    """metrics/rlhf.json of a policy that is the fine-tuned model, and of a control that is not."""
    LEDGER.check()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    _arm(project, "rl_trained_lora", 1.0)
    _arm(project, "sft_continued_lora", -2.0)
    for name in ("random_lora", "rl_trained_lora"):
        _evaluate(project, name)
    write_report(_report(project), project)
    found = read_json(project / "metrics/rlhf.json")["rlhf"]
    assert found["adapter_sha256"] == sha256_file(
        project / "models/rl_trained_lora/adapter_model.safetensors"
    )
    yield found
    torch.set_num_threads(threads)


def test_a_policy_that_is_the_fine_tuned_model_gains_nothing(metrics: Tree) -> None:
    for group in ("all", "handwritten", "rule_made"):
        for name in ("reward", "token_f1", "similarity", "rouge_l"):
            assert metrics[group]["gain"]["over_sft"][name]["difference"] == 0.0
        arms = metrics[group]["arms"]
        assert arms["rlhf"] == arms["sft"]
        assert list(arms) == ["base", "rlhf", "sft", "sft_continued"]  # sorted in the file
    assert metrics["verdict_on"] == "handwritten"
    assert (metrics["handwritten"]["questions"], metrics["rule_made"]["questions"]) == (3, 3)
    kl = metrics["kl_to_sft"]
    assert kl["sft"] == 0.0 < kl["base"] and kl["rlhf"] == 0.1
    assert (metrics["kept"], metrics["verdict"], metrics["too_few_to_judge"]) == ("sft", "cannot tell", True)
    assert metrics["reason"] == "12 preferences are too few to judge, 150 are needed"


def test_the_fine_tuned_arm_is_that_of_eval(metrics: Tree, project: Path) -> None:
    evaluated = read_json(project / "metrics/eval_random_lora.json")["eval_random_lora"]
    for group in ("all", "handwritten", "rule_made"):
        for arm, cell in (("sft", "tuned_retrieval"), ("base", "base_retrieval")):
            for name in ("token_f1", "exact_match", "rouge_l", "bleu"):
                assert metrics[group]["arms"][arm][name] == evaluated[group][cell][name]


def test_eval_of_another_adapter_is_refused(metrics: Tree, project: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(project, root, symlinks=True)
    path = root / "models/rl_trained_lora/adapter_model.safetensors"
    weights = {name: weight * 0.5 for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(
        DataError, match=r"rl_trained_lora/calibration.json is of adapter .* run `dvc repro eval`"
    ):
        _report(root)
    shutil.rmtree(root / "reports/eval/rl_trained_lora")
    with pytest.raises(DataError, match=r"calibration.json is missing; run `dvc repro"):
        _report(root)


def test_eval_of_other_questions_is_refused(metrics: Tree, project: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(project, root, symlinks=True)
    path = root / "reports/eval/rl_trained_lora/predictions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(DataError, match="other than the 6 test questions"):
        _report(root)


def test_a_run_with_too_little_to_train_on_reaches_its_verdict(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """rlhf, eval of both entries and rlhf_report, all real: one training question gives no step of two rows."""
    root = tmp_path / "copy"
    shutil.copytree(project, root, symlinks=True)
    record = read_json(root / "models/random_lora/entry.json")
    params = training(max_seq_length=MAX_LENGTH).model_dump()
    write_json(
        root / "models/random_lora/entry.json", {**record, "params": params, "trainable_parameters": 1}
    )
    write_jsonl(root / "data/feedback_accepted.jsonl", [])
    _evaluate(root, "random_lora")
    for name in ("rl_trained_lora", "sft_continued_lora"):
        shutil.rmtree(root / "models" / name, ignore_errors=True)
    settings = rlhf_settings(sampling={"max_new_tokens": 6})
    train_policy(inputs_of(root, "random_lora"), settings, 7, root / "models/rl_trained_lora", confirmed=True)
    assert "RLHF trains nothing" in caplog.text
    _evaluate(root, "rl_trained_lora")
    write_report(_report(root), root)
    found = read_json(root / "metrics/rlhf.json")["rlhf"]
    assert (found["steps"], found["kept"], found["verdict"]) == (0, "sft", "cannot tell")
    assert found["reason"] == "0 preferences are too few to judge, 150 are needed; nothing was trained"
    assert found["kl_to_sft"]["rlhf"] == found["kl_to_sft"]["sft_continued"] == 0.0
    for group in ("all", "handwritten", "rule_made"):
        gains = found[group]["gain"]
        assert {g["difference"] for o in ("sft", "sft_continued") for g in gains[f"over_{o}"].values()} == {
            0.0
        }
    assert [row["step"] for row in read_json(root / "plots/rlhf_reward_kl.json")] == [0, 0]
    assert "cannot tell" in (root / "reports/rlhf/table.txt").read_text()


def test_the_files_hold_what_dvc_reads(metrics: Tree, project: Path) -> None:
    def numbers(value: Any) -> Iterator[float]:
        for item in value.values():
            yield from numbers(item) if isinstance(item, dict) else [item] if isinstance(item, float) else []
            assert not isinstance(item, list)

    assert all(math.isfinite(number) for number in numbers(metrics))
    frontier = read_json(project / "plots/rlhf_reward_kl.json")
    assert {"arm": "rlhf", "step": 6, "kl": 0.1, "reward": 0.2} in frontier and len(frontier) == 4
    arms = {row["arm"] for row in read_json(project / "plots/rlhf_arms.json")}
    assert arms == {"base", "sft", "sft_continued", "rlhf"}
    lines = (project / "reports/rlhf/predictions.jsonl").read_text().splitlines()
    assert {json.loads(line)["cell"] for line in lines} == arms
    assert len(lines) == 4 * metrics["all"]["questions"]


def test_the_reward_model_is_told_where_one_was_wanted(metrics: Tree, project: Path, tmp_path: Path) -> None:
    assert "reward_model" not in metrics and "Reward model" not in report_text(metrics)
    root = tmp_path / "copy"
    shutil.copytree(project, root, symlinks=True)
    path = root / "models/rl_trained_lora/entry.json"
    record = RewardModelRecord(
        used=True, reason="it ranks 80.0 % (62 to 93) of 25 held-out preferences right", pairs=100, held_out=25,
        trained_on=75, held_out_clusters=12, steps=57, accuracy=0.8, accuracy_low=0.62, accuracy_high=0.93,
        centre=0.1, scale=1.5, preferences=LEDGER,
    )  # fmt: skip
    write_json(path, read_json(path) | {"reward_model": record.model_dump()})
    found = _report(root).metrics
    assert found["reward_model"] == record.model_dump()
    assert (
        "\nReward model used: it ranks 80.0 % (62 to 93) of 25 held-out preferences right\n"
        in report_text(found)
    )
    found["reward_model"] = {"used": False, "reason": "12 preferences are too few"}
    assert "\nReward model not used: 12 preferences are too few\n" in report_text(found)


def test_arms_that_different_engines_ran_are_told(metrics: Tree, project: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(project, root, symlinks=True)
    inputs = ReportInputs.of_project(inputs_of(root, "random_lora"), 7, root)
    assert engines_apart(inputs) == ""
    for name in ("random_lora", "rl_trained_lora"):
        path = root / "reports/eval" / name / "calibration.json"
        write_json(path, {**read_json(path), "engine": "openai/vllm"})
    arms = "base and sft by openai/vllm, rlhf by openai/vllm, sft_continued by local"
    assert engines_apart(inputs) == f"these answers were not given by one engine ({arms})"
    shutil.copy(inputs.rlhf.sft / ADAPTER, inputs.control)  # no control arm but the fine-tuned model itself
    assert engines_apart(inputs) == ""


def test_the_table_says_that_it_is_too_few(metrics: Tree) -> None:
    text = report_text(metrics)
    assert "TOO FEW TO JUDGE" in text
    assert text.endswith("The fine-tuned model is kept (cannot tell): "
                         "12 preferences are too few to judge, 150 are needed.")  # fmt: skip
