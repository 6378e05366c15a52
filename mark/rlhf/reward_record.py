"""What became of the reward model: measured on held-out preferences, used or not, and why."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer

from mark.config import RewardModel
from mark.evaluation.significance import Interval
from mark.rlhf.preferences import PreferenceLedger


class RewardModelRecord(BaseModel):
    """Stands in entry.json of the policy and in metrics/rlhf.json.

    `accuracy` is the share of held-out preferences whose better answer scores higher; a tie counts half. It,
    `centre` and `scale` are missing where nothing was trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    used: bool
    reason: str
    pairs: int = 0  # gathered
    trained_on: int = 0
    held_out: int = 0
    held_out_clusters: int = 0  # documents or sections
    steps: int = 0
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    centre: float | None = None  # mean score of the answers that it was trained on
    scale: float | None = None  # their standard deviation
    preferences: PreferenceLedger | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_missing(self, plain: Any) -> dict[str, Any]:
        return {name: value for name, value in plain(self).items() if value is not None}


def usable(accuracy: Interval, held_out: int) -> tuple[bool, str]:
    """Whether a reward model may be used, and why.

    Args:
        accuracy: On the held-out preferences.
        held_out: How many there are.

    Returns:
        True where the interval lies above one half, what guessing reaches; and a sentence's end.
    """
    told = (
        f"it ranks {100 * accuracy.value:.1f} % ({100 * accuracy.low:.0f} to {100 * accuracy.high:.0f}) of "
        f"{held_out} held-out preferences right"
    )
    if accuracy.low > 0.5:
        return True, told
    return False, f"{told}, which is not shown to be more than guessing"


def too_few(settings: RewardModel, pairs: int, trained_on: int, clusters: int) -> str | None:
    """What keeps a reward model from being trained at all, and what to change; None where nothing does.

    Args:
        settings: Section `rlhf.reward_model`.
        pairs: Preferences.
        trained_on: Those that are not held out.
        clusters: Held-out documents or sections.
    """
    group = settings.batch_size * settings.gradient_accumulation_steps
    if pairs < settings.min_pairs:
        return (
            f"{pairs} preferences are fewer than rlhf.reward_model.min_pairs ({settings.min_pairs}); "
            "raise rlhf.sampling.questions and rlhf.max_pairs, or have more answers edited"
        )
    if clusters < settings.min_clusters:
        return (
            f"{clusters} documents or sections are held out, fewer than rlhf.reward_model.min_clusters "
            f"({settings.min_clusters}); raise rlhf.reward_model.held_out_share or rlhf.max_pairs"
        )
    if trained_on < group:
        return (
            f"{trained_on} preferences are left to train on, fewer than one step takes ({group}); "
            "lower rlhf.reward_model.held_out_share"
        )
    return None
