"""Preferences, policy training through TRL, and whether it helped. Heavy imports wait until it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mark.config import Rlhf
from mark.train.guard import check_guards

if TYPE_CHECKING:
    from mark.rlhf.inputs import RlhfInputs
    from mark.rlhf.run import RlhfResult

__all__ = ["RlhfInputs", "train_policy"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use: `mark feedback add` must not load torch."""
    if name != "RlhfInputs":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mark.rlhf.inputs import RlhfInputs

    return RlhfInputs


def train_policy(
    inputs: RlhfInputs, settings: Rlhf, seed: int, out: Path, confirmed: bool = False
) -> RlhfResult:
    """Train a policy from a fine-tuned entry, and beside it the control arm.

    A run that was interrupted goes on from its newest complete checkpoints.

    Args:
        inputs: What is read and where by-products go.
        settings: The rlhf section.
        seed: Of sampling, order and dropout.
        out: The policy's folder; the control arm's stands beside it.
        confirmed: `--confirm-run`, or a DVC stage.

    Raises:
        GuardError: A guard rail forbids it.
        MarkError: Data, model, memory or packages do not allow it.
    """
    check_guards(settings, confirmed)
    inputs.check(settings)
    from mark.rlhf.run import run

    return run(inputs, settings, seed, out)
