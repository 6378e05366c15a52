"""The two arms: the policy, and fine-tuning gone on with for as many steps of as many rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerState

from mark.config import Rlhf, Train
from mark.records import Chunk, Example
from mark.rlhf.fitting import finished, fit
from mark.rlhf.inputs import RlhfInputs
from mark.rlhf.policy import add_reference, load_policy
from mark.rlhf.preferences import Preferences
from mark.rlhf.reward import judge
from mark.rlhf.reward_training import TrainedReward
from mark.rlhf.sampling import Answered, tasks_of, tasks_of_preferences
from mark.rlhf.schedule import Steps
from mark.rlhf.trainers import Setup, build_trainer
from mark.rlhf.validation import Validation
from mark.seeding import seed_everything
from mark.train.data import encode, lengths
from mark.train.sampler import EpochSampler, places_by_beginning
from mark.train.trainer import AnswerTrainer, Schedule, training_arguments
from mark.train.workload import prepare

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


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

    def policy(
        self, preferences: Preferences, asked: Sequence[Example], reward: TrainedReward | None
    ) -> TrainerState:
        """Train the policy, or go on with it.

        Args:
            preferences: Read by dpo and kto.
            asked: Read by grpo and rloo, which sample while they train.
            reward: Likewise; what is added to the rule-based reward, where a reward model is wanted.
        """
        if (done := finished(self.folder / "rlhf", self.steps)) is not None:
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
            prompts = tasks_of_preferences(rated, self.chunks, tokenizer, self.prompt_tokens)
            rows = list(zip(prompts, rated, strict=True))
        weights, learned = self.settings.reward, reward.load(self) if reward is not None else None

        def score(answers: Sequence[Answered]) -> list[float]:
            found = [
                judge(a.text, a.task.golds, a.task.passages, weights, a.cut_off).total(weights)
                for a in answers
            ]
            if learned is None:
                return found
            return [rule + more for rule, more in zip(found, learned(answers), strict=True)]

        trainer = build_trainer(setup, rows, score)
        return self._fit(trainer, model, tokenizer, self.settings.method)

    def control(self, asked: Sequence[Example]) -> TrainerState:
        """Go on with fine-tuning: the same questions, gold answers, as many steps of as many rows."""
        folder = self.folder / "sft_continued"
        if (done := finished(folder, self.steps)) is not None:
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
                "compile": "off",  # the arms that it is compared with are not
            }
        )
        size, accumulation = self.settings.batch_size, self.settings.gradient_accumulation_steps
        group = size * accumulation
        per_epoch = max(1, len(rows) // group)
        schedule = Schedule(group, size, self.steps.steps, per_epoch, self.steps.every)
        arguments = training_arguments(settings, schedule, self.seed, folder, self.bf16, self.device)
        arguments.save_total_limit = None  # the best one is known at the end
        collator = prepare(model, tokenizer, settings, self.device)
        places = places_by_beginning(rows["input_ids"]) if settings.passage_grouping else None
        order = EpochSampler(lengths(rows), group, self.seed, settings.length_grouping, places)
        trainer = AnswerTrainer(model, arguments, rows, rows.select([]), collator, order)
        return self._fit(trainer, model, tokenizer, "sft continued")

    def _fit(
        self, trainer: Any, model: PeftModel, tokenizer: PreTrainedTokenizerBase, name: str
    ) -> TrainerState:
        return fit(trainer, self.steps, lambda: self.validation.measure(model, tokenizer), name)
