"""A small project: three PDFs ingested for real, hand-made rows, a random base model and an adapter on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mark.config import Eval, Ingest, Retrieval, load_section
from mark.evaluation.cells import CELLS
from mark.files import read_jsonl, write_json, write_jsonl
from mark.prompting import REFUSAL
from mark.records import Chunk, Example, HandwrittenQuestion, Split

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
RETRIEVAL = load_section(Retrieval, "retrieval", PARAMS).model_copy(update={"top_k": 2})
SETTINGS = load_section(Eval, "eval", PARAMS).model_copy(
    update={
        "entries": ["random_lora"],
        "max_handwritten": 10,
        "max_rule_made": 10,
        "max_calibration": 20,
        "batch_size": 4,
        "max_new_tokens": 6,
        "cells": list(CELLS),
        "recall_at": [1, 3],
        "bootstrap_samples": 200,
        "confidence": 0.95,
        "min_clusters": 4,
    }
)
MAX_LENGTH = 1200  # tokens are bytes

# Question, accepted answer, document, the word that its chunk holds; None = unanswerable.
ASKED: dict[Split, list[tuple[str, str | None, str, str]]] = {
    "train": [("What does rent mean?", "the sum of 900 euros payable each month", "lease", "900 euros")],
    "val": [
        ("Who keeps the accounts?", "The treasurer", "statute", "treasurer"),
        ("Who owns the boat?", None, "statute", "aircraft"),
    ],
    "test": [
        ("How soon must a breach be reported?", "within 24 hours", "policy", "24 hours"),
        ("How high is the annual fee?", "60 euros", "statute", "60 euros"),
        ("Who sells the garden?", None, "policy", "seven years"),
    ],
}
HANDWRITTEN = [
    ("hw-1", "How many members can force a meeting?", ["one fifth"], "statute", "if one fifth of them sign"),
    (
        "hw-2",
        "Who shall repair the roof, and when?",
        ["The landlord"],
        "lease",
        "The landlord shall repair the roof",
    ),
    ("hw-3", "Which colour has the flag?", [], None, None),
]


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Tiny products gain nothing from more threads, and busy machines lose much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def project(
    tmp_path_factory: pytest.TempPathFactory, three_pdfs: Path, tiny_llama_dir: Path, tiny_bert_dir: Path
) -> Path:
    """The root of a project that is ready for eval."""
    from mark.ingest import ingest_pdfs

    root = tmp_path_factory.mktemp("project")
    (root / "models/base").mkdir(parents=True)
    (root / "models/base/random").symlink_to(tiny_llama_dir)
    (root / "models/embedder").symlink_to(tiny_bert_dir)
    (root / "data").mkdir()
    ingest = load_section(Ingest, "ingest", PARAMS).model_copy(update={"chunk_tokens": 250, "workers": 1})
    ingest_pdfs(ingest, three_pdfs, tiny_bert_dir, root / "data")
    write_rows(root)
    write_entry(root)
    return root


def write_rows(root: Path) -> None:
    chunks = read_jsonl(root / "data/chunks.jsonl", Chunk)
    for split, rows in ASKED.items():
        examples = [_example(chunks, split, i, *row) for i, row in enumerate(rows)]
        write_jsonl(root / f"data/{split}_sft.jsonl", examples)
    for name in ("test", "dev"):
        questions = [_handwritten(chunks, name, *row) for row in HANDWRITTEN]
        write_jsonl(root / f"data/handwritten_{name}.jsonl", questions if name == "test" else questions[2:])


def _holding(chunks: list[Chunk], document: str, words: str) -> Chunk:
    return next(chunk for chunk in chunks if chunk.document == document and words in chunk.text)


def _example(
    chunks: list[Chunk],
    split: Split,
    number: int,
    question: str,
    answer: str | None,
    document: str,
    words: str,
) -> Example:
    source = _holding(chunks, document, words)
    others = [chunk.chunk_id for chunk in chunks if chunk.chunk_id != source.chunk_id]
    return Example(
        example_id=f"{split}-{number}",
        split=split,
        question=question,
        contexts=others[:2] if answer is None else [others[0], source.chunk_id],
        answers=[REFUSAL if answer is None else answer],
        quote=answer,
        page=None if answer is None else source.pages[0],
        kind="unanswerable" if answer is None else "answerable",
        style="short",
        rule_id="amount",
        document=document,
        section=source.section,
        source_chunk=source.chunk_id,
    )


def _handwritten(
    chunks: list[Chunk],
    name: str,
    ident: str,
    question: str,
    answers: list[str],
    document: str | None,
    quote: str | None,
) -> HandwrittenQuestion:
    section = _holding(chunks, document, quote).section if document and quote else ""
    return HandwrittenQuestion(
        id=f"{name}-{ident}",
        question=question,
        answers=answers,
        kind="answerable" if answers else "unanswerable",
        style="full",
        document=document,
        article=section.removeprefix("Article ") if document else None,
        quote=quote,
    )


def write_entry(root: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from mark.models.loading import load_base
    from mark.models.source_file import base_sha256, read_source
    from mark.models.targets import lora_targets

    model, tokenizer = load_base(root / "models/base/random")
    torch.manual_seed(5)
    config = LoraConfig(
        r=4, target_modules=lora_targets("llama"), init_lora_weights=False, task_type="CAUSAL_LM"
    )
    entry = root / "models/random_lora"
    get_peft_model(model, config).save_pretrained(entry)
    tokenizer.save_pretrained(entry)
    weights = base_sha256(read_source(root / "models/base/random"))
    write_json(entry / "entry.json", {"base": "random", "base_sha256": weights})
