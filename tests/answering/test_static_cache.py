"""Answers written into fixed buffers are those written with a growing cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mark.answering.decoding import AttentionBatch
from mark.answering.engine import Engine, Generation, Request
from mark.answering.merging import for_inference
from mark.answering.static_cache import StaticBatch, StaticDecoder, static_decoder
from mark.models.loading import load_base
from tests.answering.test_engine import LENGTH, NEW, REQUESTS, with_adapter
from tests.models.recording import Waits

ASKED = [
    *REQUESTS,
    *(
        Request(f"What is kept for how long in case {i}?", REQUESTS[2].passages[: 1 + i % 2])
        for i in range(7)
    ),
]


def same(found: list[Generation], expected: list[Generation], close: float = 1e-4) -> None:
    for ours, plain in zip(found, expected, strict=True):
        assert (ours.text, ours.raw_text) == (plain.text, plain.raw_text)
        assert ours.mean_logprob == pytest.approx(plain.mean_logprob, rel=close)
        assert ours.refusal_probability == pytest.approx(plain.refusal_probability, rel=10 * close)
    assert len({answer.mean_logprob for answer in expected}) > 5


def engines(folder: Path, rows: int, device: str = "cpu") -> tuple[Engine, Engine]:
    """With fixed buffers and without; now and then a random model ends an answer."""
    found = []
    for static in (True, False):
        model, tokenizer = load_base(folder, device=device)
        merged: Any = for_inference(with_adapter(model).to(device), torch.float32)
        engine = Engine(merged, tokenizer, LENGTH, NEW, rows)
        engine.decoder = StaticDecoder(merged, LENGTH, rows) if static else None
        engine.eos_id = 7
        found.append(engine)
    return found[0], found[1]


@pytest.mark.parametrize("packed", [False, True])  # how the prompts are read
@pytest.mark.parametrize("rows", [1, 5, 16])
def test_answers_are_those_of_a_growing_cache(
    rows: int, packed: bool, tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mark.answering.engine.attention_fits", lambda *_: packed)
    ours, plain = engines(tiny_llama_dir, rows)
    expected = plain.generate(ASKED, None)
    same(ours.generate(ASKED, None), expected)
    same(ours.generate(ASKED[::-1], None), expected[::-1])  # over what the last batches left
    assert ours.decoder is not None
    assert 0 < len(ours.decoder.steps) <= 5


@torch.inference_mode()
def test_a_full_prompt_has_room_for_the_whole_answer(tiny_llama_dir: Path) -> None:
    model, _ = load_base(tiny_llama_dir)
    prompts = [[4 + i % 90 for i in range(LENGTH - NEW)], [9] * 50, [4 + i % 70 for i in range(300)]]
    ours = StaticBatch(model, 0, None, StaticDecoder(model, LENGTH, 3))
    plain = AttentionBatch(model, 0, None)
    torch.testing.assert_close(ours.start(prompts), plain.start(prompts))
    for left in range(NEW - 1, 0, -1):
        if left in (NEW - 1, 3):  # a row is dropped before the first step, another on the way
            for state in (ours, plain):
                state.keep(torch.tensor([0, 2] if left > 3 else [1]))
        tokens = torch.tensor([5 + left, 6 + left][: len(plain.mask)])
        torch.testing.assert_close(ours.step(tokens), plain.step(tokens), rtol=1e-4, atol=1e-5)
    assert plain.mask.shape == (1, LENGTH - 1)  # an answer's last token is not read


@torch.inference_mode()
def test_nothing_in_a_step_waits_for_a_value(tiny_llama_dir: Path) -> None:
    model, _ = load_base(tiny_llama_dir)
    batch = StaticBatch(model, 0, None, StaticDecoder(model, LENGTH, 2))
    batch.start([[5] * 30, [6] * 20])
    batch.step(torch.tensor([7, 8]))
    run, _ = batch.decoder.steps[2]
    with Waits() as waits:
        run()
    assert waits.count > 50 and not waits.found


def test_a_cpu_has_none(tiny_llama_dir: Path) -> None:
    model, tokenizer = load_base(tiny_llama_dir)
    assert static_decoder(model, LENGTH, 2) is None  # on a CPU
    assert Engine(model, tokenizer, LENGTH, NEW, 2).decoder is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_recorded_answers_are_the_same_on_a_gpu(
    tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, plain = engines(tiny_llama_dir, 5, "cuda")
    expected = plain.generate(ASKED, None)
    for _ in range(2):
        same(ours.generate(ASKED, None), expected, close=1e-3)
    model, _ = load_base(tiny_llama_dir, device="cuda")
    assert static_decoder(model, LENGTH, 2) is None
    monkeypatch.setenv("MARK_DECODE_GRAPHS", "1")
    assert static_decoder(model, LENGTH, 2) is not None
    assert static_decoder(with_adapter(model), LENGTH, 2) is None
