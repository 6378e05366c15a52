"""The model with its rows on a device, and one micro-step of it for measuring."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from mark.config import Train
from mark.errors import DataError, MarkError
from mark.files import read_jsonl
from mark.models.packed_attention import attention_fits, use_packed_attention
from mark.models.source_file import storage_in
from mark.models.storage import Storage
from mark.records import Example
from mark.train.adapter import build_model
from mark.train.buckets import BucketCollator
from mark.train.callbacks import batch_tokens
from mark.train.collator import AnswerCollator, Collator
from mark.train.compiling import wants_fixed_steps
from mark.train.data import encode, lengths
from mark.train.fixed_step import FixedStep
from mark.train.hardware import Peak, free_memory_bytes, peak_memory, training_device, wants_bf16
from mark.train.inputs import TrainInputs
from mark.train.lora_path import use_one_operation
from mark.train.loss import answer_loss, find_body
from mark.train.packing import PackedCollator, packed_tokens
from mark.train.processes import processes, processes_here, wants_shards
from mark.train.sampler import EpochSampler, epoch_order, places_by_beginning
from mark.train.together import check_alike, smallest
from mark.train.trainer import AnswerTrainer, Schedule, training_arguments

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

_MARGIN = 0.9  # of the free memory is used at most
_WARM_UP_TOKENS = 64
_SLOW_S = 15.0  # a one-row micro-step above this is extrapolated rather than repeated


class Rows(Protocol):
    """A dataset, or a list, of encoded rows."""

    def __getitem__(self, row: int, /) -> dict[str, Any]: ...


@dataclass
class Workload:
    """Everything that a run of training computes with."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    train_rows: Dataset
    val_rows: Dataset
    collator: Collator
    device: torch.device
    bf16: bool

    def rebuild(self, inputs: TrainInputs, settings: Train, seed: int) -> None:
        """The model anew, as it was before training."""
        storage = storage_of(settings, inputs.base_folder)
        self.model, _ = build_model(inputs.base_folder, settings.lora, seed, self.device, self.bf16, storage)
        self.collator = prepare(self.model, self.tokenizer, settings, self.device)

    def trainer(self, settings: Train, schedule: Schedule, seed: int, folder: Path) -> AnswerTrainer:
        """What trains the model; `folder` gets the checkpoints."""
        arguments = training_arguments(settings, schedule, seed, folder, self.bf16, self.device)
        places = self.places(settings)
        order = EpochSampler(lengths(self.train_rows), schedule.group, seed, settings.length_grouping, places)
        return AnswerTrainer(self.model, arguments, self.train_rows, self.val_rows, self.collator, order)

    def places(self, settings: Train) -> list[int] | None:
        """What groups the training rows by their passages, where that is asked for."""
        return places_by_beginning(self.train_rows["input_ids"]) if settings.passage_grouping else None

    def run_tokens(self, settings: Train, schedule: Schedule, seed: int) -> tuple[int, int]:
        """See the function of this name."""
        rows = self.train_rows if isinstance(self.collator, PackedCollator) else None
        sizes, by_length = lengths(self.train_rows), settings.length_grouping
        return run_tokens(sizes, rows, schedule, seed, by_length, self.places(settings))


def load_workload(inputs: TrainInputs, settings: Train, seed: int) -> Workload:
    """Load architecture and data.

    Raises:
        DataError: A file is missing or damaged, or there are no training examples.
        ModelError: The base cannot be loaded.
    """
    train, val = read_jsonl(inputs.train_file, Example), read_jsonl(inputs.val_file, Example)
    if not train:
        raise DataError(
            f"{inputs.train_file} holds no examples; raise data_prep.max_samples or add documents"
        )
    chunks = inputs.passages()
    device = training_device()
    bf16 = wants_bf16(settings.precision, device)
    check_alike(bf16)
    model, tokenizer = build_model(
        inputs.base_folder, settings.lora, seed, device, bf16, storage_of(settings, inputs.base_folder)
    )
    rows = [encode(part, chunks, tokenizer, settings.max_seq_length) for part in (train, val)]
    collator = prepare(model, tokenizer, settings, device)
    return Workload(model, tokenizer, rows[0], rows[1], collator, device, bf16)


def storage_of(settings: Train, base: Path) -> Storage:
    """How training holds the base: in 4 bits as `train.quantization` or its record says, in shards as the
    launch does; never spread over devices, of which each process has its own.
    """
    four_bit = settings.quantization == "nf4" or storage_in(base).four_bit
    return Storage(four_bit=four_bit, shards=processes() if wants_shards() else 1)


def prepare(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, settings: Train, device: torch.device
) -> Collator:
    """Let a model compute what its training needs and no more; returns what makes its batches.

    Rows are laid end to end on a CPU, where time follows the tokens. A GPU, which would wait for many small
    launches, gets rows padded to a few lengths and compiled steps; models with other attention padded rows.
    """
    if wants_fixed_steps(model, settings, device):  # the compiler makes one operation of peft's own layer
        return BucketCollator(int(tokenizer.pad_token_id or 0))
    use_one_operation(model)
    plain = settings.packing == "auto" and not settings.lora.lora_dropout  # branches would share its draws
    if plain and device.type == "cpu" and attention_fits(model, settings.max_seq_length):
        use_packed_attention(model)
        return PackedCollator()
    return AnswerCollator(int(tokenizer.pad_token_id or 0))


@dataclass(frozen=True)
class Timing:
    """Of one micro-step."""

    tokens: int  # of the rows, padding not counted
    forward_s: float
    total_s: float


