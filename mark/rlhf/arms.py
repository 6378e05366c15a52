"""The two arms: the policy, and fine-tuning gone on with for as many steps of as many rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerState

from mark.config import Rlhf, Train
from mark.records import Chunk, Example
from mark.rlhf.inputs import RlhfInputs
from mark.rlhf.policy import add_reference, load_policy
from mark.rlhf.preferences import Pair, Preferences, Rated
from mark.rlhf.reward import judge
from mark.rlhf.sampling import Task, tasks_of
from mark.rlhf.schedule import Steps
from mark.rlhf.trainers import Setup, build_trainer
from mark.rlhf.validation import StepProgress, Validation, ValidationCallback
from mark.seeding import seed_everything
from mark.train.checkpoints import newest_complete, step_of
from mark.train.collator import AnswerCollator
from mark.train.data import encode
from mark.train.trainer import AnswerTrainer, Schedule, training_arguments

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arms:
    """What both arms are trained from and with."""

    inputs: RlhfInputs
    settings: Rlhf
    train: Train  # the settings that the fine-tuned entry was trained with
    seed: int
    folder: Path  # gets a folder of checkpoints an arm
    chunks: dict[str, Chunk]
    validation: Validation
    start: float  # validation reward of the fine-tuned model
    device: torch.device
    bf16: bool
    steps: Steps

    @property
    def prompt_tokens(self) -> int:
        """Room for a prompt."""
        return self.train.max_seq_length - self.settings.sampling.max_new_tokens

    def policy(self, preferences: Preferences, asked: Sequence[Example]) -> TrainerState:
        """Train the policy, or go on with it.

        Args:
            preferences: Read by dpo and kto.
            asked: Read by grpo and rloo, which sample while they train.
        """
        if (done := _finished(self.folder / "rlhf", self.steps)) is not None:
            return done
        seed_everything(self.seed)
        model, tokenizer = load_policy(self.inputs.sft, self.device)
        setup = Setup(
            model=model,
            tokenizer=tokenizer,
            settings=self.settings,
            steps=self.steps,
            folder=self.folder / "rlhf",
            seed=self.seed,
            bf16=self.bf16,
            use_cpu=self.device.type == "cpu",
        )
        rows: Any = tasks_of(asked, self.chunks, tokenizer, self.prompt_tokens)
        if self.settings.method in ("dpo", "kto"):
            rated: Any = preferences.rated if self.settings.method == "kto" else preferences.pairs
            rows = list(zip(self._tasks_of_rows(rated, tokenizer), rated, strict=True))
        weights = self.settings.reward

        def score(task: Task, text: str, cut_off: bool) -> float:
            return judge(text, task.golds, task.passages, weights, cut_off).total(weights)

        trainer = build_trainer(setup, rows, score)
        return self._fit(trainer, model, tokenizer, self.settings.method)

    def _tasks_of_rows(self, rows: Sequence[Pair | Rated], tokenizer: PreTrainedTokenizerBase) -> list[Task]:
        """Prompts of preferences; a person's question has no gold answer, and needs none here."""
        examples = [
            Example(
                example_id=row.id, split="train", question=row.question, contexts=row.contexts,
                answers=[""], quote=None, page=None, kind="answerable", style="full", rule_id=row.origin,
                document=None, section=None, source_chunk=None,
            )
            for row in rows
        ]  # fmt: skip
        return tasks_of(examples, self.chunks, tokenizer, self.prompt_tokens)

    def control(self, asked: Sequence[Example]) -> TrainerState:
        """Go on with fine-tuning: the same questions, gold answers, as many steps of as many rows."""
        folder = self.folder / "sft_continued"
        if (done := _finished(folder, self.steps)) is not None:
            return done
        seed_everything(self.seed)
        model, tokenizer = load_policy(self.inputs.sft, self.device)
        add_reference(model)
        rows = encode(asked, self.chunks, tokenizer, self.train.max_seq_length)
        settings = self.train.model_copy(
            update={
                "learning_rate": self.settings.control_learning_rate,
                "warmup_ratio": self.settings.warmup_ratio,
                "weight_decay": self.settings.weight_decay,
                "max_grad_norm": self.settings.max_grad_norm,
            }
        )
        size, accumulation = self.settings.batch_size, self.settings.gradient_accumulation_steps
        schedule = Schedule(
            size, accumulation, self.steps.steps, max(1, len(rows) // (size * accumulation)), self.steps.every
        )
        arguments = training_arguments(settings, schedule, self.seed, folder, self.bf16, self.device)
        arguments.save_total_limit = None  # the best one is known at the end
        collator = AnswerCollator(int(tokenizer.pad_token_id or 0))
        trainer = AnswerTrainer(model, arguments, rows, rows.select([]), collator, settings.length_grouping)
        return self._fit(trainer, model, tokenizer, "sft continued")

    def _fit(
        self, trainer: Any, model: PeftModel, tokenizer: PreTrainedTokenizerBase, name: str
    ) -> TrainerState:
        newest = newest_complete(Path(trainer.args.output_dir))
        if newest is not None:
            log.info("%s: going on from step %d of %d", name, step_of(newest), self.steps.steps)
        trainer.add_callback(
            ValidationCallback(
                self.steps,
                lambda: self.validation.measure(model, tokenizer),
                trainer.meter.validation_seconds,
            )
        )
        trainer.add_callback(StepProgress(trainer.meter, self.steps, name))
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
        state: TrainerState = trainer.state
        return state


def _finished(folder: Path, steps: Steps) -> TrainerState | None:
    """The state of an arm that was trained to its end before."""
    newest = newest_complete(folder) if folder.is_dir() else None
    if newest is None or step_of(newest) < steps.steps:
        return None
    return TrainerState.load_from_json(str(newest / "trainer_state.json"))
