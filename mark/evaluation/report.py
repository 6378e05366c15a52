"""The table that a run ends with: the grid with intervals, retrieval, gains and one sentence of verdict."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mark.evaluation.significance import DECISIVE

Tree = dict[str, Any]

WIDTH = 100
_CELLS = {
    "base": "base, no retrieval",
    "base_retrieval": "base + retrieval",
    "base_oracle": "base + right passage",
    "tuned": "tuned, no retrieval",
    "tuned_retrieval": "tuned + retrieval",
    "tuned_oracle": "tuned + right passage",
    "extractive": "best sentence",
}
COLUMNS = {
    "exact_match": "exact\nmatch",
    "token_f1": "token\nF1",
    "f1_if_answered": "F1 if\nanswered",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "refusal_recall": "refusal\nrecall",
    "false_refusals": "false\nrefusals",
    "quote_correct": "right\nquote",
}
_RETRIEVAL = {
    "mrr_at_10": "MRR@10",
    "ndcg_at_10": "nDCG@10",
    "wrong_document": "wrong document first",
    "wrong_document_at_5": "only wrong documents in 5",
}
GROUPS = {"handwritten": "Hand-written questions", "rule_made": "Rule-made questions"}
_BASELINES = {
    "over_base_retrieval": "base + retrieval",
    "over_extractive": "best sentence",
    "over_tuned_without_retrieval": "tuned, no retrieval",
    "over_base": "base, no retrieval",
}
_VERDICTS = {
    "ship": "it beats base + retrieval and the best sentence",
    "don't ship": "it is worse than base + retrieval or than the best sentence",
    "cannot tell": "not both intervals lie above zero and none lies below",
}


def summary_text(metrics: Tree) -> str:
    """The tables of one metrics file as plain text.

    Args:
        metrics: The content of metrics/eval_<entry>.json: `{"eval_<entry>": {...}}`.
    """
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    for name, content in metrics.items():
        console.print(summary(name.removeprefix("eval_"), content))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def summary(entry: str, metrics: Tree) -> Group:
    """The same for a terminal, to be printed by rich."""
    parts: list[Table | Text] = [
        _grid(title, metrics[group], metrics["counts"][group], metrics["clusters"][group])
        for group, title in GROUPS.items()
        if group in metrics
    ]
    parts += [_retrieval_line(title, metrics, group) for group, title in GROUPS.items()]
    parts += [_gain_line(title, metrics, group) for group, title in GROUPS.items()]
    parts += [_seen_line(metrics), _unseen_line(metrics), _refusal_line(metrics)]
    parts.append(Text(verdict_sentence(entry, metrics), style="bold"))
    return Group(*[part for part in parts if not isinstance(part, Text) or part.plain])


def _seen_line(metrics: Tree) -> Text:
    """How many training rows came from the documents that were tested."""
    rows = metrics["test_documents_seen_in_training"]
    parts = [f"{name} {count}" if count else f"{name} 0 (unseen)" for name, count in sorted(rows.items())]
    return Text(
        "Training questions on the tested documents (never on a tested section): " + ", ".join(parts)
        if parts
        else ""
    )


def _refusal_line(metrics: Tree) -> Text:
    """Says so where no refusal rule could be fitted."""
    if all(metrics["refusal_fitted"].values()):
        return Text("")
    return Text(
        "Refusing is not calibrated: fewer than 10 answerable or 10 unanswerable among the "
        f"{metrics['counts']['validation']} validation questions, so each model refuses where it is more "
        "likely to than not"
    )


def _unseen_line(metrics: Tree) -> Text:
    """The main cells on documents that training never saw."""
    cells = metrics.get("unseen_documents")
    if not cells:
        return Text("")
    parts = [
        f"{_CELLS[name]} {_inline(cells[name], 'token_f1')}"
        for name in ("base_retrieval", "tuned_retrieval", "extractive")
        if name in cells
    ]
    asked = metrics["counts"]["unseen_documents"]
    return Text(f"Unseen documents alone ({asked} questions), token F1: " + ", ".join(parts))


def verdict_sentence(entry: str, metrics: Tree) -> str:
    """One sentence: the verdict, what it rests on, and the smallest gain it could have seen."""
    group, verdict = metrics["verdict_on"], metrics["verdict"]
    questions = metrics["counts"][group]
    clusters = metrics["clusters"]["judged"]
    gains = metrics["gain"].get(group, {})
    decisive = [gains[name] for name in DECISIVE if name in gains]
    reason = _VERDICTS[verdict]
    if len(decisive) < len(DECISIVE):
        missing = [_BASELINES[name] for name in DECISIVE if name not in gains]
        reason = f"the tuned model was not compared with {' and '.join(missing)} (see eval.cells)"
    elif clusters < metrics["clusters"]["needed"]:
        reason = f"{clusters} clusters are too few, {metrics['clusters']['needed']} are needed"
    kind = {"handwritten": "hand-written ", "all": ""}[group]
    sentence = f"Verdict on {entry} + retrieval: {verdict}; {reason}"
    sentence += f" ({questions} {kind}questions, {clusters} clusters of answerable ones"
    if decisive:
        smallest = max(gain["smallest_detectable"] for gain in decisive)
        sentence += f"; smallest token F1 gain it could have seen: {100 * smallest:.1f} points"
    return sentence + ")."


def dataset_text(model: str, dataset: str, questions: int, metrics: Tree) -> str:
    """One model's metrics on one file, a line each."""
    lines = [f"{model} on {dataset}: {questions} questions in {metrics['clusters']} clusters"]
    for name, label in {**COLUMNS, "source_shown": "source among passages"}.items():
        if name in metrics:
            low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
            words = label.replace("\n", " ")
            lines.append(f"  {words:<22} {100 * metrics[name]:5.1f} %  ({100 * low:.1f} to {100 * high:.1f})")
    return "\n".join(lines)


