"""The reward model: the base with a head that gives an answer one number, trained through TRL.

Source: Ouyang et al. 2022, Training Language Models to Follow Instructions with Human Feedback, section 3.5
(pairwise loss); Bradley and Terry 1952 (the model behind it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mark.answering.quotes import fold
from mark.config import Lora, RewardModel
from mark.errors import ModelError
from mark.models.faults import LOAD_FAULTS, first_line
from mark.models.loading import load_tokenizer
from mark.models.quiet import quiet_progress
from mark.models.special_ids import set_special_ids
from mark.models.targets import lora_targets
from mark.prompting import answer_ids
from mark.rlhf.reward_record import RewardModelRecord
from mark.rlhf.sampling import Answered, Task
from mark.seeding import derived_seed
from mark.untrusted import Neutraliser

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HEAD = "score"


def check_architecture(architecture: str) -> None:
    """Check that a base can become a reward model.

    Args:
        architecture: `config.model_type` of the base.

    Raises:
        ModelError: transformers has no sequence classification for it.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as KNOWN,
    )

    if architecture not in KNOWN:
        raise ModelError(
            f"rlhf.reward_model.enabled: a {architecture} base cannot be a reward model (transformers has no "
            "sequence classification for it); take model=transformer, or set it to false"
        )


def new_reward_model(
    base: Path, lora: Lora, seed: int, device: torch.device
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """The base with a new adapter and a new head, both trainable, float32.

    Args:
        base: models/base/<name>.
        lora: Of the fine-tuned entry; its dropout is not used.
        seed: Of the run.
        device: Where it is trained.

    Raises:
        ModelError: The base cannot be loaded, or its architecture has no known targets.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(derived_seed(seed, "reward_model"))
    model, tokenizer = _with_head(base)
    wanted = lora.target_modules
    targets = lora_targets(str(model.config.model_type)) if wanted == "auto" else list(wanted)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        target_modules=targets,
        modules_to_save=[_HEAD],
        task_type="SEQ_CLS",
    )
    with quiet_progress():
        tuned = get_peft_model(model, config)
    return tuned.to(device), tokenizer


def _with_head(base: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForSequenceClassification

    tokenizer = load_tokenizer(base)
    try:
        with quiet_progress():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                base, num_labels=1, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
                output_loading_info=True,
            )  # fmt: skip
    except LOAD_FAULTS as fault:
        raise ModelError(f"{base} cannot be made a reward model ({first_line(fault)})") from None
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(f"{_HEAD}."))
    if missing:
        raise ModelError(f"{base}: {len(missing)} weights are missing ({missing[0]}, ...); fetch it anew")
    model.generation_config = None  # with a head there is none, which set_special_ids asks for
    set_special_ids(model, tokenizer)
    return model, tokenizer


@dataclass(frozen=True)
class Scorer:
    """A trained reward model that scores answers, in evaluation mode."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    batch_size: int  # answers scored together

    @classmethod
    def load(cls, folder: Path, base: Path, device: torch.device, batch_size: int) -> Scorer:
        """Load a reward model from what `write_entry` kept of it.

        Args:
            folder: Holds adapter and head.
            base: That it was trained on.
            device: Where it answers.
            batch_size: Answers scored together.

        Raises:
            ModelError: Folder or base is damaged.
        """
        from peft import PeftModel

        model, tokenizer = _with_head(base)
        try:
            with quiet_progress():
                tuned = PeftModel.from_pretrained(model, folder, torch_device=str(device))
        except LOAD_FAULTS as fault:
            raise ModelError(
                f"{folder} cannot be loaded ({first_line(fault)}); run `dvc repro rlhf`"
            ) from None
        return cls(tuned.to(device).eval(), tokenizer, batch_size)

    @torch.no_grad()
    def scores(self, rows: Sequence[tuple[Task, str]]) -> list[float]:
        """The score of each question with an answer, unbounded.

        The answer is folded and its special tokens are broken, as in the preferences.

        Args:
            rows: [N].

        Returns:
            [N]; the same for the same rows in the same order on the same machine.
        """
        plain = Neutraliser(self.tokenizer).text
        ids = [answered_ids(self.tokenizer, task, plain(fold(text))) for task, text in rows]
        order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), i))
        found = [0.0] * len(ids)
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            for place, score in zip(places, self._batch([ids[i] for i in places]), strict=True):
                found[place] = score
        return found

    def _batch(self, ids: Sequence[Sequence[int]]) -> list[float]:
        longest = max(map(len, ids))
        pad = int(self.tokenizer.pad_token_id or 0)
        padded = [[*row, *[pad] * (longest - len(row))] for row in ids]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in ids]
        device = self.model.device
        logits = self.model(
            input_ids=torch.tensor(padded, device=device),
            attention_mask=torch.tensor(mask, device=device),
            use_cache=False,
        ).logits  # [rows, 1]
        scores: list[float] = logits[:, 0].float().tolist()
        return scores


def answered_ids(tokenizer: PreTrainedTokenizerBase, task: Task, answer: str) -> list[int]:
    """Token ids of a question with an answer that ends."""
    return [*task.prompt_ids, *answer_ids(tokenizer, answer)]


def bounded(score: float, record: RewardModelRecord, weight: float) -> float:
    """What a score adds to the rule-based reward, between `-weight` and `weight`.

    Args:
        score: Of the reward model.
        record: Holds mean and spread of the scores that it was trained on.
        weight: `rlhf.reward_model.weight`.
    """
    assert record.centre is not None and record.scale is not None
    return weight * math.tanh((score - record.centre) / record.scale)


@dataclass(frozen=True)
class LearnedReward:
    """What the reward model adds to the rule-based reward while answers are sampled."""

    scorer: Scorer
    record: RewardModelRecord
    settings: RewardModel

    def __call__(self, answers: Sequence[Answered]) -> list[float]:
        """Of each answer; one that was cut off gets the least, since it has seen whole answers alone."""
        whole = [(answer.task, answer.text) for answer in answers if not answer.cut_off]
        scores = iter(self.scorer.scores(whole))
        weight = self.settings.weight
        return [
            -weight if answer.cut_off else bounded(next(scores), self.record, weight) for answer in answers
        ]


def training_rows(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[tuple[Task, Any]]
) -> list[dict[str, list[int]]]:
    """Rows of TRL's reward trainer: both answers of each pair as token ids."""
    return [
        {
            "chosen_ids": answered_ids(tokenizer, task, pair.chosen),
            "rejected_ids": answered_ids(tokenizer, task, pair.rejected),
        }
        for task, pair in rows
    ]
