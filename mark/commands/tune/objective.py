"""What may be tuned: the validation loss, or a figure that no test question stands behind."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mark.commands.revisions import read_at
from mark.config import Params
from mark.errors import ConfigError, DataError
from mark.files import METRICS, MODELS

VAL_LOSS = "val_loss"
_ALLOWED = (
    "val_loss (of the fine-tuning), development.CELL.FIGURE of an evaluation, e.g. "
    "development.tuned_retrieval.f1_if_answered, or rlhf.val_reward.rlhf"
)
# What stands on test questions in metrics/*.json: see mark.evaluation.summary and mark.compare.
_TEST = {
    "all", "answerable", "handwritten", "rule_made", "short", "full",
    "retrieval", "gain", "verdict", "counts",
}  # fmt: skip


@dataclass(frozen=True)
class Objective:
    """One figure of an experiment."""

    name: str  # as the user gave it
    minimize: bool
    target: str  # the DVC stage that gives it
    file: Path
    keys: tuple[str, ...]  # inside the file

    def value(self, experiment: str, root: Path) -> float:
        """Read it from a finished experiment.

        Raises:
            DataError: The file or the figure is not there.
        """
        found: Any = json.loads(read_at(experiment, self.file, root))
        for key in self.keys:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, int | float) or isinstance(found, bool):
            raise DataError(
                f"{experiment}: {self.file} holds no number at {'.'.join(self.keys)}"
                + ("; there are no validation examples" if self.name == VAL_LOSS else "")
            )
        return float(found)


def choose_objective(name: str, params: Params) -> Objective:
    """The figure to tune.

    Args:
        name: `val_loss`, or a dotted key of metrics/.
        params: The project's settings, for the names of entries.

    Raises:
        ConfigError: It is a figure of the test questions, or none that may be tuned.
    """
    entry = f"{params.model.name}_lora"
    if name == VAL_LOSS:
        return Objective(name, True, "train", MODELS / entry / "entry.json", ("val_loss",))
    parts = name.split(".")
    if parts[0].startswith("eval_"):
        entry, parts = parts[0].removeprefix("eval_"), parts[1:]
    if parts[:1] == ["development"] and len(parts) == 3:
        if entry not in params.eval.entries:
            raise ConfigError(
                f"{name}: {entry} is not evaluated; eval.entries: {', '.join(params.eval.entries)}"
            )
        file = METRICS / f"eval_{entry}.json"
        return Objective(name, False, f"eval@{entry}", file, (f"eval_{entry}", *parts))
    if parts[:2] == ["rlhf", "val_reward"] and len(parts) == 3:
        return Objective(name, False, "rlhf_report", METRICS / "rlhf.json", tuple(parts))
    if parts[0] == "compare" or _TEST.intersection(parts):
        raise ConfigError(
            f"{name} is measured on the test questions, and a setting chosen by them makes them worthless; "
            f"tune {_ALLOWED}"
        )
    raise ConfigError(f"{name} is no figure to tune; give {_ALLOWED}")


def check_comparable(objective: Objective, keys: Iterable[str]) -> None:
    """Refuse to search what changes the measure itself.

    Args:
        objective: What is tuned.
        keys: What is searched.

    Raises:
        ConfigError: Trials could not be compared.
    """
    for key in keys:
        section = key.partition(".")[0].partition("/")[0]
        if objective.name == VAL_LOSS:
            if not key.startswith("train.") or key in ("train.max_seq_length", "train.dry_run"):
                raise ConfigError(
                    f"{key} changes what the validation loss is taken of, so that trials cannot be compared; "
                    "search train.* (but max_seq_length), or give --objective "
                    "development.tuned_retrieval.f1_if_answered"
                )
        elif section in ("eval", "corpus", "seed", "experiment"):
            raise ConfigError(f"{key} changes the questions that {objective.name} is measured on")
        elif objective.file.name == "rlhf.json" and not _trains_policy(key):
            raise ConfigError(f"{key} changes what {objective.name} is measured by")


def _trains_policy(key: str) -> bool:
    measured = ("rlhf.reward.", "rlhf.val_questions", "rlhf.entry", "rlhf.sampling.max_new_tokens")
    return key.startswith("rlhf.") and not key.startswith(measured)
