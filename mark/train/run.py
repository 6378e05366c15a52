"""Training from files to an entry: resumable, within memory."""

from __future__ import annotations

import gc
import logging
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainerState

from mark.config import Train
from mark.errors import MarkError
from mark.files import write_json
from mark.models.quiet import quiet_progress
from mark.models.source_file import Source, base_sha256, read_source
from mark.models.sources import verify_model
from mark.seeding import derived_seed, seed_everything
from mark.train.callbacks import (
    Meter,
    ProgressCallback,
    TensorBoardCallback,
    curve_rows,
    dvclive_callback,
)
from mark.train.checkpoints import is_complete, locked, newest_complete, step_of
from mark.train.data import lengths, memory_mapped
from mark.train.entry import Entry, TrainResult, write_entry
from mark.train.inputs import TrainInputs, params_sha256, run_key
from mark.train.plan import disk_bytes
from mark.train.processes import processes, rank
from mark.train.together import agreed, check_shared, joined, meet, smallest
from mark.train.trainer import AnswerTrainer, Schedule
from mark.train.workload import Workload, fitting_schedule, load_workload, run_tokens

log = logging.getLogger(__name__)


def run(inputs: TrainInputs, settings: Train, seed: int, out: Path) -> TrainResult:
    """Train and write the entry; the guards have been passed. See `mark.train.train`."""
    started = time.monotonic()
    key = run_key(inputs, settings, seed)
    folder = inputs.checkpoints / key[:16]
    with locked(folder), quiet_progress(), joined(key):
        check_shared(folder)
        try:
            result = _Run(inputs, settings, seed, out, folder).execute(started)
        except torch.OutOfMemoryError:
            raise _out_of_memory(settings, 1) from None
        meet()
        if rank() == 0:
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
        verify_model(self.inputs.base_folder)
        source = read_source(self.inputs.base_folder)
        work = load_workload(self.inputs, self.settings, self.seed)
        trainable, _ = work.model.get_nb_trainable_parameters()
        self._need_disk(disk_bytes(trainable))
        rows = self.folder / f"rows-{rank()}"
        shutil.rmtree(rows, ignore_errors=True)
        work.train_rows = memory_mapped(work.train_rows, rows / "train")
        work.val_rows = memory_mapped(work.val_rows, rows / "val")
        asked = Schedule.of(self.settings, len(work.train_rows), processes())
        schedule, _, _ = fitting_schedule(work, asked)
        if schedule != asked:
            log.warning(_smaller("train.batch_size does not fit into memory", asked, schedule))
        if schedule.group < schedule.processes:
            log.warning(
                "an optimiser step has %d examples for %d processes, some have none; raise train.batch_size",
                schedule.group,
                schedule.processes,
            )
        seed_everything(self.seed)
        state, meter = self._train(work, schedule)
        entry = self._entry(source, state, len(work.train_rows), trainable, work.bf16)
        if rank() == 0:
            self._write(work, state, entry)
        return TrainResult(entry, meter.tokens_per_s, _peak_mb(work), time.monotonic() - started)

    def _train(self, work: Workload, schedule: Schedule) -> tuple[TrainerState, Meter]:
        """Train to the end; out of GPU memory halves the micro-batch and goes on."""
        while True:
            try:
                return self._attempt(work, schedule)
            except torch.OutOfMemoryError:
                smaller = schedule.halved()
            if smaller is None or schedule.processes > 1:  # the others have not run out and wait for this one
                raise _out_of_memory(self.settings, schedule.micro_batch)
            log.warning(_smaller("out of GPU memory", schedule, smaller))
            schedule = smaller
            del work.model
            gc.collect()
            if work.device.type == "cuda":
                torch.cuda.empty_cache()
            work.rebuild(self.inputs, self.settings, self.seed)

    def _attempt(self, work: Workload, schedule: Schedule) -> tuple[TrainerState, Meter]:
        found = newest_complete(self.folder) if rank() == 0 else None
        step = agreed(0 if found is None else step_of(found))
        newest = self.folder / f"checkpoint-{step}" if step else None
        if newest is not None:
            _check_seen(newest)
        if newest is not None and step >= schedule.steps:
            return TrainerState.load_from_json(str(newest / "trainer_state.json")), Meter()
        if newest is not None:
            log.info("going on from step %d of %d", step, schedule.steps)
        trainer = self._trainer(work, schedule, step)
        if schedule.processes > 1:  # each draws its own dropout
            torch.manual_seed(derived_seed(self.seed, "process", str(rank())))
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
        return trainer.state, trainer.meter

    def _trainer(self, work: Workload, schedule: Schedule, first_step: int) -> AnswerTrainer:
        trainer = work.trainer(self.settings, schedule, self.seed, self.folder)
        by_length, places = self.settings.length_grouping, work.places(self.settings)
        tokens, _ = run_tokens(lengths(work.train_rows), None, schedule, self.seed, by_length, places)
        validations = schedule.validations if len(work.val_rows) else 0
        trainer.add_callback(ProgressCallback(trainer.meter, tokens // schedule.processes, validations))
        if rank() == 0:
            for callback in self._reports(first_step):
                trainer.add_callback(callback)
        return trainer

    def _reports(self, first_step: int) -> Iterator[TrainerCallback]:
        if "tensorboard" in self.settings.report_to:
            yield TensorBoardCallback(self.inputs.logs, self.folder.name, first_step)
        if "dvclive" in self.settings.report_to:
            folder = self.inputs.logs / "dvclive"
            yield dvclive_callback(folder, self.settings.model_dump(), resume=first_step > 0)

    def _entry(self, source: Source, state: TrainerState, examples: int, trainable: int, bf16: bool) -> Entry:
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


def _check_seen(checkpoint: Path) -> None:
    """A process that does not see the optimiser's state would go on with a new one, without a word.

    Raises:
        MarkError: A file system shows it late, or in part, to some of the machines.
    """
    if processes() > 1 and smallest(int(is_complete(checkpoint))) == 0:
        raise MarkError(f"some machines of this training do not see {checkpoint} whole; start it again")


def _out_of_memory(settings: Train, micro_batch: int) -> MarkError:
    if micro_batch > 1:
        return MarkError(
            f"out of GPU memory with {micro_batch} examples at a time; lower train.batch_size and raise "
            "train.gradient_accumulation_steps by as much"
        )
    return MarkError(
        "out of GPU memory with one example at a time; lower train.max_seq_length "
        f"(now {settings.max_seq_length}) or train.lora.r (now {settings.lora.r})"
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
    if work.device.type == "cuda":
        return torch.cuda.max_memory_allocated(work.device) >> 20
    unit = 1024 if sys.platform != "darwin" else 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit >> 20