def _grid(title: str, cells: Tree, questions: int, clusters: int) -> Table:
    heading = (
        f"{title}: {questions} in {clusters} clusters; percent, interval below; best sentence = no model"
    )
    return metrics_table(heading, {label: cells[name] for name, label in _CELLS.items() if name in cells})


def metrics_table(title: str, rows: Mapping[str, Tree]) -> Table:
    """A row a label, a column a metric, the interval below each value, percent.

    Args:
        title: Stands over it.
        rows: By label: `<metric>`, `<metric>_low`, `<metric>_high`.
    """
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("", no_wrap=True)
    for column in COLUMNS.values():
        table.add_column(column, justify="right", no_wrap=True)
    for label, values in rows.items():
        table.add_row(label, *[_value(values, metric) for metric in COLUMNS])
    return table


def _value(values: Tree, metric: str) -> str:
    if metric not in values:
        return "-"
    low, high = values[f"{metric}_low"], values[f"{metric}_high"]
    return f"{100 * values[metric]:.1f}\n{100 * low:.0f}-{100 * high:.0f}"


def _retrieval_line(title: str, metrics: Tree, group: str) -> Text:
    found = metrics["retrieval"].get(group)
    return Text("" if found is None else f"{title}, retrieval: {retrieval_line(found)}")


def retrieval_line(found: Tree) -> str:
    """All retrieval metrics of one group of questions on one line, percent with intervals.

    Args:
        found: As `mark.evaluation.retrieval.retrieval_metrics` makes it.
    """
    recalls = sorted(
        int(name.removeprefix("recall_at_"))
        for name in found
        if name.startswith("recall_at_") and name.rsplit("_", 1)[1].isdigit()
    )
    labels = {f"recall_at_{k}": f"recall@{k}" for k in recalls} | _RETRIEVAL
    return ", ".join(f"{label} {_inline(found, name)}" for name, label in labels.items() if name in found)


def _inline(values: Tree, name: str) -> str:
    low, high = values[f"{name}_low"], values[f"{name}_high"]
    return f"{100 * values[name]:.0f} ({100 * low:.0f}-{100 * high:.0f})"


def signed(gain: Tree) -> str:
    """A paired difference in points with its interval."""
    return f"{100 * gain['difference']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"


def _gain_line(title: str, metrics: Tree, group: str) -> Text:
    parts = [
        f"{label} {signed(gain)}"
        for name, label in _BASELINES.items()
        if (gain := metrics["gain"].get(group, {}).get(name)) is not None
    ]
    return Text(f"{title}, token F1 of tuned + retrieval over: " + ", ".join(parts) if parts else "")
