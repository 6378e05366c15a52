"""`mark eval` and `mark report`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mark.commands.dvc import dvc
from mark.commands.rlhf import RLHF, rlhf_table
from mark.commands.seeds import COMPARE, SeedNotes
from mark.config import Eval, load_section
from mark.errors import ConfigError, DataError
from mark.files import METRICS, read_json
from mark.reproduce.pipeline import Tree


def run_eval(model: str | None, dataset: Path | None, root: Path) -> str:
    """The eval stage, or one model on one dataset.

    Raises:
        ConfigError: Only one of the two flags was given.
    """
    if model is None and dataset is None:
        dvc(["repro", "-s", "eval"], root)
        return last_report(root)
    if model is None or dataset is None:
        raise ConfigError("give both --model NAME and --dataset FILE, or neither to run the DVC stage")
    if not dataset.is_file():
        raise DataError(
            f"{dataset} is missing; the pipeline writes data/val_sft.jsonl (`dvc repro data_prep`)"
        )
    from mark.evaluation import evaluate_dataset

    return evaluate_dataset(model, dataset, root)


def last_report(root: Path, full: bool = False) -> str:
    """The one table of the last run, what training saw, the verdicts, and what other seeds gave.

    Args:
        root: The project's root.
        full: Each entry's own tables and RLHF's arms instead.

    Raises:
        DataError: Nothing was evaluated yet.
    """
    from mark.compare.results import comparison_text
    from mark.evaluation.report import summary_text

    names = load_section(Eval, "eval", root / "params.yaml").entries
    files = [path for name in names if (root / (path := METRICS / f"eval_{name}.json")).is_file()]
    if not files:
        raise DataError("metrics/ holds no evaluation; `make repro` makes one")
    notes = SeedNotes.of_project(root)

    def beside(file: Path, told: Callable[[Tree], str]) -> str:
        content = read_json(root / file)
        return "\n".join([told(content), *notes.beside(file, content)])

    try:
        if (root / COMPARE).is_file() and not full:
            return f"{beside(COMPARE, lambda content: comparison_text(content['compare']))}\n{notes.head}"
        tables = [beside(file, summary_text) for file in files]
        if (root / RLHF).is_file():
            tables.append(rlhf_table(root, notes))
        return "\n\n".join([*tables, notes.head])
    except KeyError as fault:
        raise DataError(
            f"metrics/ lacks {fault}: another version of mark wrote it; run `dvc repro eval compare`"
        ) from None
    except (TypeError, AttributeError):
        raise DataError(
            "a file of metrics/ holds another type than its stage writes; bring it back with git, or run "
            "`dvc repro -f compare`"
        ) from None