def micro_step(work: Workload, rows: list[int], last_tokens: int | None = None) -> Timing:
    """Forward and backward pass over some rows, without an optimiser step.

    Args:
        work: The workload.
        rows: Row numbers of the training set.
        last_tokens: Only so many tokens from each row's end.
    """
    picked = [work.train_rows[row] for row in rows]
    if last_tokens is not None:
        picked = [_cut(row["input_ids"], row["answer_start"], last_tokens) for row in picked]
    batch = work.collator(picked)
    batch |= {name: value.to(work.device) for name, value in batch.items() if isinstance(value, torch.Tensor)}
    started = time.monotonic()
    with torch.autocast(work.device.type, torch.bfloat16, enabled=work.bf16):
        loss, count = answer_loss(work.model, find_body(work.model), batch)
    _synchronize(work.device)
    middle = time.monotonic()
    torch.autograd.backward(loss / max(count, 1))
    _synchronize(work.device)
    ended = time.monotonic()
    work.model.zero_grad(set_to_none=True)
    return Timing(batch_tokens(batch), middle - started, ended - started)


def fitting_schedule(work: Workload, schedule: Schedule) -> tuple[Schedule, Peak, Timing]:
    """Shrink the micro-batch until its measured need fits into free memory.

    One micro-step with the longest row is measured (after a short one that warms up); a micro-batch
    of n rows takes n times as much. On a GPU nothing is shrunk: running out is an exception there.

    Returns:
        The schedule, the memory of the one-row micro-step, and its time.

    Raises:
        MarkError: Not even one row fits.
    """
    sizes = lengths(work.train_rows)
    longest = max(range(len(sizes)), key=lambda row: sizes[row])
    with peak_memory(work.device) as short:
        micro_step(work, [longest], _WARM_UP_TOKENS)
    on_cpu = work.device.type == "cpu"
    if on_cpu:
        _refuse_unless(short.grown * sizes[longest] // _WARM_UP_TOKENS // 2, sizes[longest])
    with peak_memory(work.device) as one:
        timing = micro_step(work, [longest])
    while on_cpu and one.grown * schedule.micro_batch * processes_here() > free_memory_bytes() * _MARGIN:
        smaller = schedule.halved()
        if smaller is None:
            _refuse_unless(one.grown, sizes[longest])
            break
        schedule = smaller
    return replace(schedule, micro_batch=smallest(schedule.micro_batch)), one, timing


def typical_timing(work: Workload, schedule: Schedule, one_row: Timing) -> Timing:
    """Time a micro-step of ordinary rows; a slow machine's one-row step stands in for it.

    All processes do the same: with shards none can take a step alone.
    """
    if smallest(int(one_row.total_s <= _SLOW_S)) == 0:
        return one_row
    sizes = lengths(work.train_rows)
    by_size = sorted(range(len(sizes)), key=lambda row: sizes[row])
    start = max(0, (len(by_size) - schedule.micro_batch) // 2)
    rows = by_size[start : start + schedule.micro_batch]
    micro_step(work, rows)
    eager = micro_step(work, rows)
    return _fixed_timing(work, rows, eager) if isinstance(work.collator, BucketCollator) else eager


def _fixed_timing(work: Workload, rows: list[int], eager: Timing) -> Timing:
    """The same micro-step, compiled; validation stays as it is."""
    step = FixedStep(work.model, len(rows), work.bf16)
    batch = work.collator([work.train_rows[row] for row in rows])
    step(batch, 1)
    _synchronize(work.device)
    started = time.monotonic()
    step(batch, 1)
    _synchronize(work.device)
    work.model.zero_grad(set_to_none=True)
    return replace(eager, total_s=time.monotonic() - started)


def run_tokens(
    sizes: Sequence[int],
    packed: Rows | None,
    schedule: Schedule,
    seed: int,
    by_length: bool,
    places: Sequence[int] | None = None,
) -> tuple[int, int]:
    """Tokens of all steps of a run: those of all rows, and those that the model reads.

    Args:
        sizes: Tokens of each training row.
        packed: The rows, where shared beginnings are read once; None = rows are padded.
        schedule: Of the run.
        seed: Of the order.
        by_length: As `EpochSampler`.
        places: As `EpochSampler`.
    """
    group = schedule.group
    real = computed = step = epoch = 0
    while step < schedule.steps:
        order = epoch_order(sizes, group, seed + epoch, by_length, places)
        for start in range(0, len(order), group):
            if step == schedule.steps:
                break
            taken = order[start : start + group]
            for i in range(0, len(taken), schedule.micro_batch):
                batch = taken[i : i + schedule.micro_batch]
                real += sum(sizes[row] for row in batch)
                if packed is None:
                    computed += max(sizes[row] for row in batch) * len(batch)
                else:
                    computed += packed_tokens([packed[row] for row in batch])
            step += 1
        epoch += 1
    return real, computed


def _cut(ids: list[int], answer_start: int, last_tokens: int) -> dict[str, object]:
    dropped = max(0, len(ids) - last_tokens)
    return {"input_ids": ids[dropped:], "answer_start": max(1, answer_start - dropped)}


def _refuse_unless(needed: int, tokens: int) -> None:
    free = int(free_memory_bytes() * _MARGIN)
    if needed > free:
        raise MarkError(
            f"training one example of {tokens} tokens needs about {needed >> 20} MB and {free >> 20} MB are "
            "free; lower train.max_seq_length or train.lora.r, or close other programs"
        )


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
