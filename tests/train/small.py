"""A small training task on a tiny model, built from made-up passages; shared by the training tests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mark.config import Train
from mark.files import write_jsonl
from mark.prompting import REFUSAL
from mark.records import Chunk, Example
from mark.train import TrainInputs

_THINGS = ["rent", "fee", "fine", "deposit", "salary", "tax", "grant", "toll", "price", "premium"]


def chunk(number: int) -> Chunk:
    """Passage `number`: an amount for a thing."""
    thing = _THINGS[number % len(_THINGS)]
    text = f"The {thing} is {number + 3} euros. It is due on day {number % 28 + 1}."
    return Chunk(
        chunk_id=f"{number:064x}", doc_id="0" * 64, document="acts", title="Acts",
        heading_path=[f"Article {number}"], section=f"Article {number}", pages=[1],
        start=0, end=len(text), text=text,
    )  # fmt: skip


def example(number: int, split: str, chunks: list[Chunk]) -> Example:
    """A question about one passage with one other beside it; every fifth has no passage of its own."""
    own, other = chunks[number % len(chunks)], chunks[(number + 7) % len(chunks)]
    answerable = number % 5 != 4
    thing = _THINGS[number % len(_THINGS)]
    answer = own.text.split(".")[0] + "." if answerable else REFUSAL
    return Example(
        example_id=f"{split}-{number}", split=split, question="How much is the " + thing + "?" * (number % 3 + 1),
        contexts=[own.chunk_id, other.chunk_id] if answerable else [other.chunk_id],
        answers=[answer], quote=answer if answerable else None, page=1 if answerable else None,
        kind="answerable" if answerable else "unanswerable", style="short", rule_id="amount",
        document="acts", section=own.section, source_chunk=own.chunk_id,
    )  # fmt: skip


def make_inputs(folder: Path, base: Path, train: int = 14, val: int = 4, name: str = "tiny") -> TrainInputs:
    """Files of a training task under `folder`, and the base model where an entry finds it."""
    chunks = [chunk(number) for number in range(20)]
    write_jsonl(folder / "data/chunks.jsonl", chunks)
    write_jsonl(folder / "data/train.jsonl", [example(i, "train", chunks) for i in range(train)])
    write_jsonl(folder / "data/val.jsonl", [example(i + 100, "val", chunks) for i in range(val)])
    target = folder / "models/base" / name
    if not target.exists():
        shutil.copytree(base, target)
    return TrainInputs(
        train_file=folder / "data/train.jsonl",
        val_file=folder / "data/val.jsonl",
        chunks_file=folder / "data/chunks.jsonl",
        practice_file=folder / "data/practice_passages.jsonl",
        base_folder=target,
        checkpoints=folder / ".ckpt",
        logs=folder / "logs",
        plots=folder / "plots",
    )


SETTINGS: dict[str, Any] = {
    "dry_run": False, "epochs": 1.0, "max_steps": -1, "batch_size": 2, "gradient_accumulation_steps": 1,
    "learning_rate": 0.01, "warmup_ratio": 0.1, "weight_decay": 0.0, "max_grad_norm": 1.0,
    "max_seq_length": 700, "evals_per_epoch": 2, "precision": "fp32", "length_grouping": True, "packing": "auto",
    "report_to": [], "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "auto"},
}  # fmt: skip


def settings(**changes: Any) -> Train:
    """A train section; `lora` changes are laid over."""
    lora = {**SETTINGS["lora"], **changes.pop("lora", {})}
    return Train.model_validate({**SETTINGS, **changes, "lora": lora})
