"""A training step of ours against TRL's SFTTrainer with its defaults: `python -m bench.training`.

Both train the same LoRA adapter on the same token ids, as many examples a step, in one process, in turn, on
the project's own base model and training examples (`dvc repro data_prep`). Two kinds of rows: examples as
they are, and five questions to each of two passage lists. Tokens are those of the rows, padding not counted.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import gpu_training
from bench.carried import Carried
from bench.project import Project
from bench.rows import Pair, Row, alternate, compared, show, unmeasured, versions
from bench.rows import device as device_name

if TYPE_CHECKING:
    from mark.config import Train
    from mark.models.packing import Segments

SEPARATE = "training: examples as they are"
SHARED = "training: five questions to one list of passages"
FLOOR = "training: a step's time over the time of its products alone"
NAMES = (SEPARATE, SHARED, FLOOR, *gpu_training.NAMES)
BARS = {SEPARATE: 3.0, SHARED: 8.0}
PEER = "TRL's SFTTrainer, its defaults (bf16, gradient checkpointing)"
EXAMPLES = 10  # a step
CONTEXT_TOKENS = 320
ROUNDS = 3
SEED = 11
PROJECT = Project()


def rows() -> Iterator[Row]:
    """The rows of this machine; on one with a GPU those of the CPU say so."""
    import torch

    if torch.cuda.is_available():
        for name in (SEPARATE, SHARED, FLOOR):
            yield unmeasured(name, "times" if name == FLOOR else "tokens/s", PEER, BARS.get(name), "of a CPU")
        yield from gpu_training.rows(Carried())
        return
    for name, examples in ((SEPARATE, _separate), (SHARED, _shared)):
        picked, note = examples()
        tokens = sum(len(row["input_ids"]) for row in picked)
        seconds = alternate(_ours(picked), _trl(picked), ROUNDS)
        speed = Pair(*(tuple(tokens / s for s in taken) for taken in (seconds.ours, seconds.peer)))
        yield compared(name, speed, "tokens/s", PEER, BARS[name], note)
        if name == SEPARATE:
            yield _over_floor(picked, seconds.ours)
    yield from gpu_training.missing()


def operations(segments: Segments, config: Any, rank: int, answer_tokens: int) -> dict[str, float]:
    """Floating-point operations of a step's matrix products; see docs/speed.md.

    Args:
        segments: Of the packed batch.
        config: Of a Llama.
        rank: Of LoRA on all seven linear layers.
        answer_tokens: That the head predicts.

    Returns:
        Of body, adapter, attention and head.
    """
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    heads, head_width = config.num_attention_heads, width // config.num_attention_heads
    narrow = config.num_key_value_heads * head_width
    shapes = [(width, width)] * 2 + [(width, narrow)] * 2 + [(width, inner)] * 3
    body = layers * sum(one * other for one, other in shapes)
    adapter = layers * rank * sum(one + other for one, other in shapes)
    tokens = sum(segments.lengths)
    seen = sum(
        own * (own + sum(segments.lengths[i] for i in above))
        for own, above in zip(segments.lengths, segments.above, strict=True)
    )
    return {
        "body": 4.0 * body * tokens,  # forward and the gradient of the input; frozen weights have none
        "adapter": 6.0 * adapter * tokens,
        "attention": 12.0 * layers * heads * head_width * seen,
        "head": 4.0 * config.vocab_size * width * answer_tokens,
    }


def _over_floor(picked: Sequence[dict[str, Any]], taken: Sequence[float]) -> Row:
    """Seconds of a step over those that its products would take at the speed of one large product."""
    import torch
    from transformers import AutoConfig

    from mark.train.collator import IGNORED
    from mark.train.hardware import training_device, wants_bf16
    from mark.train.packing import PackedCollator

    batch = PackedCollator()(picked)
    answer_tokens = int((batch["labels"] != IGNORED).sum())
    config = AutoConfig.from_pretrained(PROJECT.base, trust_remote_code=False)
    found = operations(batch["segments"], config, _settings().lora.r, answer_tokens)
    device = training_device()
    dtype = torch.bfloat16 if wants_bf16(PROJECT.train.precision, device) else torch.float32
    one, other = (torch.ones(2048, 1536, dtype=dtype, device=device) for _ in range(2))
    once = 2.0 * 2048 * 2048 * 1536
    rate = once / min(alternate(lambda: one @ other.T, lambda: None, 20).ours)
    floor = sum(found.values()) / rate
    shares = ", ".join(f"{name} {amount / sum(found.values()):.0%}" for name, amount in found.items())
    tokens = sum(batch["segments"].lengths)
    each = sum(found.values()) / tokens / 1e6
    note = f"{each:.0f} million operations a token read ({shares}), {rate / 1e9:.0f} GFLOP/s"
    times = median(s / floor for s in taken)
    return Row(FLOOR, "times", "", times, device=device_name(), versions=versions(), note=note)


def _separate() -> tuple[list[dict[str, Any]], str]:
    """Examples drawn at random; the note says how much of the training set is shared."""
    from mark.train.data import encode
    from mark.train.packing import packed_tokens

    encoded = encode(PROJECT.examples, PROJECT.chunks, PROJECT.tokenizer, PROJECT.train.max_seq_length)
    found = [encoded[i] for i in range(len(encoded))]
    drawn = random.Random(SEED).sample(range(len(found)), len(found))
    tokens = sum(len(row["input_ids"]) for row in found)
    groups = [[found[i] for i in drawn[k : k + EXAMPLES]] for k in range(0, len(drawn), EXAMPLES)]
    by_start = sorted(found, key=lambda row: list(row["input_ids"]))
    sorted_groups = [by_start[k : k + EXAMPLES] for k in range(0, len(by_start), EXAMPLES)]
    random_share, sorted_share = (
        1 - sum(packed_tokens(group) for group in cut) / tokens for cut in (groups, sorted_groups)
    )
    note = (
        f"of {len(found)} training rows' tokens {random_share:.0%} stand in another row of their step, "
        f"{sorted_share:.0%} if rows were sorted by their passages"
    )
    return groups[0], note


def _shared() -> tuple[list[dict[str, Any]], str]:
    """Two lists of passages of about 320 tokens, five examples' questions and answers to each."""
    from mark.prompting import Passage, answer_ids, build_prompt

    tokenizer = PROJECT.tokenizer
    rng = random.Random(SEED)
    made = []
    for start in range(0, EXAMPLES, 5):
        texts = rng.sample(sorted(PROJECT.chunks.values(), key=lambda chunk: chunk.chunk_id), 3)
        passages = [Passage.from_chunk(chunk) for chunk in texts]
        room = CONTEXT_TOKENS
        bare = build_prompt(tokenizer, "?", passages, room)  # cuts the passages to size
        for example in PROJECT.examples[start : start + 5]:
            prompt = build_prompt(tokenizer, example.question, bare.passages, 10 * room)
            answer = answer_ids(tokenizer, example.answer)
            made.append({"input_ids": [*prompt.ids, *answer], "answer_start": len(prompt.ids)})
    return made, f"passages cut to about {CONTEXT_TOKENS} tokens"


