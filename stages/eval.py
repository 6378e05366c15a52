"""data, models/base, models/<entry> -> metrics/eval_<entry>.json, reports/eval/<entry>, plots."""

from __future__ import annotations

import argparse

from mark.commands.stage import run_stage
from mark.config import Eval, Retrieval, load_section, load_seed, load_value
from mark.evaluation import EvalInputs, evaluate, write_results


def main(entry: str) -> dict[str, dict[str, float]]:
    """Evaluate one entry of the grid; returns what only the timing report may hold."""
    inputs = EvalInputs.of_project(entry, load_seed())
    length = int(load_value("train", "max_seq_length"))
    result = evaluate(inputs, load_section(Eval, "eval"), load_section(Retrieval, "retrieval"), length)
    write_results(result, entry)
    return {"seconds_per_answer": result.seconds_per_answer}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entry", required=True, help="name below models/, e.g. transformer_lora")
    arguments = parser.parse_args()
    run_stage(f"eval_{arguments.entry}", lambda: main(arguments.entry))
