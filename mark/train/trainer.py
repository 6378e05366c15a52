"""transformers' Trainer with the head at answer positions, exact accumulation and resumable order."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from mark.config import Train
from mark.models.storage import is_sharded
from mark.train.buckets import BucketCollator
from mark.train.callbacks import FlowCallback, Meter
from mark.train.checkpoints import mark_complete
from mark.train.collator import Collator
from mark.train.data import lengths
from mark.train.fixed_step import FixedStep
from mark.train.loss import answer_loss, find_body
from mark.train.processes import processes, rank, wants_shards
from mark.train.sampler import EpochSampler
from mark.train.shares import IDLE, RowsAndIdle, ShareSampler
from mark.train.together import summed

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel

_CURVE_POINTS = 500
_GPU_LOG_STEPS = 10  # at least, between two log lines: each makes the GPU wait for this process


@dataclass(frozen=True)
class Schedule:
    """How a run is cut into steps. `group` never changes within a run, nor with the processes."""

    group: int  # examples an optimiser step, of all processes
    micro_batch: int  # examples a forward pass
    steps: int  # optimiser steps of the run
    steps_per_epoch: int
    evaluate_every: int  # steps between validation losses (and checkpoints)
    processes: int = 1

    @classmethod
    def of(cls, settings: Train, examples: int, processes: int = 1) -> Schedule:
        """The schedule of a train section on a number of examples."""
        group = settings.batch_size * settings.gradient_accumulation_steps
        per_epoch = max(1, math.ceil(examples / group))
        steps = settings.max_steps if settings.max_steps > 0 else math.ceil(settings.epochs * per_epoch)
        return cls(
            group=group,
            micro_batch=min(settings.batch_size, math.ceil(group / processes)),
            steps=steps,
            steps_per_epoch=per_epoch,
            evaluate_every=max(1, math.ceil(min(per_epoch, max(steps, 1)) / settings.evals_per_epoch)),
            processes=processes,
        )

    @property
    def share(self) -> int:
        """Examples an optimiser step of one process, at most."""
        return math.ceil(self.group / self.processes)

    @property
    def accumulation(self) -> int:
        """Forward passes an optimiser step."""
        return math.ceil(self.share / self.micro_batch)

    @property
    def validations(self) -> int:
        """How often the validation loss is taken: at each multiple and at the end."""
        return math.ceil(self.steps / self.evaluate_every)

    def halved(self) -> Schedule | None:
        """Half the micro-batch (or the next smaller divisor), more accumulation; None at one example."""
        sizes = range(self.micro_batch // 2, 0, -1)
        smaller = next((size for size in sizes if self.share % size == 0), None)
        return None if smaller is None else replace(self, micro_batch=smaller)


def training_arguments(
    settings: Train, schedule: Schedule, seed: int, folder: Path, bf16: bool, device: torch.device
) -> TrainingArguments:
    """transformers' arguments for a run.

    Args:
        settings: The train section.
        schedule: Of the run; its micro-batch may be smaller than the section's.
        seed: Of dropout and order.
        folder: Gets the checkpoints.
        bf16: Matrix products in bfloat16.
        device: Where it runs.
    """
    on_cuda = device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=schedule.micro_batch,
        gradient_accumulation_steps=schedule.accumulation,
        max_steps=schedule.steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(settings.warmup_ratio * schedule.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused" if on_cuda and not wants_shards() else "adamw_torch",
        bf16=bf16,
        use_cpu=device.type == "cpu",
        seed=seed,
        data_seed=seed,
        eval_strategy="steps",
        eval_steps=schedule.evaluate_every,
        save_strategy="steps",
        save_steps=schedule.evaluate_every,
        save_total_limit=2,  # the best and the newest
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=max(_GPU_LOG_STEPS if on_cuda else 1, schedule.steps // _CURVE_POINTS),
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=on_cuda,
        accelerator_config={"non_blocking": on_cuda},  # copies do not wait for the step before
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        report_to="none",
    )
    arguments.mixed_precision = "bf16" if bf16 else "no"  # else what `accelerate config` was told
    if arguments.n_gpu > 1:
        arguments._n_gpu = (
            1  # one GPU a process: torchrun serves several, DataParallel copies the model each step
        )
    return arguments


class AnswerTrainer(Trainer):  # type: ignore[misc]
    """Trains on answer tokens only.

    Args:
        model: Base model under its LoRA adapter.
        arguments: Of `training_arguments`.
        train_rows: Rows of `data.encode`.
        val_rows: The same; empty = no validation.
        collator: Makes the batches.
        order: Of the training rows; its group is one optimiser step of all processes.
    """

    def __init__(
        self,
        model: PeftModel,
        arguments: TrainingArguments,
        train_rows: Dataset,
        val_rows: Dataset,
        collator: Collator,
        order: EpochSampler,
    ) -> None:
        if len(val_rows) == 0:
            arguments.eval_strategy, arguments.metric_for_best_model = "no", None
        if is_sharded(model):
            arguments.save_only_model = True  # transformers refuses the rest, see `_save_checkpoint`
        super().__init__(
            model=model,
            args=arguments,
            data_collator=collator,
            train_dataset=train_rows,
            eval_dataset=val_rows,
        )
        self.model_accepts_loss_kwargs = (
            True  # `compute_loss` divides by the step's tokens, whatever the model
        )
        self.body = find_body(model)
        self.meter = Meter()
        self.order = order
        self.fixed = (
            FixedStep(model, arguments.per_device_train_batch_size, arguments.bf16)
            if isinstance(collator, BucketCollator)
            else None
        )
        self.remove_callback(PrinterCallback)
        self.add_callback(FlowCallback(self.order, arguments.learning_rate))

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> EpochSampler:
        return self.order

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This process's share of the rows; accelerate would fill up the last step with rows seen before."""
        if processes() == 1:
            return super().get_train_dataloader()  # type: ignore[no-any-return]
        share = ShareSampler(self.order, self.args.per_device_train_batch_size, rank(), processes())
        return self._loader(self.train_dataset, share)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Gradients of a micro-batch; compiled and recorded where its shapes repeat, see `FixedStep`."""
        if self.fixed is None:
            return super().training_step(model, inputs, num_items_in_batch)  # type: ignore[no-any-return]
        assert num_items_in_batch is not None
        model.train()
        self.meter.count(inputs)
        return self.fixed(inputs, num_items_in_batch)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Mean cross entropy over the answer tokens of a whole optimiser step.

        Dividing each micro-batch's sum by the step's token count makes accumulation exact. Under
        DistributedDataParallel, which averages gradients, the count is that of all processes, so the
        loss is multiplied by their number.
        """
        loss, _ = answer_loss(model, self.body, inputs)
        self.meter.count(inputs)
        assert num_items_in_batch is not None
        scale: int = self.accelerator.num_processes
        return loss / num_items_in_batch * scale

    def evaluate(
        self,
        eval_dataset: Dataset | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Mean cross entropy over all answer tokens of the validation rows, whatever the batch size.

        Several processes share out the batches and add up.
        """
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        started = time.monotonic()
        total, count = 0.0, 0.0
        training = self.model.training
        self.model.eval()
        for batch in self._validation_batches(rows):
            with torch.no_grad(), self.accelerator.autocast():
                loss, tokens = answer_loss(self.model, self.body, self._prepare_inputs(batch))
            total, count = total + float(loss), count + tokens
        total, count = summed([total, count])
        self.model.train(training)
        metrics = {f"{metric_key_prefix}_loss": total / max(count, 1)}
        self.meter.validation_seconds.append(time.monotonic() - started)
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validation_batches(self, rows: Dataset) -> DataLoader[Any]:
        sizes = lengths(rows)
        order = sorted(range(len(rows)), key=lambda row: (-sizes[row], row))
        size = self.args.per_device_train_batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        while len(batches) % processes():
            batches.append([IDLE])  # shards are exchanged in step, so each process needs as many
        return self._loader(rows, batches[rank() :: processes()])

    def _loader(self, rows: Dataset, batches: Any) -> DataLoader[Any]:
        found: Any = rows if processes() == 1 else RowsAndIdle(rows)
        return DataLoader(found, batch_sampler=batches, collate_fn=self.data_collator)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """The oldest goes by its step, once the new one is complete; transformers goes by dates of files."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        super()._save_checkpoint(model, trial)
        self.args.save_total_limit = limit
        if is_sharded(self.model):
            # What is trained, and with it the optimiser's state, is whole in every process; transformers
            # keeps to the case in which it is not.
            folder = str(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")
            self._save_optimizer_and_scheduler(folder)
            self._save_rng_state(folder)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            mark_complete(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")
            rotate_checkpoints(self.args.output_dir, limit, self.state.best_model_checkpoint)
