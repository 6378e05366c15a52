"""A fine-tuned entry on a tiny model and short questions, shared by the RLHF tests."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mark.config import Paths, Rlhf, load_section
from mark.files import write_json
from mark.records import Prediction
from mark.rlhf.inputs import RlhfInputs
from mark.rlhf.sampling import Task
from tests.conftest import ROOT


def rlhf_settings(**changes: Any) -> Rlhf:
    """The committed rlhf section with a short run; `sampling` and `reward_model` changes are laid over."""
    section = load_section(Rlhf, "rlhf", ROOT / "params.yaml").model_dump()
    sampling = section["sampling"] | {"questions": 6, "answers": 3, "max_new_tokens": 8, "batch_size": 8}
    short = {
        "batch_size": 2, "gradient_accumulation_steps": 1, "learning_rate": 0.01, "warmup_ratio": 0.0,
        "precision": "fp32", "max_steps": 2, "evaluations": 1, "val_questions": 2, "kl_questions": 1,
        "max_pairs": 4,
    }  # fmt: skip
    sampling |= changes.pop("sampling", {})
    reward_model = section["reward_model"] | changes.pop("reward_model", {})
    return Rlhf.model_validate(
        section | short | changes | {"sampling": sampling, "reward_model": reward_model}
    )


def make_entry(folder: Path, base: Path, architecture: str) -> Path:
    """models/tiny_lora below `folder`: an adapter whose B is not zero, on a copy of a base."""
    from peft import LoraConfig, get_peft_model

    from mark.models.loading import load_base
    from mark.models.source_file import base_sha256, read_source
    from mark.models.targets import lora_targets

    shutil.copytree(base, folder / "models/base/tiny")
    model, tokenizer = load_base(folder / "models/base/tiny")
    torch.manual_seed(5)
    targets = lora_targets(architecture)
    config = LoraConfig(r=2, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    entry = folder / "models/tiny_lora"
    get_peft_model(model, config).save_pretrained(entry)
    tokenizer.save_pretrained(entry)
    sha = base_sha256(read_source(folder / "models/base/tiny"))
    write_json(entry / "entry.json", {"base": "tiny", "base_sha256": sha})
    return entry


def short_tasks(tokenizer: Any, count: int = 4) -> list[Task]:
    """Questions of a dozen tokens."""
    texts = [f"What is {i}?" for i in range(count)]
    return [
        Task(str(i), text, ("one",), "answerable", tuple(tokenizer(text)["input_ids"]), ())
        for i, text in enumerate(texts)
    ]


def inputs_of(root: Path, entry: str) -> RlhfInputs:
    """A project's own files; its checkpoints lie in it too, not at the root of this repository."""
    found = RlhfInputs.of_project(entry, Paths(checkpoints=".ckpt", logs="logs"), root)
    return replace(found, checkpoints=root / ".ckpt")


def prediction(**changes: Any) -> Prediction:
    """What eval wrote of one development question."""
    row = {
        "example_id": "dev-1", "cell": "tuned_retrieval", "rule_id": "handwritten", "contexts": [],
        "question": "How long is the notice?", "kind": "answerable", "style": "short", "document": "lease",
        "section": "Section 1", "answers": ["six months"], "prediction": "six", "raw_prediction": "six",
        "unrefused_prediction": "six", "refused": False, "refusal_probability": 0.1, "quote": None,
        "quote_chunk": None, "exact_match": 0.0, "token_f1": 0.5, "rouge_l": 0.5, "bleu": 0.1,
        "f1_if_answered": 0.5, "source_in_contexts": None,
    }  # fmt: skip
    return Prediction.model_validate(row | changes)
