"""Answers in bulk against transformers' `generate`: `python -m bench.answering`.

The project's own base model, in the precision of eval and serving, answers training questions greedily, in
one process, in turn: by the engine of eval and serving, by `generate` one prompt at a time, and by `generate`
in batches sorted by length. The engine also says how likely each question would be refused; the others do
not. Two kinds of questions: each with the passages that training shows, and five to each list of passages.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from bench.carried import QUESTIONS as GPU_QUESTIONS
from bench.carried import Carried
from bench.project import Project
from bench.rows import Pair, Row, alternate, compared, show, unmeasured

if TYPE_CHECKING:
    from mark.answering.engine import Request

NAMES = (
    "answering: five questions to a list of passages, against one by one",
    "answering: own passages, against batches sorted by length",
    "answering: GPU, 500 questions against one by one",
    "answering: GPU, 500 questions against our engine without CUDA graphs",
)
ONE_BY_ONE, BATCHES = "transformers' generate, one by one", "transformers' generate, batches sorted by length"
OURS = "our engine without CUDA graphs"
QUESTIONS = 40  # on a GPU: of the 500, those that are also asked one by one
BATCH = 32
TOKENS = 24  # of an answer at most
ROUNDS = 2
SEED = 5


def rows() -> Iterator[Row]:
    """The rows of this machine; on one with a GPU those of the CPU say so."""
    import torch

    bench = _Bench()
    if torch.cuda.is_available():
        for name, peer, bar in ((NAMES[0], ONE_BY_ONE, 5.0), (NAMES[1], BATCHES, 1.5)):
            yield unmeasured(name, "answers/s", peer, bar, "of a CPU")
        yield from _gpu_rows(bench)
        return
    cases = (
        (NAMES[0], bench.requests(shared=True), 1, 5.0),
        (NAMES[1], bench.requests(shared=False), QUESTIONS, 1.5),
    )
    for name, requests, size, bar in cases:
        seconds = alternate(bench.ours(requests), bench.theirs(requests, size), ROUNDS)
        speed = Pair(*(tuple(len(requests) / s for s in taken) for taken in (seconds.ours, seconds.peer)))
        note = bench.agreement()
        yield compared(name, speed, "answers/s", ONE_BY_ONE if size == 1 else BATCHES, bar, note)
    yield unmeasured(NAMES[2], "answers/s", ONE_BY_ONE, 20.0, "no GPU here")
    yield unmeasured(NAMES[3], "answers/s", OURS, None, "no GPU here")


def _gpu_rows(bench: _Bench) -> Iterator[Row]:
    """All questions by the engine; some of them one by one, since all would take minutes."""
    asked = bench.carried.requests()
    few = asked[:QUESTIONS]
    started = time.perf_counter()
    bench.engine.generate(asked, None)
    warm_up = time.perf_counter() - started
    seconds = alternate(bench.ours(asked), bench.theirs(few, 1), ROUNDS)
    speed = Pair(tuple(len(asked) / s for s in seconds.ours), tuple(len(few) / s for s in seconds.peer))
    texts = bench.our_texts[: len(few)]
    same = sum(ours == theirs for ours, theirs in zip(texts, bench.their_texts, strict=True))
    note = (
        f"{len(few)} of {GPU_QUESTIONS} one by one, {same} the same text; the first time, with recording, "
        f"took {warm_up:.1f} s; {bench.carried.note or 'the base itself'}"
    )
    yield compared(NAMES[2], speed, "answers/s", ONE_BY_ONE, 20.0, note)
    recording, decoder = bench.ours(asked), bench.engine.decoder

    def plain() -> None:
        bench.engine.decoder = None
        recording()
        bench.engine.decoder = decoder

    seconds = alternate(recording, plain, ROUNDS)
    speed = Pair(*(tuple(len(asked) / s for s in taken) for taken in (seconds.ours, seconds.peer)))
    note = "" if decoder is not None else "MARK_DECODE_GRAPHS=0: both are without"
    yield compared(NAMES[3], speed, "answers/s", OURS, None, note)


class _Bench:
    """The model and both ways to ask it."""

    def __init__(self) -> None:
        from mark.answering.engine import Engine
        from mark.models.loading import load_base, preferred_dtype
        from mark.train.hardware import training_device

        self.carried, self.project = Carried(), Project()
        base, device = self.carried.base, training_device()
        self.model, self.tokenizer = load_base(base, preferred_dtype(device), device)
        os.environ.setdefault("MARK_DECODE_GRAPHS", "1")  # off by default until it was measured
        self.engine = Engine(self.model, self.tokenizer, 768, TOKENS, BATCH)
        self.plain, _ = load_base(base, preferred_dtype(device), device)

    def requests(self, shared: bool) -> list[Request]:
        """Questions with the passages that training shows, or in fives with those of the first of them."""
        from mark.answering.engine import Request
        from mark.prompting import Passage

        chunks = self.project.chunks
        examples = random.Random(SEED).sample([e for e in self.project.examples if e.contexts], QUESTIONS)
        found = []
        for i, example in enumerate(examples):
            contexts = examples[i - i % 5].contexts if shared else example.contexts
            passages = tuple(Passage.from_chunk(chunks[chunk_id]) for chunk_id in contexts)
            found.append(Request(example.question, passages))
        return found

    def ours(self, requests: Sequence[Request]) -> Callable[[], object]:
        def work() -> None:
            self.our_texts = [answer.raw_text for answer in self.engine.generate(requests, None)]

        return work

    def theirs(self, requests: Sequence[Request], size: int) -> Callable[[], object]:
        def work() -> None:
            self.their_texts = self._generate(requests, size)

        return work

    def _generate(self, requests: Sequence[Request], size: int) -> list[str]:
        import torch

        from mark.prompting import build_prompt

        prompts = [build_prompt(self.tokenizer, r.question, r.passages, 768 - TOKENS).ids for r in requests]
        order = (
            sorted(range(len(prompts)), key=lambda i: -len(prompts[i])) if size > 1 else range(len(prompts))
        )
        texts = [""] * len(prompts)
        for start in range(0, len(prompts), size):
            picked = list(order)[start : start + size]
            batch = self.tokenizer.pad({"input_ids": [prompts[i] for i in picked]}, return_tensors="pt")
            batch = {name: value.to(self.plain.device) for name, value in batch.items()}
            width = batch["input_ids"].shape[1]
            with torch.inference_mode():
                out = self.plain.generate(**batch, max_new_tokens=TOKENS, do_sample=False)
            for i, tokens in zip(picked, out, strict=True):
                texts[i] = self.tokenizer.decode(tokens[width:], skip_special_tokens=True).strip()
        return texts

    def agreement(self) -> str:
        """How many of the last answers are the same text, for the note."""
        same = sum(ours == theirs for ours, theirs in zip(self.our_texts, self.their_texts, strict=True))
        both = str(self.model.dtype).removeprefix("torch.")
        return f"both in {both}; {same} of {len(self.our_texts)} answers are the same text"


if __name__ == "__main__":
    show(rows())