def _settings() -> Train:
    section = PROJECT.train
    lora = section.lora.model_copy(update={"r": 16, "lora_alpha": 32})
    changed = {"batch_size": EXAMPLES, "gradient_accumulation_steps": 1, "max_steps": 1, "lora": lora}
    return section.model_copy(update=changed)


def _ours(picked: Sequence[dict[str, Any]]) -> Callable[[], object]:
    """One optimiser step through the trainer of `mark train`."""
    from datasets import Dataset

    from mark.train.adapter import build_model
    from mark.train.data import lengths
    from mark.train.hardware import training_device, wants_bf16
    from mark.train.sampler import EpochSampler
    from mark.train.trainer import AnswerTrainer, Schedule, training_arguments
    from mark.train.workload import prepare

    settings, device = _settings(), training_device()
    bf16 = wants_bf16(settings.precision, device)
    model, tokenizer = build_model(PROJECT.base, settings.lora, SEED, device, bf16)
    collator = prepare(model, tokenizer, settings, device)
    found = Dataset.from_list(list(picked))
    schedule = Schedule.of(settings, len(found))
    arguments = training_arguments(settings, schedule, SEED, Path(tempfile.mkdtemp()), bf16, device)
    arguments.save_strategy = "no"
    order = EpochSampler(lengths(found), schedule.group, SEED, by_length=False)
    return _step(AnswerTrainer(model, arguments, found, found.select([]), collator, order))


def _trl(picked: Sequence[dict[str, Any]]) -> Callable[[], object]:
    """One optimiser step of TRL's trainer: its defaults, our LoRA, loss on the answers."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from mark.models.loading import load_base
    from mark.models.targets import lora_targets

    lora = _settings().lora
    model, tokenizer = load_base(PROJECT.base)
    found = [
        {
            "input_ids": row["input_ids"],
            "completion_mask": [int(i >= row["answer_start"]) for i in range(len(row["input_ids"]))],
        }
        for row in picked
    ]
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=EXAMPLES, max_steps=1, report_to="none",
        save_strategy="no", disable_tqdm=True, logging_strategy="no", use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.lora_alpha, lora_dropout=lora.lora_dropout, task_type="CAUSAL_LM",
        target_modules=lora_targets(str(model.config.model_type)),
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(found), processing_class=tokenizer,
        peft_config=config,
    )  # fmt: skip
    return _step(trainer)


def _step(trainer: Any) -> Callable[[], float]:
    """Trains one step a call; its seconds without what a trainer does before and after."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.perf_counter() - self.started

    clock = Clock()
    trainer.add_callback(clock)

    def step() -> float:
        trainer.train()
        return clock.seconds

    return step


if __name__ == "__main__":
    show(rows())
