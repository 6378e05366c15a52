"""How far another seed moves the metrics: metrics/seeds.json, which no stage reads or writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mark.errors import DataError
from mark.files import METRICS, read_json, write_text
from mark.reproduce.difference import leaves
from mark.reproduce.git import changed_files, commit_of, file_at, objects_at
from mark.reproduce.pipeline import (
    DVC_YAML,
    PARAMS_FILE,
    Lock,
    params_of,
    pipeline_key,
    stages_at,
    stages_of,
)

SEEDS = METRICS / "seeds.json"
HANDWRITTEN, RULE_MADE = "handwritten", "rule_made"  # groups of questions


class Spread(BaseModel):
    """The metrics of runs that differ in their seed alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    commit: str  # that was run
    pipeline: str  # `pipeline_key` of it
    seeds: list[int]
    # metrics file -> pointer of a number (`/compare/gain/...`) -> its value by seed, None where it is absent
    values: dict[str, dict[str, list[float | None]]]

    @model_validator(mode="after")
    def _one_value_a_seed(self) -> Spread:
        for numbers in self.values.values():
            if any(len(row) != len(self.seeds) for row in numbers.values()):
                raise ValueError("a number has not one value a seed")
        return self

    def measured(self, file: str, pointer: str) -> Measured | None:
        """What the seeds gave for one number, None where fewer than two have it."""
        row = [value for value in self.values.get(file, {}).get(pointer, ()) if value is not None]
        return measure(row) if len(row) >= 2 else None

    def with_run(self, seed: int, metrics: Mapping[str, Any]) -> Spread:
        """The same with the metrics of one more seed.

        Args:
            seed: Of the run.
            metrics: Metrics file -> its content.
        """
        values = {file: dict(numbers) for file, numbers in self.values.items()}
        done = len(self.seeds)
        for file in values.keys() | metrics.keys():
            numbers, new = values.setdefault(file, {}), numbers_of(metrics.get(file, {}))
            for pointer in numbers.keys() | new.keys():
                numbers[pointer] = [*numbers.get(pointer, [None] * done), new.get(pointer)]
        return self.model_copy(update={"seeds": [*self.seeds, seed], "values": values})


@dataclass(frozen=True)
class Measured:
    """A number over several seeds.

    Attributes:
        runs: How many seeds.
        mean: Over them.
        deviation: Sample standard deviation.
        low: The lowest.
        high: The highest.
    """

    runs: int
    mean: float
    deviation: float
    low: float
    high: float

    @property
    def range(self) -> float:
        """The largest difference between two of the seeds."""
        return self.high - self.low


def measure(values: Sequence[float]) -> Measured:
    """Mean and spread of at least two values."""
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Measured(len(values), mean, math.sqrt(squares / (len(values) - 1)), min(values), max(values))


def numbers_of(content: Any) -> dict[str, float]:
    """Pointer -> value of each number in a metrics file; truth values are none."""
    return {
        pointer: float(value)
        for pointer, value in leaves(content)
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def read_spread(root: Path) -> Spread | None:
    """metrics/seeds.json, None where nothing was measured.

    Raises:
        DataError: It is damaged.
    """
    path = root / SEEDS
    if not path.is_file():
        return None
    try:
        return Spread.model_validate(read_json(path))
    except ValidationError as fault:
        first = fault.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "content"
        raise DataError(
            f"{path} is damaged ({key}: {first['msg']}); bring it back with git, or delete it and run "
            "`mark seeds`"
        ) from None


def write_spread(spread: Spread, root: Path) -> None:
    """Write metrics/seeds.json, a number a line."""
    facts = spread.model_dump(exclude={"values"})
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in sorted(facts.items())]
    files = []
    for file, numbers in sorted(spread.values.items()):
        rows = [f"      {json.dumps(pointer)}: {json.dumps(row)}" for pointer, row in sorted(numbers.items())]
        files.append(f"    {json.dumps(file)}: {{\n" + ",\n".join(rows) + "\n    }")
    values = '  "values": {\n' + ",\n".join(files) + "\n  }"
    write_text(root / SEEDS, "\n".join(["{", *lines, values, "}"]) + "\n")


def key_at(root: Path, commit: str) -> str:
    """`pipeline_key` of a commit: equal keys may share a spread."""
    stages = stages_at(root, commit)
    params = params_of((file_at(root, commit, PARAMS_FILE) or b"").decode("utf-8"))
    return pipeline_key(stages, params, objects_at(root, commit))


def key_here(root: Path) -> str:
    """`pipeline_key` of the workspace: that of the last commit unless what a stage reads was changed.

    Raises:
        DataError: There is no commit, or no pipeline.
    """
    texts = [(root / name).read_text(encoding="utf-8") for name in (DVC_YAML, PARAMS_FILE)]
    objects = objects_at(root, commit_of(root, "HEAD"))
    for path in changed_files(root):
        objects |= {part.as_posix(): "changed" for part in (Path(path), *Path(path).parents)}
    return pipeline_key(stages_of(*texts), params_of(texts[1]), objects)


def seeds_of(lock: Lock) -> dict[str, int]:
    """Stage -> the seed of its last run, for those that have one."""
    found = {}
    for name, stage in lock.items():
        seed = stage.params.get("seed")
        if isinstance(seed, int):
            found[name] = seed
    return found


def gain_label(pointer: str, judged: str = HANDWRITTEN) -> str | None:
    """What a report calls the gain that a pointer into a metrics file leads to.

    Args:
        pointer: Into compare.json, eval_<entry>.json or rlhf.json.
        judged: The questions on which RLHF was judged: `handwritten` or `all`.

    Returns:
        None for all that is no gain, or one that no report prints.
    """
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")]
    match parts:
        case ["", "compare", "gain", entry, over, "difference"]:
            return f"{entry} {over}"
        case ["", evaluated, "gain", group, over, "difference"]:
            shown = evaluated.startswith("eval_") and group in (HANDWRITTEN, RULE_MADE)
            return _words(f"{group} {over}") if shown else None
        case ["", "rlhf", group, "gain", over, metric, "difference"]:
            beside = judged == HANDWRITTEN and group == RULE_MADE
            shown = over != "over_base" and (group == judged or beside)
            return f"{_words(f'{group} {over}')}: {_words(metric)}" if shown else None
    return None


def _words(name: str) -> str:
    return name.replace("_", " ")
