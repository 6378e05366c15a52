"""What watches a run: evaluation points, the progress line, TensorBoard, dvclive, curves."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm
from transformers import TrainerCallback

from mark.errors import MarkError

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from mark.train.sampler import EpochSampler

log = logging.getLogger(__name__)
_QUIET_INTERVAL_S = 30.0  # between lines where no terminal shows a bar


@dataclass
class Meter:
    """Tokens and seconds of the optimiser steps of this session; validation is counted apart."""

    tokens: int = 0  # of all rows, padding not counted
    computed: int = 0  # that the model read: padding counted, shared beginnings once
    seconds: float = 0.0
    validation_seconds: list[float] = field(default_factory=list)

    def count(self, batch: Mapping[str, Any]) -> None:
        """Add a batch of either collator."""
        self.tokens += batch_tokens(batch)
        self.computed += batch["input_ids"].numel()

    @property
    def tokens_per_s(self) -> float:
        """Real tokens a second; 0 before the first step."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


def batch_tokens(batch: Mapping[str, Any]) -> int:
    """Tokens of all rows of a batch: padding not counted, shared beginnings once a row."""
    if "segments" in batch:
        return int(batch["segments"].tokens)
    return int(batch["tokens"] if "tokens" in batch else batch["attention_mask"].sum())


class FlowCallback(TrainerCallback):  # type: ignore[misc]
    """Log whenever something is saved, keep the sampler's epoch, stop on a loss that is no number."""

    def __init__(self, sampler: EpochSampler, learning_rate: float) -> None:
        self.sampler, self.learning_rate = sampler, learning_rate

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Also after a resume, where `state.epoch` is a fraction inside the epoch."""
        self.sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Without a log line at each checkpoint, a resumed run would lose the losses since the last one."""
        if control.should_save or control.should_evaluate:
            control.should_log = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Stop at once where training has diverged."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise MarkError(
                f"the training loss is {loss} at step {state.global_step}; "
                f"lower train.learning_rate (now {self.learning_rate:g})"
            )


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """A bar on a terminal, else a line every 30 s: step, loss, tokens/s, time left."""

    def __init__(self, meter: Meter, tokens: int, validations: int) -> None:
        """Take what the time left is reckoned from.

        Args:
            meter: Filled while training.
            tokens: Real tokens of all steps of the run.
            validations: How often the validation loss is taken in the run.
        """
        self.meter, self.tokens, self.validations = meter, tokens, validations
        self.bar: Any = None
        self.losses: dict[str, str] = {}
        self.step_started = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar; a resumed run starts where it stood."""
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="train",
            unit="step",
            bar_format="{desc}: {n_fmt}/{total_fmt} steps |{bar:24}| {elapsed}{postfix}",
            mininterval=0.5 if sys.stderr.isatty() else _QUIET_INTERVAL_S,
            disable=not state.is_world_process_zero,
        )

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the step's clock."""
        self.step_started = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop it and move the bar."""
        self.meter.seconds += time.monotonic() - self.step_started
        self.bar.update(1)
        self._show(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take up the newest losses."""
        names = {"loss": "loss", "eval_loss": "val"}
        self.losses |= {names[key]: f"{value:.3f}" for key, value in (logs or {}).items() if key in names}
        if self.bar is not None:
            self._show(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.bar.close()

    def _show(self, state: TrainerState) -> None:
        rate = f"{self.meter.tokens_per_s:.0f} tokens/s"
        left = f"{tqdm.format_interval(self._seconds_left(state))} left"
        losses = [f"{name} {value}" for name, value in self.losses.items()]
        self.bar.set_postfix_str(", ".join([*losses, rate, left]), refresh=False)

    def _seconds_left(self, state: TrainerState) -> float:
        share = 1.0 - state.global_step / state.max_steps
        training = share * self.tokens / max(self.meter.tokens_per_s, 1e-9)
        taken = self.meter.validation_seconds
        each = sum(taken) / len(taken) if taken else 0.0
        return float(training + each * round(share * self.validations))


class TensorBoardCallback(TrainerCallback):  # type: ignore[misc]
    """Scalars only: transformers' own callback also writes all arguments."""

    def __init__(self, folder: Path, run_key: str, first_step: int) -> None:
        """Open an event file.

        Args:
            folder: `logs/lora_training`; event files of other runs move into folders of their own,
                so that TensorBoard shows one curve a run.
            run_key: Of this run.
            first_step: Steps that are already there; what an interrupted run wrote beyond is purged.
        """
        from torch.utils.tensorboard import SummaryWriter

        suffix = f".{run_key[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("events.out.tfevents.*")):
            if path.suffix != suffix:
                (folder / path.suffix.lstrip(".")).mkdir(exist_ok=True)
                path.replace(folder / path.suffix.lstrip(".") / path.name)
        self.writer = SummaryWriter(str(folder), filename_suffix=suffix, purge_step=first_step + 1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the numbers."""
        names = {"loss": "train/loss", "eval_loss": "val/loss", "learning_rate": "train/learning_rate",
                 "grad_norm": "train/grad_norm"}  # fmt: skip
        for key, value in (logs or {}).items():
            if key in names:
                self.writer.add_scalar(names[key], value, state.global_step)
        self.writer.flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the file."""
        self.writer.close()


def dvclive_callback(folder: Path, params: dict[str, Any], resume: bool) -> TrainerCallback:
    """transformers' DVCLiveCallback on a Live that leaves dvc.yaml and experiments alone.

    Args:
        folder: Gets dvclive's files.
        params: The train section; the callback by itself would log every argument of the trainer.
        resume: Go on with the files that are there.

    Raises:
        MarkError: dvclive is not installed.
    """
    try:
        from dvclive import Live
    except ImportError:
        raise MarkError(
            "dvclive is not installed: run `pip install dvclive`, or take it out of train.report_to"
        ) from None
    from transformers.integrations import DVCLiveCallback

    class OurParamsOnly(DVCLiveCallback):  # type: ignore[misc]
        def setup(self, args: Any, state: Any, model: Any) -> None:
            self._initialized = True
            if not resume:
                self.live.log_params(params)

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.live.step = state.global_step  # by itself it counts log rows, validation losses too
            super().on_log(args, state, control, **kwargs)

    live = Live(dir=str(folder), resume=resume, report=None, dvcyaml=None, save_dvc_exp=False)
    return OurParamsOnly(live=live)


def curve_rows(history: list[dict[str, float]]) -> list[dict[str, int | float | str]]:
    """Rows of the loss plot from a trainer's log history, ordered by step, train before val.

    Args:
        history: `TrainerState.log_history`.

    Returns:
        `step`, `split` (train | val), `loss` rounded to 6 digits.
    """
    rows: list[dict[str, int | float | str]] = []
    for entry in history:
        for key, split in (("loss", "train"), ("eval_loss", "val")):
            if key in entry:
                rows.append({"step": int(entry["step"]), "split": split, "loss": round(entry[key], 6)})
    return sorted(rows, key=lambda row: (row["step"], row["split"]))
