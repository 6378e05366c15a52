"""RLHF from files to two entries, policy and control arm: resumable at every checkpoint."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerState

from mark.config import Rlhf, Train
from mark.errors import DataError, MarkError
from mark.evaluation.precision import answering_dtype
from mark.evaluation.questions import stratified
from mark.files import read_json, whole_folder, write_json, write_jsonl
from mark.models.loading import entry_base
from mark.models.quiet import quiet_progress
from mark.models.sources import verify_model
from mark.records import Chunk, Example
from mark.rlhf.arms import Arms
from mark.rlhf.entry import Arm, RlhfEntry, curve_rows, plot_rows, record_of
from mark.rlhf.gathering import ONLINE, Gathering, offered_questions
from mark.rlhf.inputs import CONTROL, RlhfInputs, run_key
from mark.rlhf.policy import load_deployed
from mark.rlhf.preferences import PreferenceLedger, Preferences
from mark.rlhf.reward_record import RewardModelRecord
from mark.rlhf.reward_training import FOLDER as REWARD_MODEL
from mark.rlhf.reward_training import TrainedReward, gather_preferences, train_reward_model
from mark.rlhf.sampling import tasks_of
from mark.rlhf.schedule import Steps
from mark.rlhf.validation import VAL_REWARD, Validation
from mark.seeding import derived_seed
from mark.train.checkpoints import locked
from mark.train.entry import write_entry
from mark.train.hardware import training_device, wants_bf16

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RlhfResult:
    """What a run gave."""

    policy: RlhfEntry
    control: RlhfEntry
    ledger: PreferenceLedger


@dataclass(frozen=True)
class Made:
    """What the policy was trained with, kept beside it."""

    preferences: Preferences
    reward: TrainedReward | None


def run(inputs: RlhfInputs, settings: Rlhf, seed: int, out: Path) -> RlhfResult:
    """Make preferences, train policy and control arm, write both entries; the guards have been passed.

    Each arm's checkpoint with the highest validation reward becomes its entry, of equals the earliest. Step 0
    is the fine-tuned model: the entry is a copy of it where no checkpoint beats it or too little is there to
    train on.
    """
    folder = inputs.checkpoints / run_key(inputs, settings, seed)[:16]
    with locked(folder), quiet_progress():
        try:
            result = _Run(inputs, settings, seed, out, folder).execute()
        except torch.OutOfMemoryError:
            raise MarkError(
                f"out of GPU memory; lower rlhf.batch_size (now {settings.batch_size}) or "
                f"rlhf.sampling.batch_size (now {settings.sampling.batch_size})"
            ) from None
        shutil.rmtree(folder)
    return result


@dataclass
class _Run:
    """One run: its files, settings and folder of checkpoints."""

    inputs: RlhfInputs
    settings: Rlhf
    seed: int
    out: Path
    folder: Path

    def execute(self) -> RlhfResult:
        verify_model(entry_base(self.inputs.sft))
        self.folder.mkdir(parents=True, exist_ok=True)
        device = training_device()
        dtype = answering_dtype(self.inputs.calibration, device)
        model, tokenizer = load_deployed(self.inputs.sft, device, dtype)
        validation = self._validation(tokenizer, dtype)
        start = self._start(validation, model, tokenizer)
        offered = offered_questions(self.inputs.train(), self.settings, self.seed)
        preferences = self._preferences(offered, validation, model, tokenizer)
        asked = offered[: preferences.ledger.questions.asked] or offered
        steps = self._steps(preferences.ledger, asked, validation)
        arms = Arms(
            inputs=self.inputs,
            settings=self.settings,
            train=self.train,
            seed=self.seed,
            folder=self.folder,
            chunks=self.chunks,
            validation=validation,
            start=start,
            device=device,
            bf16=wants_bf16(self.settings.precision, device),
            steps=steps,
        )
        pairs = self._pairs(arms, model, tokenizer)
        del model
        reward = None if pairs is None else train_reward_model(arms, pairs)
        policy = arms.policy(preferences, asked, reward) if steps.steps else TrainerState()
        control = arms.control(asked) if steps.steps else TrainerState()
        ledger = preferences.ledger
        rows = (ledger.rows, len(asked)) if steps.steps else (0, 0)
        policy_entry = record_of(arms, "rlhf", self.out.name, policy, rows[0], ledger)
        policy_entry = policy_entry.model_copy(update={"reward_model": self._reward_record(reward)})
        control_entry = record_of(arms, "sft_continued", CONTROL, control, rows[1], ledger)
        curves = [*curve_rows("sft_continued", control, start), *curve_rows("rlhf", policy, start)]
        self._write(self.out.parent / CONTROL, "sft_continued", control_entry, tokenizer, curves)
        self._write(self.out, "rlhf", policy_entry, tokenizer, curves, Made(preferences, reward))
        write_json(self.inputs.plots / f"{self.out.name}.json", plot_rows(policy, start))
        return RlhfResult(policy_entry, control_entry, ledger)

    @cached_property
    def chunks(self) -> dict[str, Chunk]:
        """Every passage by id."""
        return self.inputs.passages()

    @cached_property
    def train(self) -> Train:
        """The settings that the fine-tuned entry was trained with."""
        return _train_section(self.inputs)

    @property
    def _prompt_tokens(self) -> int:
        return self.train.max_seq_length - self.settings.sampling.max_new_tokens

    def _validation(self, tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype) -> Validation:
        """The questions that a checkpoint is chosen by; there may be none."""
        rows = stratified(self.inputs.validation(), self.settings.val_questions, lambda row: row.kind)
        tasks = tasks_of(rows, self.chunks, tokenizer, self._prompt_tokens)
        probes = stratified(tasks, self.settings.kl_questions, lambda task: task.kind)
        return Validation(
            tasks=tasks,
            probes=[task.prompt_ids for task in probes],
            weights=self.settings.reward,
            max_seq_length=self.train.max_seq_length,
            max_new_tokens=self.settings.sampling.max_new_tokens,
            batch_size=self.settings.sampling.batch_size,
            seed=derived_seed(self.seed, "divergence"),
            dtype=dtype,
        )

    def _start(self, validation: Validation, model: Any, tokenizer: PreTrainedTokenizerBase) -> float:
        """The fine-tuned model's own validation reward, measured once a run; 0 without a question."""
        path = self.folder / "start.json"
        if not validation.tasks:
            return 0.0
        if not path.is_file():
            write_json(path, {VAL_REWARD: round(validation.reward(model, tokenizer), 6)})
        return float(read_json(path)[VAL_REWARD])

    def _preferences(
        self,
        offered: Sequence[Example],
        validation: Validation,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
    ) -> Preferences:
        """Nothing is asked where no checkpoint could be chosen."""
        gathering = Gathering(
            self.inputs, self.settings, self.seed, self.folder, self.chunks, self._prompt_tokens
        )
        return gathering.preferences(offered, bool(validation.tasks), model, tokenizer)

    def _pairs(self, arms: Arms, model: Any, tokenizer: PreTrainedTokenizerBase) -> Preferences | None:
        """What a reward model is trained on; None where none is wanted, or no policy is trained."""
        if not self.settings.reward_model.enabled or arms.steps.steps == 0:
            return None
        return gather_preferences(arms, model, tokenizer)

    def _reward_record(self, reward: TrainedReward | None) -> RewardModelRecord | None:
        if reward is not None:
            return reward.record
        if not self.settings.reward_model.enabled:
            return None
        return RewardModelRecord(used=False, reason="no policy was trained")

    def _steps(self, ledger: PreferenceLedger, asked: Sequence[Example], validation: Validation) -> Steps:
        """The steps of both arms; none, and a warning, where there is too little to train on."""
        steps = Steps.of(self.settings, ledger.rows)
        why = None
        if not validation.tasks:
            why = "there is no validation question to choose a checkpoint by; raise data_prep.max_val"
        elif not asked:
            why = "there is no training question; raise data_prep.max_samples"
        elif steps.steps == 0:
            why = _too_few(self.settings, ledger)
        if why is None:
            return steps
        log.warning("RLHF trains nothing, both entries are copies of %s: %s", self.inputs.sft.name, why)
        return Steps(0, 0, 1)

    def _write(
        self,
        out: Path,
        arm: Arm,
        entry: RlhfEntry,
        tokenizer: PreTrainedTokenizerBase,
        curves: list[dict[str, Any]],
        made: Made | None = None,
    ) -> None:
        best = self.folder / arm / f"checkpoint-{entry.best_step}" if entry.best_step else self.inputs.sft
        with whole_folder(out) as work:
            write_entry(work, best, tokenizer, entry, curves)
            if made is not None:
                write_json(work / "ledger.json", made.preferences.ledger.model_dump())
                rows: Sequence[Any] = made.preferences.rated or made.preferences.pairs
                write_jsonl(work / "preferences.jsonl", rows)
                if made.reward is not None:
                    made.reward.write(work / REWARD_MODEL)


def _too_few(settings: Rlhf, ledger: PreferenceLedger) -> str:
    """What is missing for one step, and what to change."""
    group = settings.batch_size * settings.gradient_accumulation_steps
    least = f"fewer than one step takes ({group})"
    if settings.method in ONLINE:
        return f"{ledger.rows} questions are {least}; raise rlhf.max_pairs or data_prep.max_samples"
    counts, what = ledger.questions, "rated answers" if settings.method == "kto" else "preferences"
    return (
        f"{ledger.rows} {what} of {counts.asked} questions "
        f"({counts.tied} tied, {counts.no_two_answers} without two different answers that end) are {least}; "
        "raise rlhf.sampling.questions or rlhf.sampling.answers, or lower rlhf.sampling.min_gap"
    )


def _train_section(inputs: RlhfInputs) -> Train:
    """The settings that the fine-tuned entry was trained with."""
    try:
        return Train.model_validate(inputs.sft_record["params"])
    except (KeyError, ValueError) as fault:
        raise DataError(
            f"{inputs.sft}/entry.json does not say how it was trained ({type(fault).__name__}); "
            "run `dvc repro train`"
        ) from None
