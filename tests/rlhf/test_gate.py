"""A planted better policy is chosen, a planted worse one refused, and the reason is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mark.evaluation.significance import Bootstrap, Gain
from mark.rlhf.gate import Evidence, decide


def gain(difference: float, half: float = 0.02) -> Gain:
    return Gain(difference, difference - half, difference + half, 1.43 * half, 240, 60)


GOOD = Evidence(
    pairs=200, min_pairs=150, steps=100, clusters=60, min_clusters=30, val_rise=0.05, f1_over_sft=gain(0.05),
    f1_over_continued=gain(0.04), outside=gain(0.03), outside_name="similarity",
)  # fmt: skip


def test_a_better_policy_is_kept() -> None:
    found = decide(GOOD)
    assert (found.kept, found.verdict) == ("rlhf", "ship")
    assert "+5.0 points, +3.0 to +7.0" in found.reason


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({"f1_over_sft": gain(-0.05)}, "don't ship", "below that of the fine-tuned model (-5.0 points"),
        ({"f1_over_continued": gain(-0.05)}, "don't ship", "below that of fine-tuning continued"),
        (
            {"f1_over_continued": gain(0.01)},
            "cannot tell",
            "not shown to be above that of fine-tuning continued",
        ),
        ({"f1_over_sft": gain(0.0)}, "cannot tell", "not shown to be above that of the fine-tuned model"),
        ({"outside": gain(-0.01)}, "don't ship", "the reward may have been gamed"),
        ({"val_rise": 0.0}, "cannot tell", "validation reward did not rise"),
        ({"pairs": 12}, "cannot tell", "12 preferences are too few to judge, 150 are needed"),
        (
            {"steps": 0},
            "cannot tell",
            "200 preferences are too few to judge, 150 are needed; nothing was trained",
        ),
        ({"clusters": 8}, "cannot tell", "8 clusters of test questions are too few"),
    ],
)
def test_otherwise_the_fine_tuned_model_is_kept(
    changes: dict[str, object], verdict: str, reason: str
) -> None:
    found = decide(replace(GOOD, **changes))  # type: ignore[arg-type]
    assert (found.kept, found.verdict) == ("sft", verdict)
    assert reason in found.reason


def test_planted_scores_through_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    clusters = [i // 4 for i in range(240)]
    old = rng.uniform(0.2, 0.6, 240)
    how = Bootstrap(500, 0.95, 1)

    def evidence(shift: float) -> Evidence:
        new = old + shift + rng.normal(0, 0.05, 240)
        found = how.gain(new, old, clusters)
        return replace(GOOD, f1_over_sft=found, f1_over_continued=found, outside=found)

    assert decide(evidence(0.05)).kept == "rlhf"
    assert decide(evidence(-0.05)).verdict == "don't ship"
    assert decide(evidence(0.0)).kept == "sft"
