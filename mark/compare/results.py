"""Writing a comparison: metrics, plot and the table."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from mark.compare.comparison import GROUPS, METRICS_SHOWN
from mark.evaluation.report import GROUPS as TITLES
from mark.evaluation.report import metrics_table, retrieval_line, signed
from mark.evaluation.results import bar_rows
from mark.files import METRICS, PLOTS, REPORTS, whole_folder, write_json, write_text

TABLE = Path(REPORTS) / "compare" / "table.txt"
WIDTH = 110
Tree = dict[str, Any]


def write_comparison(found: Tree, root: Path = Path()) -> None:
    """Write metrics/compare.json, plots/compare.json and reports/compare/table.txt.

    Args:
        found: As `compare_entries` makes it.
        root: The project's root.
    """
    write_json(root / METRICS / "compare.json", {"compare": found})
    write_json(root / PLOTS / "compare.json", plot_rows(found))
    with whole_folder(root / TABLE.parent) as folder:
        write_text(folder / TABLE.name, comparison_text(found) + "\n")


def plot_rows(found: Tree) -> list[Tree]:
    """Rows of the bar plot: model, questions, metric, value, low, high."""
    return [
        row
        for group in GROUPS
        for label, values in found["rows"].get(group, {}).items()
        for row in bar_rows(values, METRICS_SHOWN, {"model": label, "questions": group})
    ]


def comparison_text(found: Tree) -> str:
    """The table of each group of questions, gains and verdicts as plain text.

    Args:
        found: As `compare_entries` makes it.
    """
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    for group, title in TITLES.items():
        if group in found["rows"]:
            rows = {label: values for label in found["models"] if (values := found["rows"][group].get(label))}
            console.print(metrics_table(f"{title}; percent, interval below; best sentence = no model", rows))
    judged = [entry for entry in found["entries"] if entry in found["verdict"]]
    for entry in judged:
        gains = found["gain"][entry]
        told = [f"over {o} {signed(gains[f'over {o}'])}" for o in found["models"] if f"over {o}" in gains]
        console.print(f"{entry} + retrieval, token F1: {', '.join(told)}")
    for line in _notes(found):
        console.print(line)
    if "engines" in found:
        console.print(f"With care: {found['engines']}.")
    kind = "hand-written " if found["judged"] == "handwritten" else ""
    console.print(
        f"Judged on {found['questions']} {kind}questions, {found['clusters']} clusters of answerable ones:"
    )
    for entry in judged:
        console.print(f"  {entry}: {found['verdict'][entry]}; {found['reason'][entry]}")
    console.print(
        "No entry is shown to be better than all that it was compared with."
        if found["best"] == "none"
        else f"Best shown: {found['best']}."
    )
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def _notes(found: Tree) -> Iterator[str]:
    for group, title in TITLES.items():
        if group in found["retrieval"]:
            yield f"{title}, retrieval: {retrieval_line(found['retrieval'][group])}"
    seen = [f"{name} {count or '0 (unseen)'}" for name, count in sorted(found["seen_in_training"].items())]
    if seen:
        yield f"Training questions on the tested documents (never on a tested section): {', '.join(seen)}"
    unseen = [
        f"{label} {100 * v['token_f1']:.0f} ({100 * v['token_f1_low']:.0f}-{100 * v['token_f1_high']:.0f})"
        for label in found["models"]
        if (v := found["unseen_documents"].get(label)) is not None
    ]
    if unseen:
        yield f"Unseen documents alone ({found['unseen_questions']} questions), token F1: {', '.join(unseen)}"
