"""Guard rails: nothing trains unless every setting allows it."""

from __future__ import annotations

import os

from mark.config import Train
from mark.errors import GuardError

SETUP_MODE = "MARK_SETUP_MODE"


def setup_mode() -> bool:
    """Whether MARK_SETUP_MODE blocks all training ("", 0, false and no do not)."""
    return os.environ.get(SETUP_MODE, "").strip().lower() not in ("", "0", "false", "no")


def check_guards(settings: Train, confirmed: bool) -> None:
    """Refuse to train while a guard rail forbids it.

    Args:
        settings: The train section.
        confirmed: Whether the user said `--confirm-run`, or a DVC stage runs.

    Raises:
        GuardError: One sentence that names the setting to change.
    """
    if setup_mode():
        raise GuardError(
            f"Training is blocked because {SETUP_MODE}={os.environ[SETUP_MODE]}; unset it to train."
        )
    if settings.dry_run:
        raise GuardError("Training is guarded by train.dry_run: true; set it to false to train.")
    if settings.max_steps == 0:
        raise GuardError(
            "Training is guarded by train.max_steps: 0; set it to -1 or a number of steps to train."
        )
    if settings.epochs == 0 and settings.max_steps < 0:
        raise GuardError("Training is guarded by train.epochs: 0; set it to 1 or more to train.")
    if not confirmed:
        raise GuardError("Training was not confirmed; add --confirm-run to train.")
