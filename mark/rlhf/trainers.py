"""DPO, KTO, GRPO, RLOO and the reward model: TRL's trainers, fed with token ids of our own prompts."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback

from mark.config import Rlhf
from mark.prompting import answer_ids
from mark.rlhf.preferences import Pair, Rated
from mark.rlhf.reward_model import training_rows
from mark.rlhf.sampling import Answered, Task
from mark.rlhf.schedule import GroupSampler, Steps
from mark.train.callbacks import FlowCallback, Meter
from mark.train.checkpoints import mark_complete

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)
Score = Callable[[Sequence[Answered]], list[float]]  # the reward of each answer
Rows = Sequence[tuple[Task, Pair]] | Sequence[tuple[Task, Rated]] | Sequence[Task]


@dataclass(frozen=True)
class Setup:
    """What every method needs beside its rows."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    settings: Rlhf
    steps: Steps
    folder: Path  # gets the checkpoints
    seed: int
    bf16: bool
    use_cpu: bool


class _Ours:
    """Laid over a trainer of TRL's: our token ids, our order, our checkpoints, no files of its own."""

    order: GroupSampler
    meter: Meter

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        """The rows hold token ids already."""
        return dataset

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Prompts are token ids already (grpo, rloo)."""
        return prompts, None, {}

    def _get_train_sampler(self, dataset: Dataset | None = None) -> GroupSampler:
        return self.order

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Cards are the registry's."""

    def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
        """Counts tokens for the progress line."""
        seen = self.state.num_input_tokens_seen  # type: ignore[attr-defined]
        loss = super().training_step(model, inputs, *rest)  # type: ignore[misc]
        if isinstance(inputs, dict):
            self.meter.tokens += int(inputs["attention_mask"].sum())
        else:
            self.meter.tokens += int(self.state.num_input_tokens_seen - seen)  # type: ignore[attr-defined]
        return loss

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        step = self.state.global_step  # type: ignore[attr-defined]
        mark_complete(Path(self.args.output_dir) / f"checkpoint-{step}")  # type: ignore[attr-defined]


def build_trainer(setup: Setup, rows: Rows, score: Score) -> Any:
    """A trainer for `setup.settings.method`, ready to train.

    The frozen copy of the adapter that TRL makes is the reference; no `peft_config` is given, so the adapter
    itself goes on being trained.

    Args:
        setup: Model and settings.
        rows: Pairs (dpo), rated answers (kto) or questions (grpo, rloo).
        score: The reward; read by grpo and rloo.
    """
    _score_answers_alone()
    return _watched(_BUILDERS[setup.settings.method](setup, rows, score), setup)


def _score_answers_alone() -> None:
    """Have TRL project only positions with a label onto the vocabulary, on a CPU too.

    Without Triton it projects every position, for the sake of devices that compile for each shape. Prompts
    are nine tenths of the positions, and two fifths of a step on a CPU went into theirs.
    """
    from trl.trainer import utils

    plain = getattr(utils, "_use_triton", None)  # TRL 1.16: only asked for this choice there
    if plain is None:
        log.info("this TRL chooses otherwise which positions it projects; a step on a CPU may take longer")
    elif not hasattr(plain, "and_cpu"):
        utils._use_triton = _and_cpu(plain)


def _and_cpu(plain: Callable[[torch.device], bool]) -> Callable[[torch.device], bool]:
    def chosen(device: torch.device) -> bool:
        return device.type == "cpu" or plain(device)

    chosen.and_cpu = True  # type: ignore[attr-defined]
    return chosen


def build_reward_trainer(setup: Setup, rows: Sequence[tuple[Task, Pair]]) -> Any:
    """A trainer of a reward model, ready to train.

    Args:
        setup: A model with one output, and the settings that it is trained with.
        rows: Pairs.
    """
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    class Trainer(_Ours, RewardTrainer):  # type: ignore[misc]
        pass

    shared = _arguments(setup, setup.settings.batch_size)
    del shared["beta"]
    arguments = RewardConfig(**shared, max_length=None)
    data = Dataset.from_list(training_rows(setup.tokenizer, rows))
    return _watched(_made(Trainer, setup, arguments, data), setup)


def _watched(trainer: Any, setup: Setup) -> Any:
    """Our own progress and order in place of the trainer's."""
    trainer.meter = Meter()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(FlowCallback(trainer.order, setup.settings.learning_rate))
    return trainer


def _arguments(setup: Setup, batch: int) -> dict[str, Any]:
    """What the configurations of all methods share."""
    settings = setup.settings
    return {
        "output_dir": str(setup.folder),
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "max_steps": setup.steps.steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": math.ceil(settings.warmup_ratio * setup.steps.steps),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "beta": settings.beta,
        "optim": "adamw_torch",
        "bf16": setup.bf16,
        "use_cpu": setup.use_cpu,
        "seed": setup.seed,
        "data_seed": setup.seed,
        "gradient_checkpointing": False,
        "disable_dropout": True,
        "eval_strategy": "no",
        "save_strategy": "no",  # the validation callback asks for each checkpoint
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
    }


