"""All comparisons that this machine can make: `python -m bench.run [MODULE ...]`, or `make bench`.

Writes bench/results.json, a list of rows, and bench/results.svg, the ratios against their bars. A row that
was not measured says why. With module names, only their rows are measured anew; the others stay, and so do
rows that another machine measured and this one cannot (each names its device).
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.carried import folder
from bench.rows import Row, device, line
from mark.errors import MarkError
from mark.files import write_json

MODULES = ("training", "answering", "mamba_scan", "ingest", "startup")
RESULTS = Path(__file__).with_name("results.json")
PLOT = Path(__file__).with_name("results.svg")


def main(asked: Sequence[str]) -> int:
    """Measure, print and write."""
    unknown = sorted(set(asked) - set(MODULES))
    if unknown:
        sys.stderr.write(f"bench has no module {unknown[0]!r}; there are {', '.join(MODULES)}\n")
        return 2
    logging.disable(logging.INFO)
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    try:
        folder()
    except MarkError as fault:
        sys.stderr.write(f"{fault}\n")
        return fault.exit_code
    for name in asked or MODULES:
        kept = [row for row in found if not row["name"].startswith(f"{name}: ")]
        try:
            made = list(_measured(name))
        except MarkError as fault:
            sys.stderr.write(f"{name}: {fault}\n")
            return fault.exit_code
        older = {row["name"]: row for row in found if row["ours"] is not None}
        order = {module: place for place, module in enumerate(MODULES)}
        found = sorted(
            [*kept, *(_newer(row, older) for row in made)], key=lambda row: order[row["name"].split(":")[0]]
        )
        write_json(RESULTS, found)
    draw(found)
    return 0


def _newer(row: Row, older: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A row as it is kept: what this machine cannot measure stays as another has measured it."""
    before = older.get(row.name)
    elsewhere = row.ours is None and before is not None and before["device"] != device()
    return before if before is not None and elsewhere else row.as_json()


def _measured(name: str) -> list[Row]:
    module = importlib.import_module(f"bench.{name}")
    made = []
    for row in module.rows():
        sys.stdout.write(line(row) + "\n")
        sys.stdout.flush()
        made.append(row)
    missing = set(module.NAMES) - {row.name for row in made}
    assert not missing, missing
    return made


def draw(found: Sequence[dict[str, Any]]) -> None:
    """The measured ratios as bars on a logarithmic scale, each with its bar to reach."""
    try:
        import vl_convert
    except ImportError:
        sys.stderr.write(f"{PLOT} was not drawn: vl-convert-python is not installed (make extras)\n")
        return

    rows = [row for row in found if row["ratio"] is not None]
    y = {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 420}}
    title = "times better than the peer (line: the bar to reach)"
    ratio = {"field": "ratio", "type": "quantitative", "scale": {"type": "log"}, "title": title}
    bar = {"field": "bar", "type": "quantitative"}
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": rows},
        "width": 420,
        "encoding": {"y": y},
        "layer": [
            {"mark": "bar", "encoding": {"x": ratio}},
            {"mark": {"type": "tick", "color": "black", "thickness": 2}, "encoding": {"x": bar}},
        ],
    }
    PLOT.write_text(vl_convert.vegalite_to_svg(json.dumps(spec)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
