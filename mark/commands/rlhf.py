"""`mark rlhf`: a dry run unless it is confirmed; `--report` prints the last comparison."""

from __future__ import annotations

from pathlib import Path

from mark.commands.dvc import dvc
from mark.commands.seeds import SeedNotes
from mark.config import Paths, Rlhf, load_section
from mark.errors import DataError
from mark.files import METRICS, MODELS, read_json

RLHF = METRICS / "rlhf.json"


def run_rlhf(confirmed: bool, root: Path) -> str:
    """Plan, or run the DVC stage rlhf and those that judge what it made.

    Args:
        confirmed: False: only say what would be done.
        root: The project's root.

    Returns:
        The text to print.
    """
    from mark.rlhf import RlhfInputs
    from mark.rlhf.inputs import POLICY
    from mark.rlhf.plan import plan_text
    from mark.train.guard import check_guards

    settings = load_section(Rlhf, "rlhf", root / "params.yaml")
    paths = load_section(Paths, "paths", root / "params.yaml")
    if not confirmed:
        return plan_text(RlhfInputs.of_project(settings.entry, paths, root), settings, root / MODELS / POLICY)
    check_guards(settings, confirmed=True)
    for stage in ("rlhf", f"eval@{POLICY}", "rlhf_report", "compare"):
        dvc(["repro", "-s", stage], root)
    return last_rlhf_report(root)


def last_rlhf_report(root: Path) -> str:
    """The table of the last comparison, and what is known of other seeds.

    Raises:
        DataError: There is none.
    """
    notes = SeedNotes.of_project(root)
    return f"{rlhf_table(root, notes)}\n{notes.head}"


def rlhf_table(root: Path, notes: SeedNotes) -> str:
    """The table of the last comparison, the gains of other seeds below it.

    Raises:
        DataError: There is none.
    """
    from mark.rlhf.table import report_text

    path = root / RLHF
    if not path.is_file():
        raise DataError(f"{path} is missing; `mark rlhf --confirm-run` makes it")
    try:
        content = read_json(path)
        return "\n".join([report_text(content["rlhf"]), *notes.beside(RLHF, content)])
    except (KeyError, TypeError, AttributeError) as fault:
        raise DataError(
            f"{path} is not what rlhf_report writes ({type(fault).__name__}); run `dvc repro -f rlhf_report`"
        ) from None
