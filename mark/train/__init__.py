"""Fine-tuning with LoRA: the dry run and the run. Heavy imports wait until one of them starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mark.config import Train
from mark.train.guard import check_guards
from mark.train.inputs import TrainInputs
from mark.train.plan import Plan

if TYPE_CHECKING:
    from mark.train.entry import TrainResult

__all__ = ["Plan", "TrainInputs", "plan", "train"]


def plan(inputs: TrainInputs, settings: Train, seed: int, out: Path) -> Plan:
    """The dry run: load architecture, data and trainer, measure a micro-step, train nothing.

    Args:
        inputs: What is read and where by-products would go.
        settings: The train section; one without epochs is planned for one.
        seed: Of the run.
        out: The entry's folder.

    Raises:
        MarkError: Whatever would keep training from starting, but for the guards.
    """
    inputs.check()
    from mark.train.dry_run import dry_run

    return dry_run(inputs, settings, seed, out)


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
    from mark.train.run import run

    return run(inputs, settings, seed, out)
