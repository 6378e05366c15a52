"""The dry run: what would be asked, sampled, trained and written; nothing is loaded or written."""

from __future__ import annotations

from pathlib import Path

from mark.config import Rlhf
from mark.errors import GuardError
from mark.rlhf.inputs import CONTROL, RlhfInputs
from mark.train.guard import check_guards


def plan_text(inputs: RlhfInputs, settings: Rlhf, out: Path) -> str:
    """What RLHF would do.

    Args:
        inputs: What is read.
        settings: The rlhf section.
        out: The entry's folder.

    Raises:
        MarkError: Whatever would keep it from starting, but for the guards.
    """
    inputs.check(settings)
    sampling, online = settings.sampling, settings.method in ("grpo", "rloo")
    asked = min(len(inputs.train()), settings.max_pairs if online else sampling.questions)
    group = settings.batch_size * settings.gradient_accumulation_steps
    rows = asked if online else settings.max_pairs * (2 if settings.method == "kto" else 1)
    steps = settings.max_steps if settings.max_steps > 0 else int(max(settings.epochs, 1) * (rows // group))
    when = "while training" if online else f"before training, until {settings.max_pairs:,} pairs are found"
    lines = [
        ("method", f"{settings.method}, from {inputs.sft}"),
        ("questions", f"at most {asked:,}, {sampling.answers} answers each, sampled {when}"),
        ("preferences", f"at most {settings.max_pairs:,}; {settings.min_pairs:,} are needed for a verdict"),
        ("feedback", f"{len(inputs.accepted()):,} accepted"),
        *([("reward model", _reward_model(settings))] if settings.reward_model.enabled else []),
        ("steps", f"at most {steps:,}, {settings.evaluations} evaluations; as many for the control arm"),
        ("validation", f"{min(settings.val_questions, len(inputs.validation())):,} questions"),
        ("adapter", f"{out}/, control {out.parent / CONTROL}/"),
        ("checkpoints", f"{inputs.checkpoints}/ (removed after success)"),
    ]
    width = max(len(name) for name, _ in lines)
    head = "RLHF plan (dry run: nothing was trained or written)"
    return "\n".join([head, *(f"  {name:<{width}}  {text}" for name, text in lines), _guard(settings)])


def _reward_model(settings: Rlhf) -> str:
    own = settings.reward_model
    return (
        f"from at most {settings.max_pairs:,} preferences of {settings.sampling.questions:,} questions, "
        f"{own.min_pairs:,} are needed; adds at most {own.weight:g}"
    )


def _guard(settings: Rlhf) -> str:
    try:
        check_guards(settings, confirmed=True)
    except GuardError as guard:
        return str(guard)
    return "Add --confirm-run to train."
