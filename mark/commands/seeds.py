"""`mark seeds`: the pipeline with other seeds in a clone, and how far they move the metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mark.commands.alone import alone
from mark.config import PARAMS
from mark.errors import DataError, GuardError
from mark.files import METRICS, read_json
from mark.reproduce.clone import CLONES, seed_clone, set_seed
from mark.reproduce.clone import run_dvc as run_in_clone
from mark.reproduce.git import commit_of, file_at, git
from mark.reproduce.pipeline import Tree, lock_here, params_of, stages_at
from mark.reproduce.seeds import (
    HANDWRITTEN,
    SEEDS,
    Measured,
    Spread,
    gain_label,
    key_at,
    key_here,
    numbers_of,
    read_spread,
    seeds_of,
    write_spread,
)

log = logging.getLogger(__name__)

COMPARE = METRICS / "compare.json"


def run_seeds(runs: int, threads: int | None, root: Path) -> str:
    """Run what depends on the seed with several seeds: that of the commit and those that follow it.

    Each seed's metrics are kept as soon as it is done; another call goes on with those that are missing.

    Args:
        runs: Seeds in all, at least 2.
        threads: That each stage computes with; None = as the machine has it.
        root: The project's root; nothing in it is changed but metrics/seeds.json, DVC's cache and `tmp/`.

    Returns:
        The text to print.

    Raises:
        GuardError: The settings send text to a language model.
        DataError: The commit holds no pipeline, or what DVC tracks is not in its cache.
        MarkError: A stage failed.
    """
    commit = commit_of(root, "HEAD")
    params = params_of((file_at(root, commit, PARAMS.as_posix()) or b"").decode("utf-8"))
    if params.get("data_prep", {}).get("llm", {}).get("enabled"):
        raise GuardError(
            "data_prep.llm.enabled: another seed may send other text and cost money again; measure with "
            "`mark params data_prep.llm.enabled=false` committed"
        )
    if not isinstance(params.get("seed"), int):
        raise DataError(f"{PARAMS} of {commit[:10]} has no seed; run `mark params` to compose it")
    with alone(root / CLONES / "seeds.lock", "`mark seeds`"):
        spread = _measured(range(params["seed"], params["seed"] + runs), threads, commit, root)
    compare = read_json(root / COMPARE) if (root / COMPARE).is_file() else {}
    note = "; your uncommitted changes are not part of it" if _changed(root) else ""
    return "\n".join(
        [
            f"{SEEDS}: seeds {_listed(spread.seeds)} of {commit[:10]}{note}",
            *_table(spread, COMPARE, compare, "this run"),
        ]
    )


def _measured(seeds: Sequence[int], threads: int | None, commit: str, root: Path) -> Spread:
    """The spread with all these seeds; written after each."""
    spread = _begun(root, commit)
    left = [seed for seed in seeds if seed not in spread.seeds]
    if not left:
        return spread
    clone = seed_clone(root, commit)
    files = sorted(out for stage in stages_at(root, commit) for out in stage.outs if _is_metrics(out))
    for seed in left:
        started = time.monotonic()
        set_seed(clone, seed)
        run_in_clone(clone, ["repro"], threads)
        spread = spread.with_run(seed, {file: read_json(clone / file) for file in files})
        write_spread(spread, root)
        log.info("seed %d: %.0f s, kept in %s", seed, time.monotonic() - started, SEEDS)
    return spread


@dataclass(frozen=True)
class SeedNotes:
    """What a report says of seeds beside the gains that it prints.

    Attributes:
        head: One line: the seed of the run, and over which seeds it was measured.
        seed: Of the run, None where its stages had several or it is not known.
        spread: Over seeds, None where fewer than two ran.
    """

    head: str
    seed: int | None
    spread: Spread | None

    @classmethod
    def of_project(cls, root: Path) -> SeedNotes:
        """Read dvc.lock and metrics/seeds.json.

        Raises:
            DataError: One of them is damaged.
        """
        seeds = seeds_of(lock_here(root))
        alone = set(seeds.values())
        told = ", ".join(f"{stage} {seed}" for stage, seed in sorted(seeds.items())) or "not known"
        seed = alone.pop() if len(alone) == 1 else None
        head = f"Seed of every gain: {told if seed is None else seed}."
        spread = read_spread(root)
        if spread is None or len(spread.seeds) < 2:
            unknown = "How far another seed moves it was not measured (`mark seeds -n 5`)."
            return cls(f"{head} {unknown}", seed, None)
        measured = f"Measured over seeds {_listed(spread.seeds)}{_of_what(root, spread)}."
        return cls(f"{head} {measured}", seed, spread)

    def beside(self, file: Path, content: Tree) -> list[str]:
        """A line for each gain of a metrics file: its value, and those of the other seeds.

        Args:
            file: Below the root.
            content: Of it.

        Returns:
            Nothing where no spread was measured, or the file holds no gain.
        """
        if self.spread is None:
            return []
        here = "this run" if self.seed is None else f"seed {self.seed}"
        return list(_table(self.spread, file, content, here))


def _of_what(root: Path, spread: Spread) -> str:
    """Says so where the spread is of other code, data or settings than those of the workspace."""
    try:
        same = spread.pipeline == key_here(root)
    except (DataError, FileNotFoundError):
        same = False
    return "" if same else _of(spread)


def _of(spread: Spread) -> str:
    return f" of commit {spread.commit[:10]}, which has other code, data or settings"


def _begun(root: Path, commit: str) -> Spread:
    """The spread that is there already, if it is of this code and these settings; else an empty one."""
    key, found = key_at(root, commit), read_spread(root)
    if found is not None and found.pipeline == key:
        return found
    if found is not None and git(root, "status", "--porcelain", "--", SEEDS.as_posix()):
        raise DataError(
            f"{SEEDS} is{_of(found)}, and is not in git; commit it or delete it, then run `mark seeds` again"
        )
    return Spread(commit=commit, pipeline=key, seeds=[], values={})


def _table(spread: Spread, file: Path, content: Tree, here: str) -> Iterator[str]:
    """A line for each gain of a metrics file, in points of 100; `here` is the head of its own values."""
    numbers, judged = numbers_of(content), content.get("rlhf", {}).get("verdict_on", HANDWRITTEN)
    rows = [("gain, points", here, "mean", "deviation", "lowest", "highest", "seeds")]
    measured = spread.values.get(file.as_posix(), {})
    for pointer in sorted(numbers.keys() | measured.keys()):
        label = gain_label(pointer, judged)
        if label is None:
            continue
        seen = spread.measured(file.as_posix(), pointer)
        spreads = ("-", "-", "-", "-", "-") if seen is None else _spread_cells(seen)
        rows.append((label, _points(numbers.get(pointer)), *spreads))
    width = max(len(row[0]) for row in rows)
    for row in rows if len(rows) > 1 else ():
        yield f"  {row[0]:{width}}" + "".join(f"{cell:>11}" for cell in row[1:])


def _spread_cells(seen: Measured) -> tuple[str, str, str, str, str]:
    deviation = f"{100 * seen.deviation:.1f}"
    return _points(seen.mean), deviation, _points(seen.low), _points(seen.high), str(seen.runs)


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"


def _is_metrics(path: str) -> bool:
    return Path(path).parent == METRICS


def _listed(seeds: list[int]) -> str:
    return ", ".join(str(seed) for seed in sorted(seeds))


def _changed(root: Path) -> bool:
    return bool(git(root, "status", "--porcelain", "--untracked-files=no"))
