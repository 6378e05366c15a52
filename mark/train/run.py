"""Training from files to an entry: guarded, resumable, within memory. Heavy imports stay inside."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mark.config import Train
from mark.errors import GuardError, MarkError
from mark.files import write_json
from mark.train.guard import check_guards
from mark.train.inputs import TrainInputs, params_sha256, run_key
from mark.train.plan import Plan, disk_bytes, output_places

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerState

    from mark.train.callbacks import Meter
    from mark.train.entry import Entry
    from mark.train.trainer import AnswerTrainer, Schedule
    from mark.train.workload import Workload

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a run of training gave; the last three are of this session and never part of an output."""

    entry: Entry
    tokens_per_s: float  # real tokens a second of optimiser steps
    peak_memory_mb: int  # resident; on a GPU allocated there
    seconds: float  # validation and loading included


def plan(inputs: TrainInputs, settings: Train, seed: int, out: Path) -> Plan:
    """The dry run: load architecture, data and trainer, measure a micro-step, train nothing.

    Args:
        inputs: What is read and where by-products would go.
        settings: The train section; a guarded one is planned as if for one epoch.
        seed: Of the run.
        out: The entry's folder.

    Raises:
        MarkError: Whatever would keep training from starting, but for the guards.
    """
    from mark.train.hardware import free_memory_bytes, peak_memory
    from mark.train.trainer import Schedule
    from mark.train.workload import fitting_schedule, load_workload, lengths, run_tokens, typical_timing

    inputs.check()
    guarded = settings
    if settings.max_steps == 0 or (settings.epochs == 0 and settings.max_steps < 0):
        settings = settings.model_copy(update={"epochs": 1.0, "max_steps": -1})
    work = load_workload(inputs, settings, seed)
    asked = Schedule.of(settings, len(work.train_rows))
    free = free_memory_bytes()
    schedule, one_row, one_timing = fitting_schedule(work, asked)
    with peak_memory(work.device) as peak:
        timing = typical_timing(work, schedule, one_timing)
    sizes = lengths(work.train_rows)
    real, padded = run_tokens(sizes, schedule, seed, settings.length_grouping)
    rate = timing.tokens / timing.total_s
    validation_s = sum(lengths(work.val_rows)) * timing.forward_s / timing.tokens * schedule.validations
    trainable, total = work.model.get_nb_trainable_parameters()
    needed = max(peak.peak, one_row.before + one_row.grown * schedule.micro_batch)
    return Plan(
        entry=out.name,
        base=inputs.base_folder.name,
        device=str(work.device),
        precision="bf16" if work.bf16 else "fp32",
        trainable_parameters=trainable,
        total_parameters=total,
        examples=len(work.train_rows),
        validation_examples=len(work.val_rows),
        tokens=real,
        padded_tokens=padded,
        steps=schedule.steps,
        micro_batch=schedule.micro_batch,
        accumulation=schedule.accumulation,
        asked_micro_batch=asked.micro_batch,
        seconds=padded / rate + validation_s,
        tokens_per_s=rate,
        peak_memory_mb=needed >> 20,
        free_memory_mb=free >> 20,
        disk_mb=disk_bytes(trainable) >> 20,
        outputs=output_places(out, inputs.plots, inputs.logs, inputs.checkpoints),
        guard=_guard_sentence(guarded),
    )


def _guard_sentence(settings: Train) -> str | None:
    try:
        check_guards(settings, confirmed=True)
    except GuardError as guard:
        return str(guard)
    return None


def train(inputs: TrainInputs, settings: Train, seed: int, out: Path, confirmed: bool = False) -> TrainResult:
    """Fine-tune the base model; the checkpoint with the lowest validation loss becomes the entry.

    A run that was interrupted goes on from its newest complete checkpoint and ends with the same
    losses and weights as an unbroken one.

    Args:
        inputs: What is read and where by-products go.
        settings: The train section.
        seed: Of adapter, dropout and order.
        out: The entry's folder, replaced as a whole.
        confirmed: `--confirm-run`, or a DVC stage.

    Raises:
        GuardError: A guard rail forbids it.
        MarkError: Data, model, memory or disk do not allow it.
    """
    check_guards(settings, confirmed)
    inputs.check()
    started = time.monotonic()
    folder = inputs.checkpoints / run_key(inputs, settings, seed)[:16]
    with _locked(folder), _quiet():
        result = _Run(inputs, settings, seed, out, folder).execute(started)
        if _rank() == 0:
            shutil.rmtree(folder)
    return result


