"""One thread, and a small project after eval."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mark.evaluation.calibration import Calibrations
from mark.files import write_json, write_jsonl
from mark.rlhf import RlhfInputs
from mark.rlhf.gathering import Gathering
from mark.rlhf.sampling import Sampled
from mark.train import train
from tests.rlhf.small import inputs_of, prediction
from tests.train.small import make_inputs, settings


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """One thread for the package: tiny products gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    write_jsonl(root / "reports/eval/tiny_lora/development.jsonl", [prediction(rule_id="shall")])
    write_jsonl(root / "data/feedback_accepted.jsonl", [])
    return inputs_of(root, "tiny_lora")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model gives no pair: one right and one empty word stand in for what it would sample."""

    def drawn(self: Any, number: int, tasks: Any, model: Any, tokenizer: Any) -> Any:
        return [[Sampled((1,), t.golds[0], False), Sampled((1,), "none", False)] for t in tasks]

    monkeypatch.setattr(Gathering, "_draw", drawn)
