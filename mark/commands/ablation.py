"""`mark ablation`: development figures of DVC experiments beside each other, paired with the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from mark.commands.revisions import read_at
from mark.config import PARAMS, Eval, load_section, load_seed
from mark.errors import ConfigError, DataError
from mark.evaluation.calibration import LOCAL, Calibrations
from mark.evaluation.development import cluster, refusal_auc
from mark.evaluation.engines import CALIBRATION, told_apart
from mark.evaluation.results import DEVELOPMENT
from mark.evaluation.significance import Bootstrap
from mark.files import REPORTS
from mark.records import Prediction
from mark.seeding import derived_seed

_HEAD = (
    "arm", "questions", "F1 if answered", "against the first", "short", "full", "token F1", "refusal recall",
    "false refusals", "refusal AUC",
)  # fmt: skip


def run_ablation(revisions: Sequence[str], cell: str, entry: str | None, root: Path) -> str:
    """Compare experiments on the development questions; no test figure is read.

    Args:
        revisions: Names of DVC experiments, commits or `workspace`; the first is compared against.
        cell: Of the grid, e.g. `tuned_retrieval`.
        entry: The evaluated entry; None = the first of `eval.entries`.
        root: The project's root.

    Returns:
        A Markdown table: token F1 of the answerable questions with the refusal rule off, its paired
        difference from the first arm, both with cluster bootstrap intervals, in points of 100; the same
        for short and for full answers; then with the refusal rule on.

    Raises:
        ConfigError: Less than one revision.
        DataError: A revision or its predictions cannot be read, lack the cell, or answer other questions.
    """
    if not revisions:
        raise ConfigError("name at least one experiment; `dvc exp show --only-changed` lists them")
    settings = load_section(Eval, "eval", root / PARAMS)
    file = REPORTS / "eval" / (entry or settings.entries[0]) / DEVELOPMENT
    seed = derived_seed(load_seed(root / PARAMS), "bootstrap")
    bootstrap = Bootstrap(settings.bootstrap_samples, settings.confidence, seed)
    arms = {name: _rows(name, file, cell, root) for name in revisions}
    first = arms[revisions[0]]
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    for name, rows in arms.items():
        if [_asked(row) for row in rows.values()] != [_asked(row) for row in first.values()]:
            raise DataError(
                f"{name} answered other development questions than {revisions[0]}; set eval.max_calibration "
                "high enough for all of them, and compare runs of one version of the code"
            )
        paired = None if rows is first else list(first.values())
        lines.append(_line([name, *_figures(list(rows.values()), paired, bootstrap)]))
    note = (
        "The refusal columns are not paired and in sample: the rule is fitted on these questions and on the "
        "validation questions of the arm."
    )
    apart = told_apart({name: _engine(name, file.with_name(CALIBRATION), root) for name in revisions})
    return "\n".join([*lines, "", note, *([f"With care: {apart}."] if apart else [])])


def _engine(revision: str, file: Path, root: Path) -> str:
    """What gave the answers, as `engine_of` has it."""
    try:
        text = read_at(revision, file, root)
    except DataError:  # older versions wrote none
        return LOCAL
    try:
        found = Calibrations.model_validate_json(text)
    except ValidationError as fault:
        raise DataError(
            f"{revision}: {file}: {fault.errors()[0]['msg']}; run `dvc repro eval` there"
        ) from None
    return (
        f"{found.engine} in {found.answers_in}"
        if found.engine == LOCAL and found.answers_in
        else found.engine
    )


def _rows(revision: str, file: Path, cell: str, root: Path) -> dict[str, Prediction]:
    """Question id -> what the cell answered."""
    rows = []
    for number, line in enumerate(read_at(revision, file, root).splitlines(), 1):
        try:
            rows.append(Prediction.model_validate_json(line))
        except ValidationError as fault:
            raise DataError(
                f"{revision}: {file}, line {number}: {fault.errors()[0]['msg']}; run `dvc repro eval` there"
            ) from None
    found = {row.example_id: row for row in sorted(rows, key=lambda r: r.example_id) if row.cell == cell}
    if not found:
        cells = ", ".join(sorted({row.cell for row in rows}))
        raise DataError(f"{revision}: no cell {cell!r} among the development answers; there are {cells}")
    return found


def _asked(row: Prediction) -> tuple[object, ...]:
    """What two arms must share for a pair."""
    return row.example_id, row.question, row.kind, row.style, tuple(row.answers), row.document, row.section


def _figures(
    rows: Sequence[Prediction], first: Sequence[Prediction] | None, bootstrap: Bootstrap
) -> list[str]:
    answerable = [i for i, row in enumerate(rows) if row.kind == "answerable"]
    refused = [row.refused for row in rows if row.kind == "unanswerable"]
    area = refusal_auc(rows)
    gain = "-"
    if first is not None and answerable:
        paired = bootstrap.gain(
            np.array([rows[i].f1_if_answered for i in answerable]),
            np.array([first[i].f1_if_answered for i in answerable]),
            [cluster(rows[i]) for i in answerable],
        )
        gain = f"{100 * paired.difference:+.1f} ({100 * paired.low:+.1f} to {100 * paired.high:+.1f})"
    return [
        str(len(rows)),
        _mean([rows[i] for i in answerable], bootstrap),
        gain,
        *(_mean([rows[i] for i in answerable if rows[i].style == s], bootstrap) for s in ("short", "full")),
        f"{100 * np.mean([row.token_f1 for row in rows]):.1f}",
        f"{100 * np.mean(refused):.0f} %" if refused else "-",
        f"{100 * np.mean([rows[i].refused for i in answerable]):.0f} %" if answerable else "-",
        "-" if area is None else f"{area:.2f}",
    ]


def _mean(rows: Sequence[Prediction], bootstrap: Bootstrap) -> str:
    if not rows:
        return "-"
    found = bootstrap.mean(np.array([row.f1_if_answered for row in rows]), [cluster(row) for row in rows])
    return f"{100 * found.value:.1f} ({100 * found.low:.0f}-{100 * found.high:.0f}), {len(rows)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
