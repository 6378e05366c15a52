"""Rows of the report's two plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mark.rlhf.validation import VAL_KL, VAL_REWARD

Tree = dict[str, Any]


def frontier_rows(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the plot of validation reward against divergence.

    Args:
        curves: Of the policy's curves.json.
    """
    points: dict[tuple[str, int], dict[str, float]] = {}
    for row in curves:
        if row["metric"] in (VAL_REWARD, VAL_KL):
            points.setdefault((row["arm"], row["step"]), {})[row["metric"]] = row["value"]
    return [
        {"arm": arm, "step": step, "kl": point[VAL_KL], "reward": point[VAL_REWARD]}
        for (arm, step), point in sorted(points.items())
    ]


def arm_rows(arms: Tree) -> list[dict[str, Any]]:
    """Rows of the plot of the arms: arm, metric, value, low, high."""
    names = ("reward", "exact_match", "token_f1", "similarity", "rouge_l", "refusal_recall", "false_refusals")
    return [
        {"arm": arm, "metric": n, "value": values[n], "low": values[f"{n}_low"], "high": values[f"{n}_high"]}
        for arm, values in arms.items()
        for n in names
        if n in values
    ]