def _dpo(setup: Setup, rows: Sequence[tuple[Task, Pair]], score: Score) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Trainer(_Ours, DPOTrainer):  # type: ignore[misc]
        pass

    encode = setup.tokenizer
    data = Dataset.from_list(
        [
            {
                "prompt_ids": list(task.prompt_ids),
                "chosen_ids": answer_ids(encode, pair.chosen),
                "rejected_ids": answer_ids(encode, pair.rejected),
            }
            for task, pair in rows
        ]
    )
    shared, alpha = _arguments(setup, setup.settings.batch_size), setup.settings.rpo_alpha
    if alpha > 0:
        shared |= {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, alpha]}
    arguments = DPOConfig(**shared, max_length=None)
    return _made(Trainer, setup, arguments, data)


def _kto(setup: Setup, rows: Sequence[tuple[Task, Rated]], score: Score) -> Any:
    """Each batch's answers, moved on by one question, estimate the divergence: batches stay as they are."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    class Trainer(_Ours, KTOTrainer):  # type: ignore[misc]
        pass

    size = setup.settings.batch_size
    whole = len(rows) - len(rows) % (size * setup.settings.gradient_accumulation_steps)
    answers = [answer_ids(setup.tokenizer, rated.answer) for _, rated in rows[:whole]]
    data = Dataset.from_list(
        [
            {
                "prompt_ids": list(task.prompt_ids),
                "completion_ids": answers[i],
                "KL_completion_ids": answers[i - i % size + (i - 1) % size],
                "label": rated.good,
            }
            for i, (task, rated) in enumerate(rows[:whole])
        ]
    )
    arguments = KTOConfig(**_arguments(setup, size), max_length=None)
    trainer = _made(Trainer, setup, arguments, data)
    trainer.order = _InOrder(whole, size * setup.settings.gradient_accumulation_steps, setup.seed)
    return trainer


class _InOrder(GroupSampler):
    """The rows as they stand, every epoch."""

    def __iter__(self) -> Any:
        return iter(range(self.rows))


def _grpo(setup: Setup, rows: Sequence[Task], score: Score) -> Any:
    from trl import GRPOConfig, GRPOTrainer

    class Trainer(_Ours, GRPOTrainer):  # type: ignore[misc]
        pass

    return _online(Trainer, GRPOConfig, setup, rows, score)


def _rloo(setup: Setup, rows: Sequence[Task], score: Score) -> Any:
    from trl import RLOOConfig, RLOOTrainer

    class Trainer(_Ours, RLOOTrainer):  # type: ignore[misc]
        pass

    return _online(Trainer, RLOOConfig, setup, rows, score)


def _online(trainer: Any, config: Any, setup: Setup, rows: Sequence[Task], score: Score) -> Any:
    """Answers are sampled while training: `batch_size` questions with all their answers a forward pass."""
    from datasets import Dataset

    sampling = setup.settings.sampling
    data = Dataset.from_list([{"prompt": list(task.prompt_ids), "row": i} for i, task in enumerate(rows)])
    arguments = config(
        **_arguments(setup, setup.settings.batch_size * sampling.answers),
        num_generations=sampling.answers,
        max_completion_length=sampling.max_new_tokens,
        temperature=sampling.temperature,
    )
    eos = setup.tokenizer.eos_token_id

    def reward(
        completions: list[str], completion_ids: list[list[int]], row: list[int], **_: Any
    ) -> list[float]:
        return score(
            [
                Answered(rows[i], text.strip(), not ids or ids[-1] != eos)
                for i, text, ids in zip(row, completions, completion_ids, strict=True)
            ]
        )

    made = _made(trainer, setup, arguments, data, reward_funcs=reward)
    made.order = GroupSampler(
        len(rows),
        setup.settings.batch_size * setup.settings.gradient_accumulation_steps,
        setup.seed,
        answers=sampling.answers,
        repeats=setup.settings.gradient_accumulation_steps,
    )
    return made


def _made(trainer: Any, setup: Setup, arguments: Any, data: Dataset, **more: Any) -> Any:
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one GPU a process: TRL refuses DataParallel
    made = trainer(
        model=setup.model, args=arguments, train_dataset=data, processing_class=setup.tokenizer, **more
    )
    group = setup.settings.batch_size * setup.settings.gradient_accumulation_steps
    made.order = GroupSampler(len(data), group, setup.seed)
    return made


_BUILDERS: dict[str, Callable[..., Any]] = {"dpo": _dpo, "kto": _kto, "grpo": _grpo, "rloo": _rloo}
