"""metrics/eval_<entry>.json, metrics/rlhf.json, reports/eval -> metrics/compare.json, plots, one table."""

from __future__ import annotations

from mark.commands.stage import run_stage
from mark.compare import CompareInputs, compare_entries, write_comparison
from mark.config import Eval, load_section, load_seed


def main() -> None:
    """Compare the entries of the grid; no model is loaded."""
    settings = load_section(Eval, "eval")
    inputs = CompareInputs.of_project(settings.entries)
    write_comparison(compare_entries(inputs, settings, load_seed()))


if __name__ == "__main__":
    run_stage("compare", main)
