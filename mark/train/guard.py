"""Guard rails: nothing trains unless every setting allows it."""

from __future__ import annotations

import os

from mark.config import SETUP_MODE, Rlhf, Train, setup_mode
from mark.errors import GuardError
from mark.train.processes import processes


def check_guards(settings: Train | Rlhf, confirmed: bool) -> None:
    """Refuse to train while a guard rail forbids it.

    Args:
        settings: The section `train` or `rlhf`.
        confirmed: Whether the user said `--confirm-run`, or a DVC stage runs.

    Raises:
        GuardError: One sentence that names the setting to change.
    """
    section, what = ("rlhf", "RLHF") if isinstance(settings, Rlhf) else ("train", "Training")
    if section == "rlhf" and processes() > 1:
        raise GuardError("RLHF trains in one process; start it without torchrun or `accelerate launch`.")
    if setup_mode():
        raise GuardError(
            f"{what} is blocked because {SETUP_MODE}={os.environ[SETUP_MODE]}; unset it to train."
        )
    if settings.dry_run:
        raise GuardError(f"{what} is guarded by {section}.dry_run: true; set it to false to train.")
    if settings.max_steps == 0:
        raise GuardError(
            f"{what} is guarded by {section}.max_steps: 0; set it to -1 or a number of steps to train."
        )
    if settings.epochs == 0 and settings.max_steps < 0:
        raise GuardError(f"{what} is guarded by {section}.epochs: 0; set it to 1 or more to train.")
    if not confirmed:
        raise GuardError(f"{what} was not confirmed; add --confirm-run to train.")
