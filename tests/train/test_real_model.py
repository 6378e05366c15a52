"""SmolLM2-135M with its real weights learns and answers: a handful of examples, real loss, real text."""

from __future__ import annotations

from pathlib import Path

import torch

from mark.answering.engine import Engine, Request
from mark.answering.merging import for_inference
from mark.files import read_json, read_jsonl
from mark.models.loading import load_entry
from mark.prompting import Passage
from mark.records import Example
from mark.train import train
from tests.train.small import make_inputs, settings


def test_a_few_steps_lower_the_loss_and_the_entry_answers(smollm2_dir: Path, tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, smollm2_dir, train=8, val=2, name="transformer")
    section = settings(epochs=2.0, learning_rate=1e-3, precision="auto", batch_size=2)
    out = tmp_path / "models/transformer_lora"
    result = train(inputs, section, 7, out, confirmed=True)
    curves = read_json(inputs.plots / "transformer_lora.json")
    losses = [row["loss"] for row in curves if row["split"] == "train"]
    assert losses[-1] < 0.7 * losses[0]
    assert result.entry.random is False and result.entry.val_loss is not None
    model, tokenizer = load_entry(out)
    engine = Engine(for_inference(model, torch.float32), tokenizer, 700, 32, batch_size=2)
    row = read_jsonl(inputs.train_file, Example)[0]
    chunks = inputs.passages()
    passages = tuple(Passage.from_chunk(chunks[chunk_id]) for chunk_id in row.contexts)
    (answer,) = engine.generate([Request(row.question, passages)])
    assert answer.text and answer.mean_logprob < 0
