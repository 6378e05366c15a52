"""What an arm of RLHF leaves: its record and its curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_serializer

from mark.models.loading import entry_base
from mark.models.source_file import base_sha256, read_source
from mark.rlhf.inputs import params_sha256
from mark.rlhf.reward_record import RewardModelRecord
from mark.rlhf.validation import VAL_KL, VAL_REWARD
from mark.train.entry import Entry

if TYPE_CHECKING:
    from transformers import TrainerState

    from mark.rlhf.arms import Arms
    from mark.rlhf.preferences import PreferenceLedger

Arm = Literal["rlhf", "sft_continued"]


class RlhfEntry(Entry):
    """entry.json of an arm; `params` is the rlhf section, `examples` the rows that it was trained on.

    Where `best_step` is 0 the adapter is the fine-tuned one: no checkpoint had a higher validation reward, or
    there was too little to train on (`steps` is 0 too).
    """

    method: str  # dpo, kto, grpo, rloo or sft
    sft: str  # the entry that it started from
    sft_sha256: str  # of its adapter
    val_reward: float  # of the checkpoint that became the entry
    val_kl: float  # nats an answer
    sft_val_reward: float  # of the entry that it started from
    pairs: int  # preferences; questions for grpo and rloo
    reward_model: RewardModelRecord | None = None  # grpo, rloo: where one is wanted
    answers_in: Literal["float32", "bfloat16"] | None = None  # as the entry that it started from

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, plain: Any) -> dict[str, Any]:
        """A run without a reward model has a record without one."""
        values: dict[str, Any] = plain(self)
        return {k: v for k, v in values.items() if k not in ("reward_model", "answers_in") or v is not None}


def record_of(
    arms: Arms, arm: Arm, name: str, state: TrainerState, rows: int, ledger: PreferenceLedger
) -> RlhfEntry:
    """The record of an arm. Of steps with equal validation reward the earliest is the best; 0 is the start.

    Args:
        arms: What it was trained from and with.
        arm: Which.
        name: Of its folder.
        state: Of its trainer; an empty one where nothing was trained.
        rows: That it was trained on.
        ledger: Of the preferences.
    """
    measured = {0: {VAL_REWARD: arms.start, VAL_KL: 0.0}}
    measured |= {int(r["step"]): r for r in state.log_history if VAL_REWARD in r}
    best = max(measured, key=lambda step: (measured[step][VAL_REWARD], -step))
    losses = [row["loss"] for row in state.log_history if "loss" in row]
    inputs, settings = arms.inputs, arms.settings
    source = read_source(entry_base(inputs.sft))
    online = settings.method in ("grpo", "rloo")
    return RlhfEntry(
        name=name,
        base=inputs.sft_record["base"],
        base_sha256=base_sha256(source),
        architecture=source.architecture,
        random=source.random,
        data_sha256=inputs.data_sha256(),
        params_sha256=params_sha256(settings, arms.seed),
        params=settings.recorded(),
        seed=arms.seed,
        examples=rows,
        steps=state.global_step,
        best_step=best,
        train_loss=round(sum(losses) / max(len(losses), 1), 6) + 0.0,
        val_loss=None,
        trainable_parameters=inputs.sft_record["trainable_parameters"],
        max_seq_length=arms.train.max_seq_length,
        precision="bf16" if arms.bf16 else "fp32",
        method=settings.method if arm == "rlhf" else "sft",
        sft=inputs.sft.name,
        sft_sha256=inputs.sft_sha256(),
        val_reward=measured[best][VAL_REWARD],
        val_kl=measured[best][VAL_KL],
        sft_val_reward=arms.start,
        answers_in=arms.validation.answers_in,
        pairs=ledger.rows if online else ledger.pairs + ledger.human_ratings,
    )


def curve_rows(arm: Arm, state: TrainerState, start: float) -> list[dict[str, Any]]:
    """Raw curves of an arm: a row a logged number; step 0 is the fine-tuned model.

    Args:
        arm: Its name.
        state: Of its trainer.
        start: Validation reward of the fine-tuned model.
    """
    rows: list[dict[str, Any]] = [
        {"arm": arm, "step": 0, "metric": VAL_REWARD, "value": start},
        {"arm": arm, "step": 0, "metric": VAL_KL, "value": 0.0},
    ]
    names = {"loss": "loss", VAL_REWARD: VAL_REWARD, VAL_KL: VAL_KL, "reward": "sampled_reward"}
    for row in state.log_history:
        for key, name in names.items():
            if key in row:
                value = round(float(row[key]), 6) + 0.0
                rows.append({"arm": arm, "step": int(row["step"]), "metric": name, "value": value})
    return sorted(rows, key=lambda row: (row["step"], row["metric"]))


def plot_rows(state: TrainerState, start: float) -> list[dict[str, float]]:
    """Rows of the plot of the policy's validation reward by step; the other curves stand in the entry."""
    rows = [{"step": 0, "val_reward": start, "val_kl": 0.0}]
    return rows + [
        {"step": int(row["step"]), "val_reward": row[VAL_REWARD], "val_kl": row[VAL_KL]}
        for row in state.log_history
        if VAL_REWARD in row
    ]