@dataclass
class _Run:
    """One run of training: its files, settings and folder of checkpoints."""

    inputs: TrainInputs
    settings: Train
    seed: int
    out: Path
    folder: Path

    def execute(self, started: float) -> TrainResult:
        from mark.models.source_file import read_source
        from mark.models.sources import verify_model
        from mark.seeding import seed_everything
        from mark.train.data import memory_mapped
        from mark.train.trainer import Schedule
        from mark.train.workload import fitting_schedule, load_workload

        verify_model(self.inputs.base_folder)
        source = read_source(self.inputs.base_folder)
        work = load_workload(self.inputs, self.settings, self.seed)
        trainable, _ = work.model.get_nb_trainable_parameters()
        self._need_disk(disk_bytes(trainable))
        rows = self.folder / f"rows-{_rank()}"
        shutil.rmtree(rows, ignore_errors=True)
        work.train_rows = memory_mapped(work.train_rows, rows / "train")
        work.val_rows = memory_mapped(work.val_rows, rows / "val")
        asked = Schedule.of(self.settings, len(work.train_rows), _processes())
        schedule, _, _ = fitting_schedule(work, asked)
        if schedule != asked:
            log.warning(_smaller("train.batch_size does not fit into memory", asked, schedule))
        seed_everything(self.seed)
        state, meter = self._train(work, schedule)
        entry = self._entry(source, state, len(work.train_rows), trainable, work.bf16)
        if _rank() == 0:
            self._write(work, state, entry)
        return TrainResult(entry, meter.tokens_per_s, _peak_mb(work), time.monotonic() - started)

    def _train(self, work: Workload, schedule: Schedule) -> tuple[TrainerState, Meter]:
        """Train to the end; out of GPU memory halves the micro-batch and goes on."""
        import torch

        from mark.train.adapter import build_model

        while True:
            try:
                return self._attempt(work, schedule)
            except torch.OutOfMemoryError:
                smaller = schedule.halved()
            if smaller is None:
                raise MarkError(
                    "out of GPU memory with one example at a time; lower train.max_seq_length "
                    f"(now {self.settings.max_seq_length}) or train.lora.r (now {self.settings.lora.r})"
                )
            log.warning(_smaller("out of GPU memory", schedule, smaller))
            schedule = smaller
            del work.model
            gc.collect()
            if work.device.type == "cuda":
                torch.cuda.empty_cache()
            work.model, _ = build_model(
                self.inputs.base_folder, self.settings.lora, self.seed, work.device, work.bf16
            )

    def _attempt(self, work: Workload, schedule: Schedule) -> tuple[TrainerState, Meter]:
        from transformers import TrainerState

        from mark.train.callbacks import Meter
        from mark.train.checkpoints import newest_complete, step_of

        newest = newest_complete(self.folder)
        if newest is not None and step_of(newest) >= schedule.steps:
            return TrainerState.load_from_json(str(newest / "trainer_state.json")), Meter()
        if newest is not None:
            log.info("going on from step %d of %d", step_of(newest), schedule.steps)
        trainer = self._trainer(work, schedule, 0 if newest is None else step_of(newest))
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
        return trainer.state, trainer.meter

    def _trainer(self, work: Workload, schedule: Schedule, first_step: int) -> AnswerTrainer:
        from mark.train.callbacks import ProgressCallback
        from mark.train.trainer import AnswerTrainer, training_arguments
        from mark.train.workload import lengths, run_tokens

        arguments = training_arguments(
            self.settings, schedule, self.seed, self.folder, work.bf16, work.device
        )
        by_length = self.settings.length_grouping
        trainer = AnswerTrainer(
            work.model, arguments, work.train_rows, work.val_rows, work.collator, by_length
        )
        tokens, _ = run_tokens(lengths(work.train_rows), schedule, self.seed, by_length)
        validations = schedule.validations if len(work.val_rows) else 0
        trainer.add_callback(ProgressCallback(trainer.meter, tokens // _processes(), validations))
        if _rank() == 0:
            for callback in self._reports(first_step):
                trainer.add_callback(callback)
        return trainer

    def _reports(self, first_step: int) -> Iterator[TrainerCallback]:
        from mark.train.callbacks import TensorBoardCallback, dvclive_callback

        if "tensorboard" in self.settings.report_to:
            yield TensorBoardCallback(self.inputs.logs, self.folder.name, first_step)
        if "dvclive" in self.settings.report_to:
            folder = self.inputs.logs / "dvclive"
            yield dvclive_callback(folder, self.settings.model_dump(), resume=first_step > 0)

    def _entry(self, source: object, state: TrainerState, examples: int, trainable: int, bf16: bool) -> Entry:
        from mark.models.source_file import Source
        from mark.train.entry import Entry, base_sha256

        assert isinstance(source, Source)
        best = state.best_global_step or state.global_step
        losses = {int(row["step"]): row["eval_loss"] for row in state.log_history if "eval_loss" in row}
        return Entry(
            name=self.out.name,
            base=self.inputs.base_folder.name,
            base_sha256=base_sha256(source),
            architecture=source.architecture,
            random=source.random,
            data_sha256=self.inputs.data_sha256(),
            params_sha256=params_sha256(self.settings, self.seed),
            params=self.settings.model_dump(),
            seed=self.seed,
            examples=examples,
            steps=state.global_step,
            best_step=best,
            train_loss=round(_mean_loss(state), 6),
            val_loss=round(losses[best], 6) if best in losses else None,
            trainable_parameters=trainable,
            max_seq_length=self.settings.max_seq_length,
            precision="bf16" if bf16 else "fp32",
        )

    def _write(self, work: Workload, state: TrainerState, entry: Entry) -> None:
        from mark.train.callbacks import curve_rows
        from mark.train.entry import write_entry

        curves = curve_rows(state.log_history)
        write_json(self.inputs.plots / f"{self.out.name}.json", curves)
        best = self.folder / f"checkpoint-{entry.best_step}"
        write_entry(self.out, best, work.tokenizer, entry, curves)

    def _need_disk(self, needed: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise MarkError(
                f"training needs about {needed >> 20} MB of disk in {self.inputs.checkpoints} and "
                f"{free >> 20} MB are free; make room or set paths.checkpoints"
            )


def _mean_loss(state: TrainerState) -> float:
    """Mean over all optimiser steps; a log row stands for the steps since the one before."""
    total, last = 0.0, 0
    for row in state.log_history:
        if "loss" in row:
            total += row["loss"] * (int(row["step"]) - last)
            last = int(row["step"])
    return total / max(last, 1)


def _smaller(reason: str, before: Schedule, after: Schedule) -> str:
    return (
        f"{reason}: going on with {after.micro_batch} instead of {before.micro_batch} examples at a time "
        f"and accumulation {after.accumulation} instead of {before.accumulation}"
    )


def _peak_mb(work: Workload) -> int:
    import resource
    import sys

    import torch

    if work.device.type == "cuda":
        return torch.cuda.max_memory_allocated(work.device) >> 20
    unit = 1024 if sys.platform != "darwin" else 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit >> 20


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process (or group of processes) a run: two would delete each other's checkpoints."""
    from filelock import FileLock, Timeout

    if _rank() != 0:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MarkError(
            f"this training already runs in another process (lock {lock.lock_file}); wait for it"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """Our own progress line instead of transformers' bars and notes."""
    import warnings

    from mark.models.quiet import quiet_progress

    with quiet_progress(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
