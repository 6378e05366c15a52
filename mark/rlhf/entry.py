"""What an arm of RLHF leaves: its record and its curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mark.rlhf.validation import VAL_KL, VAL_REWARD
from mark.train.entry import Entry

if TYPE_CHECKING:
    from transformers import TrainerState

Arm = Literal["rlhf", "sft_continued"]


class RlhfEntry(Entry):
    """entry.json of an arm; `params` is the rlhf section, `examples` the rows that it was trained on."""

    method: str  # dpo, kto, grpo, rloo or sft
    sft: str  # the entry that it started from
    sft_sha256: str  # of its adapter
    val_reward: float  # of the checkpoint that became the entry
    val_kl: float  # nats an answer
    sft_val_reward: float  # of the entry that it started from
    pairs: int  # preferences; questions for grpo and rloo


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
