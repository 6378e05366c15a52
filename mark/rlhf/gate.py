"""Whether the policy replaces the fine-tuned model: only where it is shown to be better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mark.evaluation.significance import Gain, Verdict, judge


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at.

    Attributes:
        pairs: Preferences (questions for grpo and rloo) that the policy was trained on.
        min_pairs: Fewer are too few to judge.
        steps: That it was trained for; 0: there was too little to train on.
        clusters: Of answerable test questions.
        min_clusters: Fewer are too few to judge.
        val_rise: Validation reward of the policy's checkpoint minus that of the fine-tuned model.
        f1_over_sft: Paired difference in token F1 on the test.
        f1_over_continued: The same over fine-tuning gone on with for as many steps.
        outside: Paired difference over the fine-tuned model in a metric that the reward does not contain.
        outside_name: Its name.
    """

    pairs: int
    min_pairs: int
    steps: int
    clusters: int
    min_clusters: int
    val_rise: float
    f1_over_sft: Gain
    f1_over_continued: Gain
    outside: Gain
    outside_name: str

    @property
    def too_few(self) -> bool:
        """Whether there were too few preferences to judge anything."""
        return self.steps == 0 or self.pairs < self.min_pairs


@dataclass(frozen=True)
class Decision:
    """Which model goes on, and why."""

    kept: Literal["rlhf", "sft"]
    verdict: Verdict
    reason: str


def decide(found: Evidence) -> Decision:
    """Keep the policy where token F1 rose over both the fine-tuned model and the control arm, intervals above
    zero, and the metric outside the reward did not fall; else the fine-tuned model."""
    if found.too_few:
        reason = f"{found.pairs} preferences are too few to judge, {found.min_pairs} are needed"
        if found.steps == 0:
            reason += "; nothing was trained"
        return Decision("sft", "cannot tell", reason)
    if found.clusters < found.min_clusters:
        reason = f"{found.clusters} clusters of test questions are too few, {found.min_clusters} are needed"
        return Decision("sft", "cannot tell", reason)
    verdict = judge([found.f1_over_sft, found.f1_over_continued])
    over_sft, over_continued = _told(found.f1_over_sft), _told(found.f1_over_continued)
    if verdict == "don't ship":
        lower = found.f1_over_sft.high < 0
        worse = ("the fine-tuned model", over_sft) if lower else ("fine-tuning continued", over_continued)
        return Decision("sft", verdict, f"token F1 is below that of {worse[0]} ({worse[1]})")
    if verdict == "cannot tell":
        unsure = [
            f"{name} ({told})"
            for name, told, gain in (
                ("the fine-tuned model", over_sft, found.f1_over_sft),
                ("fine-tuning continued", over_continued, found.f1_over_continued),
            )
            if gain.low <= 0
        ]
        return Decision("sft", verdict, f"token F1 is not shown to be above that of {' and '.join(unsure)}")
    if found.outside.difference < 0:
        reason = (
            f"token F1 rose but {found.outside_name}, which the reward does not contain, fell "
            f"({_told(found.outside)}): the reward may have been gamed"
        )
        return Decision("sft", "don't ship", reason)
    if found.val_rise <= 0:
        reason = f"the validation reward did not rise ({found.val_rise:+.3f})"
        return Decision("sft", "cannot tell", reason)
    return Decision(
        "rlhf",
        "ship",
        f"token F1 rose over the fine-tuned model ({over_sft}) and over fine-tuning continued "
        f"({over_continued}), and {found.outside_name} did not fall",
    )


def _told(gain: Gain) -> str:
    return f"{100 * gain.difference:+.1f} points, {100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
