"""Running a trainer to its end, from its newest complete checkpoint where there is one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerState

from mark.rlhf.schedule import Steps
from mark.rlhf.validation import StepProgress, ValidationCallback
from mark.train.checkpoints import newest_complete, step_of

log = logging.getLogger(__name__)


def finished(folder: Path, steps: Steps) -> TrainerState | None:
    """The state of a training that was run to its end before.

    Args:
        folder: Of its checkpoints.
        steps: Of the run.
    """
    newest = newest_complete(folder) if folder.is_dir() else None
    if newest is None or step_of(newest) < steps.steps:
        return None
    return TrainerState.load_from_json(str(newest / "trainer_state.json"))


def fit(trainer: Any, steps: Steps, measure: Callable[[], dict[str, float]], name: str) -> TrainerState:
    """Train, or go on.

    Args:
        trainer: With a meter.
        steps: Of the run.
        measure: What is kept in the trainer's history beside each checkpoint.
        name: For the log and the progress line.
    """
    newest = newest_complete(Path(trainer.args.output_dir))
    if newest is not None:
        log.info("%s: going on from step %d of %d", name, step_of(newest), steps.steps)
    trainer.add_callback(ValidationCallback(steps, measure, trainer.meter.validation_seconds))
    trainer.add_callback(StepProgress(trainer.meter, steps, name))
    trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    state: TrainerState = trainer.state
    return state
