"""Measuring an entry against its baselines, with intervals and a verdict."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mark.evaluation.dataset import evaluate_dataset
    from mark.evaluation.grid import EvalResult, evaluate
    from mark.evaluation.inputs import EvalInputs
    from mark.evaluation.report import summary_text
    from mark.evaluation.results import write_results

__all__ = ["EvalInputs", "EvalResult", "evaluate", "evaluate_dataset", "summary_text", "write_results"]

_HOMES = {
    "EvalInputs": "inputs",
    "EvalResult": "grid",
    "evaluate": "grid",
    "evaluate_dataset": "dataset",
    "summary_text": "report",
    "write_results": "results",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: printing a table must not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
