"""What every comparison of `make bench` is made of: two callables timed in turn, and a row of the outcome.

A bench module has `NAMES` (what its rows are called) and `rows() -> Iterator[Row]`, which prints nothing;
`python -m bench.NAME` prints them, `python -m bench.run` collects those of all modules.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

_PACKAGES = ("torch", "transformers", "peft", "trl", "numpy")
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Pair:
    """Amounts of two ways to do the same work, taken in turn within one process.

    Attributes:
        ours: One number a round.
        peer: Of the same rounds.
    """

    ours: tuple[float, ...]
    peer: tuple[float, ...]

    def ratios(self, more_is_better: bool) -> list[float]:
        """How many times better ours is, round by round."""
        pairs = zip(self.ours, self.peer, strict=True)
        return [ours / peer if more_is_better else peer / ours for ours, peer in pairs]


@dataclass(frozen=True)
class Row:
    """One line of bench/results.json.

    Attributes:
        name: `module: what`, as in the bench module's `NAMES`.
        unit: Of `ours` and `peer`: `tokens/s`, `s`, ...
        peer_is: What it is compared with.
        ours: Median over the rounds; None = not measured.
        peer: The same.
        ratio: Median of the rounds' ratios, above 1 = ours is better; None where no peer is meant.
        spread: Least and greatest ratio of a round.
        bar: What `ratio` (or, without a peer, `ours`) was to reach; None = no bar.
        met: Whether it did; None = not measured or no bar.
        device: What it ran on.
        versions: Of the packages that decide.
        note: Why it was not measured, or what else a reader must know.
    """

    name: str
    unit: str
    peer_is: str
    ours: float | None = None
    peer: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    bar: float | None = None
    met: bool | None = None
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain types, numbers to four digits."""
        return {key: _short(value) for key, value in asdict(self).items()}


def alternate(ours: Callable[[], object], peer: Callable[[], object], rounds: int = 5) -> Pair:
    """Seconds of both, taken in turn after one unmeasured call of each.

    Args:
        ours: Does the work once; a number that it returns is the seconds that count.
        peer: Does the same work once, in the other way.
        rounds: Measured calls of each.
    """
    ours()
    peer()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for seconds, work in zip(taken, (ours, peer), strict=True):
            started = time.perf_counter()
            counted = work()
            whole = time.perf_counter() - started
            seconds.append(counted if isinstance(counted, float) else whole)
    return Pair(tuple(taken[0]), tuple(taken[1]))


def compared(name: str, pair: Pair, unit: str, peer_is: str, bar: float | None, note: str = "") -> Row:
    """The row of a pair; `s` and `MB` are better when they are less, all other units when they are more."""
    ratios = pair.ratios(more_is_better=unit not in ("s", "ms", "MB"))
    ratio = median(ratios)
    return Row(
        name, unit, peer_is, median(pair.ours), median(pair.peer), ratio, (min(ratios), max(ratios)),
        bar, None if bar is None else ratio >= bar, device(), versions(), note,
    )  # fmt: skip


def limited(name: str, amounts: Sequence[float], unit: str, limit: float, note: str = "") -> Row:
    """A row without a peer: the median must not exceed a limit."""
    ours = median(amounts)
    return Row(
        name, unit, "a limit", ours, None, None, (min(amounts), max(amounts)),
        limit, ours <= limit, device(), versions(), note,
    )  # fmt: skip


def alone(name: str, amounts: Sequence[float], unit: str, note: str = "") -> Row:
    """A row with neither peer nor bar."""
    ours, spread = median(amounts), (min(amounts), max(amounts))
    return Row(name, unit, "nothing", ours, spread=spread, device=device(), versions=versions(), note=note)


def unmeasured(name: str, unit: str, peer_is: str, bar: float | None, why: str) -> Row:
    """A row that this machine cannot fill."""
    return Row(name, unit, peer_is, bar=bar, note=f"not measured: {why}")


def device() -> str:
    """The GPU, or the CPU with the threads that torch uses."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{_cpu()}, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    """Of Python and the packages that decide."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def line(row: Row) -> str:
    """A row as one line of text."""
    met = {True: "met", False: "NOT MET", None: "no bar" if row.bar is None else "-"}[row.met]
    bar = "" if row.bar is None else f" of {_text(row.bar)}"
    if row.ours is None:
        return f"{row.name}: {row.note}"
    peer = "" if row.peer is None else f", {row.peer_is} {_text(row.peer)}: x{_text(row.ratio)}"
    spread = "" if row.spread is None else f" ({_text(row.spread[0])} to {_text(row.spread[1])})"
    note = f"; {row.note}" if row.note else ""
    return f"{row.name}: {_text(row.ours)} {row.unit}{peer}{spread}, bar{bar} {met}{note}"


def show(rows: Iterable[Row]) -> None:
    """Print each row as soon as it is measured."""
    for row in rows:
        sys.stdout.write(line(row) + "\n")
        sys.stdout.flush()


def _cpu() -> str:
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} cores"
    return f"{platform.machine()}, {os.cpu_count()} cores"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return [_short(one) for one in value] if isinstance(value, tuple) else value
