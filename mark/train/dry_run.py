"""Making the plan: everything is loaded, one micro-step is measured, nothing is trained."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from mark.config import Train
from mark.errors import GuardError
from mark.models.quiet import quiet_progress
from mark.train.data import lengths
from mark.train.guard import check_guards
from mark.train.hardware import free_memory_bytes, peak_memory
from mark.train.inputs import TrainInputs, run_key
from mark.train.plan import Plan, disk_bytes, output_places
from mark.train.processes import processes
from mark.train.together import joined
from mark.train.trainer import Schedule
from mark.train.workload import fitting_schedule, load_workload, typical_timing


def dry_run(inputs: TrainInputs, settings: Train, seed: int, out: Path) -> Plan:
    """See `mark.train.plan`."""
    guard = _guard_sentence(settings)
    if settings.max_steps == 0 or (settings.epochs == 0 and settings.max_steps < 0):
        settings = settings.model_copy(update={"epochs": 1.0, "max_steps": -1})
    key = run_key(inputs, settings, seed) if processes() > 1 else ""
    with quiet_progress(), TemporaryDirectory() as scratch, joined(key):
        free = free_memory_bytes()
        work = load_workload(inputs, settings, seed)
        asked = Schedule.of(settings, len(work.train_rows), processes())
        schedule, one_row, one_timing = fitting_schedule(work, asked)
        work.trainer(settings, schedule, seed, Path(scratch))  # whatever it refuses is refused now
        with peak_memory(work.device) as peak:
            timing = typical_timing(work, schedule, one_timing)
    real, computed = work.run_tokens(settings, schedule, seed)
    seconds_a_token = timing.total_s / timing.tokens
    validation = sum(lengths(work.val_rows)) * schedule.validations
    seconds = real * seconds_a_token + validation * timing.forward_s / timing.tokens
    trainable, total = work.model.get_nb_trainable_parameters()
    return Plan(
        entry=out.name,
        base=inputs.base_folder.name,
        device=str(work.device),
        precision="bf16" if work.bf16 else "fp32",
        trainable_parameters=trainable,
        total_parameters=total,
        processes=schedule.processes,
        examples=len(work.train_rows),
        validation_examples=len(work.val_rows),
        tokens=real,
        computed_tokens=computed,
        steps=schedule.steps,
        micro_batch=schedule.micro_batch,
        accumulation=schedule.accumulation,
        asked_micro_batch=asked.micro_batch,
        seconds=seconds / schedule.processes,
        tokens_per_s=1 / seconds_a_token,
        peak_memory_mb=max(peak.peak, one_row.before + one_row.grown * schedule.micro_batch) >> 20,
        free_memory_mb=free >> 20,
        disk_mb=disk_bytes(trainable) >> 20,
        outputs=output_places(out, inputs.plots, inputs.logs, inputs.checkpoints),
        guard=guard,
    )


def _guard_sentence(settings: Train) -> str | None:
    try:
        check_guards(settings, confirmed=True)
    except GuardError as guard:
        return str(guard)
    return None
