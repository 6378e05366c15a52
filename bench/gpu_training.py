"""A training step on a CUDA GPU, ours and TRL's, at several batch sizes; rows of `bench.training`.

Rows of 384 tokens with 16 answer tokens. Each number is of a whole run of the trainer (data, clipping,
optimiser): chunks of steps between two waits for the GPU, after steps that warm up, which are reported apart.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from bench.carried import ANSWER, TOKENS, Carried
from bench.rows import Pair, Row, alone, compared, unmeasured, versions
from bench.rows import device as device_name

SIZES = (8, 16, 32, 64)
AT = {size: f"training: GPU, batch {size}" for size in SIZES}
BEST = "training: GPU, best batch of each"
FLOOR = "training: GPU, tokens a second at batch 64"
EAGER = "training: GPU, batch 8, against our own steps uncompiled"
WARM_UP = "training: GPU, warm-up of a shape at batch 64"
USED = "training: GPU, use of its operations at batch 64"
IDLE = "training: GPU, idle share of a step at batch 64"
NAMES = (*AT.values(), BEST, FLOOR, EAGER, WARM_UP, USED, IDLE)
BARS = {AT[8]: 10.0, BEST: 4.0, FLOOR: 250_000.0}
UNITS = {WARM_UP: "s", USED: "%", IDLE: "%"}
PEER = "TRL's SFTTrainer, its defaults (bf16, gradient checkpointing)"
OURS = "our own steps, train.compile: off"
WARM, CHUNK, CHUNKS = 5, 10, 3  # steps, steps between two waits, such chunks
SEED = 11
RANK = 16
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16, data sheets of the SXM cards
_PROFILED = 8  # steps
_TOP = 5  # kernels that are named


def rows(carried: Carried) -> Iterator[Row]:
    """The rows of a machine with a GPU."""
    found = carried.rows()
    ours = {size: _measured(_ours(carried, found, size)) for size in SIZES}
    uncompiled = _measured(_ours(carried, found, SIZES[0], compiled="off"))
    peer, why = _peers(carried, found)
    for size, name in AT.items():
        yield _against(name, ours[size], peer.get(size), PEER, why, carried.note)
    best = {size: median(run.speeds) for size, run in ours.items()}
    ours_best = max(best, key=lambda size: best[size])
    theirs = max(peer, key=lambda size: median(peer[size].speeds), default=0)
    note = f"ours at {ours_best}, TRL at {theirs}"
    yield _against(BEST, ours[ours_best], peer.get(theirs), PEER, why, note)
    speeds = ours[64].speeds
    floor, reached = BARS[FLOOR], median(speeds)
    table = ", ".join(f"{speed:.0f} at {size}" for size, speed in best.items())
    yield Row(
        FLOOR, "tokens/s", "a floor", reached, spread=(min(speeds), max(speeds)), bar=floor,
        met=reached >= floor, device=device_name(), versions=versions(), note=table,
    )  # fmt: skip
    yield _against(EAGER, ours[8], uncompiled, OURS, "", "")
    yield alone(WARM_UP, [ours[64].warm_up], "s", "compiling, recording and the first steps")
    yield _used(carried, speeds)
    yield _idle(carried, found)


def missing() -> Iterator[Row]:
    """The same rows where there is no GPU."""
    for name in NAMES:
        peer = {EAGER: OURS, FLOOR: "a floor"}.get(name, "nothing" if name in UNITS else PEER)
        yield unmeasured(name, UNITS.get(name, "tokens/s"), peer, BARS.get(name), "no GPU here")


@dataclass(frozen=True)
class Run:
    """A run's speeds after warming up [tokens/s, one a chunk], and the seconds of warming up."""

    speeds: tuple[float, ...]
    warm_up: float


def _against(name: str, ours: Run, peer: Run | None, peer_is: str, why: str, note: str) -> Row:
    if peer is None:
        row = alone(name, ours.speeds, "tokens/s", f"{peer_is}: not measured, {why}")
        return Row(**(row.__dict__ | {"bar": BARS.get(name), "peer_is": peer_is}))
    warm = f"warm-up {ours.warm_up:.0f} s against {peer.warm_up:.0f} s"
    note = f"{warm}; {note}" if note else warm
    return compared(name, Pair(ours.speeds, peer.speeds), "tokens/s", peer_is, BARS.get(name), note)


def _peers(carried: Carried, found: Sequence[dict[str, Any]]) -> tuple[dict[int, Run], str]:
    try:
        import trl  # noqa: F401 - whether it is there
    except ImportError as fault:
        return {}, f"trl cannot be imported ({fault})"
    return {size: _measured(_trl(carried, found, size)) for size in SIZES}, ""


def _measured(trainer: Any) -> Run:
    """Train once; a clock that waits for the GPU at the ends of chunks only."""
    import torch
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= WARM and (state.global_step - WARM) % CHUNK == 0:
                torch.cuda.synchronize()
                ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    started = time.perf_counter()
    trainer.train()
    tokens = trainer.args.per_device_train_batch_size * TOKENS * CHUNK
    taken = [later - one for one, later in pairwise(ends)]
    run = Run(tuple(tokens / seconds for seconds in taken), ends[0] - started)
    del trainer
    gc.collect()
    torch.cuda.empty_cache()
    return run


