"""From preferences to a reward model that is used, or to the reason why it is not; resumable."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mark.config import Rlhf
from mark.evaluation.significance import Bootstrap
from mark.files import read_json, write_json, write_jsonl
from mark.models.loading import entry_base
from mark.models.source_file import base_sha256, read_source
from mark.rlhf.fitting import finished, fit
from mark.rlhf.gathering import Gathering, offered_questions
from mark.rlhf.inputs import params_sha256
from mark.rlhf.preferences import Pair, Preferences
from mark.rlhf.reward_model import LearnedReward, Scorer, new_reward_model
from mark.rlhf.reward_record import RewardModelRecord, too_few, usable
from mark.rlhf.reward_split import clusters_of, hold_out
from mark.rlhf.sampling import Task, tasks_of_preferences
from mark.rlhf.schedule import Steps
from mark.rlhf.trainers import Setup, build_reward_trainer
from mark.seeding import derived_seed, seed_everything
from mark.train.checkpoints import newest_complete
from mark.train.entry import Entry, write_entry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainerState

    from mark.rlhf.arms import Arms

FOLDER = "reward_model"  # below the policy's entry
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedReward:
    """What became of the reward model, and where it lies while the run lasts."""

    record: RewardModelRecord
    pairs: Sequence[Pair]
    folder: Path  # adapter and head; missing where nothing was trained

    def load(self, arms: Arms) -> LearnedReward | None:
        """The reward that it adds; None where it is not used."""
        if not self.record.used:
            return None
        base = entry_base(arms.inputs.sft)
        scorer = Scorer.load(self.folder, base, arms.device, arms.settings.sampling.batch_size)
        return LearnedReward(scorer, self.record, arms.settings.reward_model)

    def write(self, out: Path) -> None:
        """Keep it beside the policy, with the preferences that it was trained and judged on.

        Args:
            out: A new folder.
        """
        if self.folder.is_dir():
            shutil.copytree(self.folder, out)
        write_jsonl(out / "preferences.jsonl", self.pairs)


def gather_preferences(arms: Arms, model: Any, tokenizer: PreTrainedTokenizerBase) -> Preferences:
    """The preferences as dpo gathers them: sampled pairs and people's edits.

    Args:
        arms: What is trained.
        model: The fine-tuned model as it is deployed.
        tokenizer: Its tokenizer.
    """
    settings = arms.settings.model_copy(update={"method": "dpo"})
    folder = arms.folder / FOLDER
    folder.mkdir(exist_ok=True)
    gathering = Gathering(arms.inputs, settings, arms.seed, folder, arms.chunks, arms.prompt_tokens)
    offered = offered_questions(arms.inputs.train(), settings, arms.seed)
    return gathering.preferences(offered, True, model, tokenizer)


def train_reward_model(arms: Arms, preferences: Preferences) -> TrainedReward:
    """Train a reward model on a part of the preferences and judge it on the others.

    Its record is written last, so that a run that was interrupted goes on where it was. Where it is not used,
    one warning says why.

    Args:
        arms: What is trained.
        preferences: Of `gather_preferences`.
    """
    work = _Work(arms, preferences, arms.folder / FOLDER)
    path = work.folder / "record.json"
    if not path.is_file():
        write_json(path, work.record().model_dump())
    record = RewardModelRecord.model_validate(read_json(path))
    if not record.used:
        log.warning("the reward model is not used: %s", record.reason)
    return TrainedReward(record, preferences.pairs, work.folder / "final")


@dataclass(frozen=True)
class _Work:
    """One training: what of, and where."""

    arms: Arms
    preferences: Preferences
    folder: Path

    def record(self) -> RewardModelRecord:
        pairs, settings = self.preferences.pairs, self.arms.settings.reward_model
        examples = self.arms.inputs.train()
        clusters = clusters_of(
            pairs, examples, self.arms.chunks, settings.held_out_share, settings.min_clusters
        )
        held = hold_out(clusters, settings.held_out_share, self.arms.seed)
        trained_on, held_out = held.count(False), held.count(True)
        judged_by = [name for name, out in zip(clusters, held, strict=True) if out]
        found = RewardModelRecord(
            used=False,
            reason=too_few(settings, len(pairs), trained_on, len(set(judged_by))) or "",
            pairs=len(pairs),
            trained_on=trained_on,
            held_out=held_out,
            held_out_clusters=len(set(judged_by)),
            preferences=self.preferences.ledger,
        )
        if found.reason:
            return found
        steps = self._train([pair for pair, out in zip(pairs, held, strict=True) if not out])
        return found.model_copy(update={"steps": steps, **self._judge(held, judged_by)})

    def _judge(self, held: Sequence[bool], clusters: Sequence[str]) -> dict[str, Any]:
        """Accuracy on the held-out preferences; mean and spread of the scores of the others."""
        arms, settings = self.arms, self.arms.settings.reward_model
        scorer = Scorer.load(
            self.folder / "final", entry_base(arms.inputs.sft), arms.device, settings.batch_size
        )
        rows = self._rows(self.preferences.pairs, scorer.tokenizer)
        answers = [(task, text) for task, pair in rows for text in (pair.chosen, pair.rejected)]
        scores = np.array(scorer.scores(answers)).reshape(-1, 2)  # [pairs, chosen and rejected]
        out = np.array(held)
        better = scores[out, 0] - scores[out, 1]
        right = np.where(better == 0, 0.5, better > 0)
        seed = derived_seed(arms.seed, "reward_model", "bootstrap")
        accuracy = Bootstrap(settings.bootstrap_samples, settings.confidence, seed).mean(right, clusters)
        used, reason = usable(accuracy, len(right))
        return {
            "used": used,
            "reason": reason,
            "accuracy": round(accuracy.value, 6),
            "accuracy_low": round(accuracy.low, 6),
            "accuracy_high": round(accuracy.high, 6),
            "centre": float(scores[~out].mean()),
            "scale": max(float(scores[~out].std()), 1e-6),
        }

    def _rows(self, pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> list[tuple[Task, Pair]]:
        tasks = tasks_of_preferences(pairs, self.arms.chunks, tokenizer, self.arms.prompt_tokens)
        return list(zip(tasks, pairs, strict=True))

    def _train(self, pairs: Sequence[Pair]) -> int:
        """Train to the end, keep adapter and head, and say how many steps it took."""
        arms, checkpoints = self.arms, self.folder / "training"
        settings = _training_settings(arms.settings)
        steps = Steps.of(settings, len(pairs))
        state = finished(checkpoints, steps)
        seed_everything(arms.seed)
        model, tokenizer = new_reward_model(
            entry_base(arms.inputs.sft), arms.train.lora, arms.seed, arms.device
        )
        if state is None:
            setup = Setup(
                model=model,
                tokenizer=tokenizer,
                settings=settings,
                steps=steps,
                folder=checkpoints,
                seed=arms.seed,
                bf16=arms.bf16,
                use_cpu=arms.device.type == "cpu",
            )
            trainer = build_reward_trainer(setup, self._rows(pairs, tokenizer))
            state = fit(trainer, steps, dict, "reward model")
        last = newest_complete(checkpoints)
        assert last is not None
        trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        entry = self._entry(state, len(pairs), trainable)
        write_entry(self.folder / "final", last, tokenizer, entry, _curves(state))
        return int(state.global_step)

    def _entry(self, state: TrainerState, rows: int, trainable: int) -> Entry:
        arms = self.arms
        source = read_source(entry_base(arms.inputs.sft))
        losses = [row["loss"] for row in state.log_history if "loss" in row]
        return Entry(
            name=FOLDER,
            base=arms.inputs.sft_record["base"],
            base_sha256=base_sha256(source),
            architecture=source.architecture,
            random=source.random,
            data_sha256=arms.inputs.data_sha256(),
            params_sha256=params_sha256(arms.settings, arms.seed),
            params=arms.settings.reward_model.model_dump(),
            seed=arms.seed,
            examples=rows,
            steps=state.global_step,
            best_step=state.global_step,
            train_loss=round(sum(losses) / max(len(losses), 1), 6) + 0.0,
            val_loss=None,
            trainable_parameters=trainable,
            max_seq_length=arms.train.max_seq_length,
            precision="bf16" if arms.bf16 else "fp32",
        )


def _training_settings(settings: Rlhf) -> Rlhf:
    """The rlhf section with the reward model's own budget in place of the policy's."""
    own = settings.reward_model
    return settings.model_copy(
        update={
            "epochs": own.epochs,
            "max_steps": -1,
            "batch_size": own.batch_size,
            "gradient_accumulation_steps": own.gradient_accumulation_steps,
            "learning_rate": own.learning_rate,
        }
    )


def _curves(state: TrainerState) -> list[dict[str, int | float | str]]:
    """Rows of loss and accuracy on the rows of each step."""
    return [
        {"step": int(row["step"]), "metric": name, "value": round(float(row[name]), 6)}
        for row in state.log_history
        for name in ("loss", "accuracy")
        if name in row
    ]
