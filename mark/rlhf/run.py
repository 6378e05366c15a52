"""RLHF from files to two entries, policy and control arm: resumable at every checkpoint."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from transformers import TrainerState

from mark.config import Rlhf, Train
from mark.errors import DataError, MarkError
from mark.evaluation.questions import stratified
from mark.files import read_json, read_jsonl, whole_folder, write_json, write_jsonl
from mark.models.embedder import Embedder
from mark.models.loading import entry_base
from mark.models.quiet import quiet_progress
from mark.models.source_file import base_sha256, read_source
from mark.models.sources import verify_model
from mark.prompting import answer_ids, build_prompt
from mark.records import Chunk, Example
from mark.rlhf.entry import Arm, RlhfEntry, curve_rows, plot_rows
from mark.rlhf.inputs import CONTROL, RlhfInputs, held_out_questions, params_sha256, run_key
from mark.rlhf.policy import add_reference, evaluating, load_policy
from mark.rlhf.preferences import Human, Pair, PreferenceLedger, Preferences, Rated, build_preferences
from mark.rlhf.reward import judge
from mark.rlhf.sampling import Sampled, Sampler, Task, tasks_of
from mark.rlhf.schedule import Steps
from mark.rlhf.trainers import Setup, build_trainer
from mark.rlhf.validation import VAL_KL, VAL_REWARD, StepProgress, Validation, ValidationCallback
from mark.seeding import derived_seed, seed_everything
from mark.train.checkpoints import newest_complete, step_of
from mark.train.collator import AnswerCollator
from mark.train.data import encode
from mark.train.entry import write_entry
from mark.train.hardware import training_device, wants_bf16
from mark.train.trainer import AnswerTrainer, Schedule, training_arguments

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RlhfResult:
    """What a run gave; seconds are for the timing report only."""

    policy: RlhfEntry
    control: RlhfEntry
    ledger: PreferenceLedger


def run(inputs: RlhfInputs, settings: Rlhf, seed: int, out: Path) -> RlhfResult:
    """Make preferences, train policy and control arm, write both entries; the guards have been passed.

    Each arm's checkpoint with the highest validation reward becomes its entry; of equals the earliest.
    """
    folder = inputs.checkpoints / run_key(inputs, settings, seed)[:16]
    with _locked(folder), quiet_progress():
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
    chunks: dict[str, Chunk] = field(default_factory=dict)

    def execute(self) -> RlhfResult:
        base = entry_base(self.inputs.sft)
        verify_model(base)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.chunks = self.inputs.passages()
        self.device = training_device()
        self.bf16 = wants_bf16(self.settings.precision, self.device)
        self.train_settings = _train_section(self.inputs)
        model, tokenizer = load_policy(self.inputs.sft, self.device)
        self.asked = self._asked()
        self.validation = self._validation(tokenizer)
        start = self._start(model, tokenizer)
        preferences = self._preferences(model, tokenizer)
        count = preferences.ledger.rows
        steps = Steps.of(self.settings, count)
        del model
        policy = self._policy(preferences, steps)
        control = self._control(steps)
        policy_entry = self._entry("rlhf", policy, count, preferences.ledger, start)
        control_entry = self._entry("sft_continued", control, len(self.asked), preferences.ledger, start)
        curves = [
            *curve_rows("sft_continued", control, start),
            *curve_rows("rlhf", policy, start),
        ]
        self._write(self.out.parent / CONTROL, "sft_continued", control_entry, tokenizer, curves)
        self._write(self.out, "rlhf", policy_entry, tokenizer, curves, preferences)
        write_json(self.inputs.plots / f"{self.out.name}.json", plot_rows(policy, start))
        return RlhfResult(policy_entry, control_entry, preferences.ledger)

    def _asked(self) -> list[Example]:
        """Training questions to sample on, both kinds in their shares."""
        rows = self.inputs.train()
        if not rows:
            raise DataError(f"{self.inputs.data} holds no training examples; raise data_prep.max_samples")
        online = self.settings.method in ("grpo", "rloo")
        limit = self.settings.max_pairs if online else self.settings.sampling.questions
        return stratified(rows, limit, lambda row: row.kind)

    @property
    def _prompt_tokens(self) -> int:
        return self.train_settings.max_seq_length - self.settings.sampling.max_new_tokens

    def _validation(self, tokenizer: PreTrainedTokenizerBase) -> Validation:
        rows = stratified(self.inputs.validation(), self.settings.val_questions, lambda row: row.kind)
        if not rows:
            raise DataError(
                "there is no validation question to choose a checkpoint by; raise data_prep.max_val"
            )
        tasks = tasks_of(rows, self.chunks, tokenizer, self._prompt_tokens)
        probes = stratified(tasks, self.settings.kl_questions, lambda task: task.kind)
        return Validation(
            tasks=tasks,
            probes=[task.prompt_ids for task in probes],
            weights=self.settings.reward,
            max_seq_length=self.train_settings.max_seq_length,
            max_new_tokens=self.settings.sampling.max_new_tokens,
            batch_size=self.settings.sampling.batch_size,
            seed=derived_seed(self.seed, "divergence"),
        )

    def _start(self, model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> float:
        """The fine-tuned model's own validation reward, measured once a run."""
        path = self.folder / "start.json"
        if not path.is_file():
            with evaluating(model):
                write_json(path, {VAL_REWARD: round(self.validation.reward(model, tokenizer), 6)})
        return float(read_json(path)[VAL_REWARD])

    def _preferences(self, model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> Preferences:
        """Sampled once a run: the ledger, written last, says that they are complete."""
        pairs, rated, ledger = (self.folder / name for name in ("pairs.jsonl", "rated.jsonl", "ledger.json"))
        if ledger.is_file():
            found = PreferenceLedger.model_validate(read_json(ledger))
            return Preferences(read_jsonl(pairs, Pair), read_jsonl(rated, Rated), found)
        accepted = self.inputs.accepted()
        encoder = Embedder(self.inputs.embedder) if accepted else None
        test = held_out_questions(
            self.inputs.data,
            self.inputs.handwritten_test,
            None if encoder is None else lambda texts: encoder.encode(texts, truncate=True),
        )
        preferences = build_preferences(
            self.settings.method,
            self._sampled(model, tokenizer),
            Human(accepted, test, self.chunks, self._fits(tokenizer)),
            (self.settings.sampling, self.settings.reward, self.settings.max_pairs),
            derived_seed(self.seed, "ratings"),
        )
        if preferences.ledger.rows == 0:
            counts = preferences.ledger.questions
            raise DataError(
                f"no preference came of {counts.asked} questions ({counts.tied} tied, "
                f"{counts.no_two_answers} without two different answers that end); raise "
                "rlhf.sampling.answers or temperature, or lower rlhf.sampling.min_gap"
            )
        write_jsonl(pairs, preferences.pairs)
        write_jsonl(rated, preferences.rated)
        write_json(ledger, preferences.ledger.model_dump())
        return preferences

    def _fits(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[str, Sequence[str]], bool]:
        """Whether a person's question and answers leave room for each other, as our own do."""

        def fits(question: str, answers: Sequence[str]) -> bool:
            try:
                build_prompt(tokenizer, question, [], self._prompt_tokens)
            except DataError:
                return False
            longest = max(len(answer_ids(tokenizer, answer)) for answer in answers)
            return longest <= self.settings.sampling.max_new_tokens

        return fits

    def _sampled(
        self, model: PeftModel, tokenizer: PreTrainedTokenizerBase
    ) -> list[tuple[Task, Sequence[Sampled]]]:
        tasks = tasks_of(self.asked, self.chunks, tokenizer, self._prompt_tokens)
        if self.settings.method in ("grpo", "rloo"):
            return [(task, ()) for task in tasks]
        how = self.settings.sampling
        seed = derived_seed(self.seed, "sampling")
        sampler = Sampler(how.temperature, how.max_new_tokens, how.batch_size, seed)
        with evaluating(model):
            drawn = sampler.draw(model, tokenizer, [task.prompt_ids for task in tasks], how.answers)
        return list(zip(tasks, drawn, strict=True))

    def _policy(self, preferences: Preferences, steps: Steps) -> TrainerState:
        if (done := _finished(self.folder / "rlhf", steps)) is not None:
            return done
        seed_everything(self.seed)
        model, tokenizer = load_policy(self.inputs.sft, self.device)
        setup = Setup(
            model=model,
            tokenizer=tokenizer,
            settings=self.settings,
            steps=steps,
            folder=self.folder / "rlhf",
            seed=self.seed,
            bf16=self.bf16,
            use_cpu=self.device.type == "cpu",
        )
        rows: Any = tasks_of(self.asked, self.chunks, tokenizer, self._prompt_tokens)
        if self.settings.method in ("dpo", "kto"):
            rated: Any = preferences.rated if self.settings.method == "kto" else preferences.pairs
            rows = list(zip(self._tasks_of_rows(rated, tokenizer), rated, strict=True))
        weights = self.settings.reward

        def score(task: Task, text: str, cut_off: bool) -> float:
            return judge(text, task.golds, task.passages, weights, cut_off).total(weights)

        trainer = build_trainer(setup, rows, score)
        return self._fit(trainer, model, tokenizer, steps, self.settings.method)

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
        return tasks_of(examples, self.chunks, tokenizer, self._prompt_tokens)

    def _control(self, steps: Steps) -> TrainerState:
        """Fine-tuning gone on with: the same questions, gold answers, as many steps of as many rows."""
        folder = self.folder / "sft_continued"
        if (done := _finished(folder, steps)) is not None:
            return done
        seed_everything(self.seed)
        model, tokenizer = load_policy(self.inputs.sft, self.device)
        add_reference(model)
        rows = encode(self.asked, self.chunks, tokenizer, self.train_settings.max_seq_length)
        settings = self.train_settings.model_copy(
            update={
                "learning_rate": self.settings.control_learning_rate,
                "warmup_ratio": self.settings.warmup_ratio,
                "weight_decay": self.settings.weight_decay,
                "max_grad_norm": self.settings.max_grad_norm,
            }
        )
        size, accumulation = self.settings.batch_size, self.settings.gradient_accumulation_steps
        schedule = Schedule(
            size, accumulation, steps.steps, max(1, len(rows) // (size * accumulation)), steps.every
        )
        arguments = training_arguments(settings, schedule, self.seed, folder, self.bf16, self.device)
        arguments.save_total_limit = None  # the best one is known at the end
        collator = AnswerCollator(int(tokenizer.pad_token_id or 0))
        trainer = AnswerTrainer(model, arguments, rows, rows.select([]), collator, settings.length_grouping)
        return self._fit(trainer, model, tokenizer, steps, "sft continued")

    def _fit(
        self, trainer: Any, model: PeftModel, tokenizer: PreTrainedTokenizerBase, steps: Steps, name: str
    ) -> TrainerState:
        newest = newest_complete(Path(trainer.args.output_dir))
        if newest is not None:
            log.info("%s: going on from step %d of %d", name, step_of(newest), steps.steps)
        trainer.add_callback(
            ValidationCallback(
                steps, lambda: self.validation.measure(model, tokenizer), trainer.meter.validation_seconds
            )
        )
        trainer.add_callback(StepProgress(trainer.meter, steps, name))
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
        state: TrainerState = trainer.state
        return state

    def _entry(
        self, arm: Arm, state: TrainerState, rows: int, ledger: PreferenceLedger, start: float
    ) -> RlhfEntry:
        measured = {int(r["step"]): r for r in state.log_history if VAL_REWARD in r}
        best = max(measured, key=lambda step: (measured[step][VAL_REWARD], -step))
        losses = [row["loss"] for row in state.log_history if "loss" in row]
        record = self.inputs.sft_record
        source = read_source(entry_base(self.inputs.sft))
        return RlhfEntry(
            name=self.out.name if arm == "rlhf" else CONTROL,
            base=record["base"],
            base_sha256=base_sha256(source),
            architecture=source.architecture,
            random=source.random,
            data_sha256=self.inputs.data_sha256(),
            params_sha256=params_sha256(self.settings, self.seed),
            params=self.settings.model_dump(),
            seed=self.seed,
            examples=rows,
            steps=state.global_step,
            best_step=best,
            train_loss=round(sum(losses) / max(len(losses), 1), 6) + 0.0,
            val_loss=None,
            trainable_parameters=record["trainable_parameters"],
            max_seq_length=self.train_settings.max_seq_length,
            precision="bf16" if self.bf16 else "fp32",
            method=self.settings.method if arm == "rlhf" else "sft",
            sft=self.inputs.sft.name,
            sft_sha256=self.inputs.sft_sha256(),
            val_reward=measured[best][VAL_REWARD],
            val_kl=measured[best][VAL_KL],
            sft_val_reward=start,
            pairs=ledger.rows
            if self.settings.method in ("grpo", "rloo")
            else ledger.pairs + ledger.human_ratings,
        )

    def _write(
        self,
        out: Path,
        arm: Arm,
        entry: RlhfEntry,
        tokenizer: PreTrainedTokenizerBase,
        curves: list[dict[str, Any]],
        preferences: Preferences | None = None,
    ) -> None:
        checkpoint = self.folder / arm / f"checkpoint-{entry.best_step}"
        with whole_folder(out) as work:
            write_entry(work, checkpoint, tokenizer, entry, curves)
            if preferences is not None:
                write_json(work / "ledger.json", preferences.ledger.model_dump())
                rows: Sequence[Any] = preferences.rated or preferences.pairs
                write_jsonl(work / "preferences.jsonl", rows)


def _train_section(inputs: RlhfInputs) -> Train:
    """The settings that the fine-tuned entry was trained with."""
    try:
        return Train.model_validate(inputs.sft_record["params"])
    except (KeyError, ValueError) as fault:
        raise DataError(
            f"{inputs.sft}/entry.json does not say how it was trained ({type(fault).__name__}); "
            "run `dvc repro train`"
        ) from None


def _finished(folder: Path, steps: Steps) -> TrainerState | None:
    """The state of an arm that was trained to its end before."""
    newest = newest_complete(folder) if folder.is_dir() else None
    if newest is None or step_of(newest) < steps.steps:
        return None
    return TrainerState.load_from_json(str(newest / "trainer_state.json"))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process a run: two would delete each other's checkpoints."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MarkError(
            f"this run of RLHF already goes on in another process (lock {lock.lock_file}); wait for it"
        ) from None
    try:
        yield
    finally:
        lock.release()
        if not folder.exists():
            Path(lock.lock_file).unlink(missing_ok=True)
