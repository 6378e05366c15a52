"""Whole reruns of the smoke profile: the same bytes twice, other seeds, and a document that is taken down."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mark.reproduce.seeds import SEEDS
from tests.stages.running import call, dvc, mark

pytestmark = pytest.mark.long


def test_two_clean_clones_give_the_same_bytes(committed: Path) -> None:
    # Each has a cache of its own and computes with one thread; times stand in reports/timing_* alone.
    output = mark(committed, "verify", "--threads", "1", "--keep")
    assert "Environment: as recorded" in output
    assert output.splitlines()[-1] == "34 outputs: 34 identical"
    (clone,) = (committed / "tmp").glob("verify-*")
    for path in ("data/chunks.jsonl", "data/train_sft.jsonl", "metrics/compare.json",
                 "models/random_lora/adapter_model.safetensors", "models/rl_trained_lora/adapter_model.safetensors"):  # fmt: skip
        assert not (clone / path).samefile(committed / path)
        assert (clone / path).read_bytes() == (committed / path).read_bytes()
    shutil.rmtree(clone)


def test_two_seeds_leave_the_workspace_and_a_spread_that_the_report_shows(committed: Path) -> None:
    output = mark(committed, "seeds", "-n", "2", "--threads", "1")
    assert "seeds 7, 8 of " in output
    assert call(committed, "git", "status", "--porcelain").split() == ["??", str(SEEDS)]
    spread = json.loads((committed / SEEDS).read_text())
    assert spread["seeds"] == [7, 8]
    pointer = "/compare/gain/random_lora/over random + retrieval/difference"
    first, second = spread["values"]["metrics/compare.json"][pointer]
    gain = json.loads((committed / "metrics/compare.json").read_text())["compare"]["gain"]["random_lora"]
    assert first == gain["over random + retrieval"]["difference"]
    moved = [a != b for a, b in spread["values"]["metrics/eval_random_lora.json"].values()]
    assert any(moved) and not all(moved)

    (row,) = [
        line
        for line in mark(committed, "report").splitlines()
        if "random_lora over random + retrieval " in line
    ]
    name_and_cells = row.split()[-6:]
    # The mean of two values, and their distance over the root of two.
    mean, deviation = 100 * (first + second) / 2, 100 * abs(first - second) / 2**0.5
    lowest, highest = sorted((100 * first, 100 * second))
    assert name_and_cells == [
        f"{100 * first:+.1f}", f"{mean:+.1f}", f"{deviation:.1f}", f"{lowest:+.1f}", f"{highest:+.1f}", "2",
    ]  # fmt: skip


def test_a_document_is_taken_out_everywhere_but_of_the_adapters_that_saw_it(committed: Path) -> None:
    mark(committed, "models", "promote", "random_lora", "--force", "--reason", "for the test")
    output = mark(committed, "remove", "lease.pdf")
    for name in ("random_lora", "rl_trained_lora", "sft_continued_lora", "champion"):
        assert f"\n  {name}: " in output
    dvc(committed, "repro")
    for path in ("data/chunks.jsonl", "data/train_sft.jsonl", "data/test_sft.jsonl", "data/val_sft.jsonl"):
        assert '"lease"' not in (committed / path).read_text()
    for done in (False, True):
        output = mark(committed, "lineage", "--document", "lease")
        for name in ("random_lora", "rl_trained_lora", "sft_continued_lora"):
            assert f"  {name:18}  not at all" in output
        assert f"  {'champion':18}  in training; " in output and "Stale now:\n  champion " in output
        if not done:
            for command in (["add", "-A"], ["commit", "-qm", "without the lease"]):
                subprocess.run(["git", *command], cwd=committed, check=True)