def _ours(carried: Carried, found: Sequence[dict[str, Any]], size: int, compiled: str = "auto") -> Any:
    """The trainer of `mark train`."""
    from datasets import Dataset

    from mark.train.adapter import build_model
    from mark.train.data import lengths
    from mark.train.hardware import training_device
    from mark.train.sampler import EpochSampler
    from mark.train.trainer import AnswerTrainer, Schedule, training_arguments
    from mark.train.workload import prepare

    settings, device = _settings(size, compiled), training_device()
    model, tokenizer = build_model(carried.base, settings.lora, SEED, device, bf16=True)
    collator = prepare(model, tokenizer, settings, device)
    data = Dataset.from_list(_enough(found, size))
    schedule = Schedule.of(settings, len(data))
    arguments = training_arguments(settings, schedule, SEED, Path(tempfile.mkdtemp()), True, device)
    arguments.save_strategy = "no"
    order = EpochSampler(lengths(data), schedule.group, SEED, by_length=False)
    return AnswerTrainer(model, arguments, data, data.select([]), collator, order)


def _enough(found: Sequence[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """Rows for all steps without a second epoch."""
    wanted = size * (WARM + CHUNK * CHUNKS)
    return (list(found) * -(-wanted // len(found)))[:wanted]


def _settings(size: int, compiled: str) -> Any:
    from mark.config import Train

    lora = {"r": RANK, "lora_alpha": 2 * RANK, "lora_dropout": 0.0, "target_modules": "auto"}
    return Train.model_validate(
        {
            "dry_run": False, "epochs": 1.0, "max_steps": WARM + CHUNK * CHUNKS, "batch_size": size,
            "gradient_accumulation_steps": 1, "learning_rate": 2e-4, "warmup_ratio": 0.1, "weight_decay": 0.0,
            "max_grad_norm": 1.0, "max_seq_length": TOKENS, "evals_per_epoch": 1, "precision": "bf16",
            "length_grouping": True, "packing": "auto", "compile": compiled, "report_to": [], "lora": lora,
        }
    )  # fmt: skip


def _trl(carried: Carried, found: Sequence[dict[str, Any]], size: int) -> Any:
    """TRL's trainer: its defaults, our LoRA, loss on the answers."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from mark.models.loading import load_base
    from mark.models.targets import lora_targets

    model, tokenizer = load_base(carried.base)
    mask = [int(i >= TOKENS - ANSWER) for i in range(TOKENS)]
    data = [{"input_ids": row["input_ids"], "completion_mask": mask} for row in _enough(found, size)]
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=size, max_steps=WARM + CHUNK * CHUNKS,
        report_to="none", save_strategy="no", disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    lora = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, task_type="CAUSAL_LM",
        target_modules=lora_targets(str(model.config.model_type)),
    )  # fmt: skip
    return SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        peft_config=lora,
    )


def _used(carried: Carried, speeds: Sequence[float]) -> Row:
    """Operations a second of the step's products over what the card can do."""
    from transformers import AutoConfig

    from bench.training import operations
    from mark.models.packing import Segments

    config = AutoConfig.from_pretrained(carried.base, trust_remote_code=False)
    step = operations(Segments((TOKENS,) * 64, ((),) * 64, TOKENS * 64), config, RANK, ANSWER * 64)
    each = sum(step.values()) / (TOKENS * 64)
    product = _product_speed()
    known = next((peak for name, peak in PEAKS.items() if name in device_name()), None)
    peak, of = (product, "of one large product") if known is None else (known, "of the data sheet")
    note = (
        f"{each / 1e6:.0f} million operations a token (docs/speed.md) over the {peak / 1e12:.0f} TFLOP/s "
        f"{of}; one product of 8192 x 8192 x 8192: {product / 1e12:.0f} TFLOP/s"
    )
    return alone(USED, [100 * speed * each / peak for speed in speeds], "%", note)


def _product_speed() -> float:
    import torch

    one, other = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    taken = []
    for _ in range(13):
        torch.cuda.synchronize()
        started = time.perf_counter()
        one @ other
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return 2.0 * 8192**3 / median(taken[3:])


def _idle(carried: Carried, found: Sequence[dict[str, Any]]) -> Row:
    """How much of the time no kernel runs, and which kernels take most of the rest, by PyTorch's profiler."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from transformers import TrainerCallback

    profiler = profile(activities=[ProfilerActivity.CUDA])
    last = WARM + _PROFILED

    class Span(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in (WARM, last):
                torch.cuda.synchronize()
                (profiler.start if state.global_step == WARM else profiler.stop)()

    trainer = _ours(carried, found, 64)
    trainer.add_callback(Span())
    trainer.train()
    events: Any = profiler
    kernels = [event for event in events.events() if event.device_type.name == "CUDA"]
    spans = [(event.time_range.start, event.time_range.end, event.name) for event in kernels]
    idle, note = idle_share(spans)
    return alone(IDLE, [100 * idle], "%", f"of {_PROFILED} steps; {note}")


def idle_share(spans: Sequence[tuple[float, float, str]]) -> tuple[float, str]:
    """The share of the time from the first start to the last end in which nothing ran, and what ran most.

    Args:
        spans: Start, end and name of each kernel; they may overlap.
    """
    busy, reached = 0.0, float("-inf")
    taken: dict[str, float] = {}
    for start, end, name in sorted(spans):
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
        taken[name] = taken.get(name, 0.0) + end - start
    if not taken:
        return 1.0, "no kernel was seen"
    whole = reached - min(start for start, _, _ in spans)
    top = sorted(taken.items(), key=lambda one: -one[1])[:_TOP]
    named = ", ".join(f"{name[:48]} {seconds / sum(taken.values()):.0%}" for name, seconds in top)
    return 1.0 - busy / whole, f"of what runs: {named}"
