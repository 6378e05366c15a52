"""Writing an evaluation: metrics, predictions, thresholds, plots and the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mark.evaluation.grid import EvalResult
from mark.evaluation.report import summary_text
from mark.files import METRICS, PLOTS, REPORTS, whole_folder, write_json, write_jsonl, write_text

DEVELOPMENT = "development.jsonl"
PLOTTED = ("exact_match", "token_f1", "rouge_l", "bleu", "refusal_recall", "false_refusals", "quote_correct")


def write_results(result: EvalResult, entry: str, root: Path = Path()) -> None:
    """Write what DVC tracks of an evaluation.

    metrics/eval_<entry>.json; reports/eval/<entry>/ with predictions.jsonl, development.jsonl,
    calibration.json and table.txt; plots/eval_grid_<entry>.json and plots/refusal_<entry>.json.
    """
    metrics = {f"eval_{entry}": result.metrics}
    with whole_folder(root / REPORTS / "eval" / entry) as folder:
        write_jsonl(folder / "predictions.jsonl", result.predictions)
        write_jsonl(folder / DEVELOPMENT, result.development)
        write_json(folder / "calibration.json", result.calibrations.model_dump(mode="json"))
        write_text(folder / "table.txt", summary_text(metrics) + "\n")
    write_json(root / METRICS / f"eval_{entry}.json", metrics)
    write_json(root / PLOTS / f"eval_grid_{entry}.json", grid_rows(result.metrics))
    write_json(root / PLOTS / f"refusal_{entry}.json", refusal_rows(result))


def grid_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the grid's plot: cell, questions, metric, value, low, high."""
    rows: list[dict[str, Any]] = []
    for group in ("handwritten", "rule_made"):
        for cell, values in metrics.get(group, {}).items():
            rows += bar_rows(values, PLOTTED, {"cell": cell, "questions": group})
    return rows


def bar_rows(
    values: Mapping[str, Any], names: Iterable[str], labels: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Rows of a bar plot: the labels, metric, value, low, high.

    Args:
        values: `<metric>`, `<metric>_low`, `<metric>_high`.
        names: Metrics; those that are not there are left out.
        labels: What each row begins with.
    """
    return [
        {
            **labels,
            "metric": name,
            "value": values[name],
            "low": values[f"{name}_low"],
            "high": values[f"{name}_high"],
        }
        for name in names
        if name in values
    ]


def refusal_rows(result: EvalResult) -> list[dict[str, Any]]:
    """Rows of the threshold's plot: each model's curve on the validation questions."""
    return [
        {"model": name, **{key: v for key, v in point.model_dump().items() if v is not None}}
        for name, calibration in sorted(result.calibrations.thresholds.items())
        for point in calibration.curve
    ]
