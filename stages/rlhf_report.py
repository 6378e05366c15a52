"""Entries of RLHF, reports/eval/<entry> and rl_trained_lora, data -> metrics/rlhf.json, plots."""

from __future__ import annotations

from mark.commands.stage import run_stage
from mark.config import Eval, Paths, Retrieval, Rlhf, load_section, load_seed
from mark.rlhf import RlhfInputs
from mark.rlhf.report import ReportInputs, make_report, write_report


def main() -> None:
    """Compare base, fine-tuned, fine-tuned for longer and policy on the test questions."""
    settings = load_section(Rlhf, "rlhf")
    rlhf = RlhfInputs.of_project(settings.entry, load_section(Paths, "paths"))
    inputs = ReportInputs.of_project(rlhf, load_seed())
    report = make_report(inputs, settings, load_section(Eval, "eval"), load_section(Retrieval, "retrieval"))
    write_report(report)


if __name__ == "__main__":
    run_stage("rlhf_report", main)
