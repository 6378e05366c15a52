"""How long commands take to start: `python -m bench.startup`.

`mark --help`, `mark ask` from a cold start to its printed answer, and `dvc repro` with nothing to do, in the
present project. A project without a trained entry, or with something to do, leaves rows unmeasured.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from bench.project import Project
from bench.rows import Row, limited, show, unmeasured
from mark.files import MODELS

HELP, ASK, REPRO = "startup: mark --help", "startup: mark ask, cold", "startup: dvc repro, nothing to do"
NAMES = (HELP, ASK, REPRO)
LIMITS = {HELP: 0.3, ASK: 10.0, REPRO: 3.0}
QUESTION = "How long does a controller have to notify a breach?"
ROUNDS = 5


def rows() -> Iterator[Row]:
    """The three of this machine."""
    mark = [sys.executable, "-m", "mark"]
    yield limited(HELP, _seconds([*mark, "--help"]), "s", LIMITS[HELP])
    if (MODELS / f"{Project().base.name}_lora").is_dir():
        yield limited(ASK, _seconds([*mark, "ask", QUESTION]), "s", LIMITS[ASK])
    else:
        yield unmeasured(ASK, "s", "a limit", LIMITS[ASK], "no trained entry: run `make repro`")
    dvc = [sys.executable, "-m", "dvc"]
    if _output([*dvc, "status", "-q"]) is None:
        yield unmeasured(REPRO, "s", "a limit", LIMITS[REPRO], "there is something to do: run `make repro`")
    else:
        yield limited(REPRO, _seconds([*dvc, "repro"]), "s", LIMITS[REPRO])


def _seconds(command: Sequence[str]) -> list[float]:
    """Wall-clock seconds of a command, a few times after one that is not counted."""
    taken = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        taken.append(time.perf_counter() - started)
    return taken[1:]


def _output(command: Sequence[str]) -> str | None:
    """What a command printed; None where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


if __name__ == "__main__":
    show(rows())
