"""Killing a stage of the smoke project at a random moment, running it again, and comparing the bytes.

`python -m tests.faults.killing [STAGE...] [--kills N]` does what `make test-long` does, and prints the table;
`--page` writes it to docs/results/kills.md, too. Results are kept in tmp/faults, so that a run goes on where it was
stopped; other code starts anew.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from mark.commands.tables import aligned
from mark.files import write_text
from tests.conftest import ROOT
from tests.faults.kept import code_sha256, kept_template
from tests.faults.smoke_copy import STAGES, SmokeCopy
from tests.long import commit_of

KILLS = 20  # a stage
SEED = 7
FOLDER = ROOT / "tmp/faults"
PAGE = ROOT / "docs/results/kills.md"
_TRIES = 8  # draws for one kill: the stage may end before the moment that was drawn
_MAX_DELAY_S = 0.02  # between a write and the kill
_ORPHAN_S = 15.0


@dataclass(frozen=True)
class Usual:
    """A stage's unbroken run, measured here."""

    seconds: float  # from the stage's first Python to the end of DVC
    writes: int  # files of the project that were opened for writing, renamed, removed, ...


@dataclass(frozen=True)
class Kill:
    """One kill and what became of it; a row of kills.jsonl."""

    code: str  # hash of the code that was killed
    stage: str
    number: int
    how: str  # "0.41 of 12.3 s" or "write 17 of 64 + 8 ms"
    left: list[str]  # files that the killed run left behind
    faults: list[str]  # empty: as an unbroken run

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.stage} {self.number}: {self.how}; left {self.left or 'nothing'}; {self.faults or 'ok'}"


@dataclass
class Killing:
    """Kills stages in copies of one finished project, by turns at a moment and at a write."""

    copy: SmokeCopy
    code: str = ""
    _usual: dict[str, Usual] = field(default_factory=dict)

    def kill(self, stage: str, number: int) -> Kill:
        """Kill a stage once, at a moment that the seed and the number decide, and run it again."""
        for attempt in range(_TRIES):
            drawn = random.Random(f"{SEED}/{stage}/{number}/{attempt}")
            self.copy.fresh(stage)
            how = self._at_a_write(stage, drawn) if number % 2 else self._at_a_moment(stage, drawn)
            if how is not None:
                break
        else:
            raise AssertionError(f"{stage} ended {_TRIES} times before the moment of kill {number}")
        self._need_no_orphan()
        return Kill(self.code, stage, number, how, self.copy.left(), list(self.copy.run_again(stage)))

    def usual(self, stage: str) -> Usual:
        """An unbroken run; its bytes are compared too, or no kill could be blamed for a difference."""
        if stage not in self._usual:
            self.copy.fresh(stage)
            with self._started(stage) as process:
                self._await_stage(process)
                begun = time.monotonic()
                assert process.wait() == 0, self._said()
                seconds = time.monotonic() - begun
            faults = list(self.copy.differences())
            assert not faults, f"{stage} run twice, unbroken: {faults}"
            self._usual[stage] = Usual(seconds, self._path("writes").stat().st_size)
            self.copy.fresh(stage)
        return self._usual[stage]

    def _at_a_moment(self, stage: str, drawn: random.Random) -> str | None:
        """Kill after a share of the usual time; None where the stage was over by then."""
        usual, share = self.usual(stage), drawn.random()
        with self._started(stage) as process:
            self._await_stage(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(share * usual.seconds)
                return None
            _kill_group(process.pid)
        return f"{share:.2f} of {usual.seconds:.1f} s"

    def _at_a_write(self, stage: str, drawn: random.Random) -> str | None:
        """Kill just before a write, or a moment after it; None where the stage wrote less this time."""
        usual = self.usual(stage)
        at, delay_s = drawn.randint(1, usual.writes), drawn.choice([0.0, drawn.uniform(0, _MAX_DELAY_S)])
        with self._started(stage, at, delay_s) as process:
            if process.wait() != -signal.SIGKILL:
                return None
        return f"write {at} of {usual.writes} + {1000 * delay_s:.0f} ms"

    @contextlib.contextmanager
    def _started(
        self, stage: str, kill_at: int = 0, delay_s: float = 0.0
    ) -> Iterator[subprocess.Popen[bytes]]:
        """`dvc repro` of one stage, its command as dvc.yaml has it, in a process group of its own."""
        for name in ("writes", "started"):
            self._path(name).unlink(missing_ok=True)
        variables = {
            "FAULT_ROOT": str(self.copy.project), "FAULT_COUNTER": str(self._path("writes")),
            "FAULT_AT": str(kill_at), "FAULT_DELAY_S": str(delay_s), "FAULT_STARTED": str(self._path("started")),
        }  # fmt: skip
        with self._path("log.txt").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dvc", "repro", "--single-item", stage], cwd=self.copy.project,
                env=self.copy.environment() | variables, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                _kill_group(process.pid)
            process.wait()

    def _await_stage(self, process: subprocess.Popen[bytes]) -> None:
        while not self._path("started").exists():
            assert process.poll() is None, self._said()
            time.sleep(0.02)

    def _need_no_orphan(self) -> None:
        """Readers and helpers of a killed stage end by themselves: they must not write into the next run."""
        deadline = time.monotonic() + _ORPHAN_S
        while orphans := list(_processes_in(self.copy.project)):
            assert time.monotonic() < deadline, f"still running: {orphans}"
            time.sleep(0.1)

    def _path(self, name: str) -> Path:
        return self.copy.state / name

    def _said(self) -> str:
        return self._path("log.txt").read_text(errors="replace")[-3000:]


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _processes_in(folder: Path) -> Iterator[str]:
    for process in psutil.process_iter(["pid", "cmdline"]):
        with contextlib.suppress(psutil.Error, OSError):
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                yield f"{process.pid} {process.info['cmdline']}"


class KeptKills:
    """Kills of this code, one a line of kills.jsonl; a run that was stopped goes on after the last of them."""

    def __init__(self, folder: Path, code: str) -> None:
        """Read what there is."""
        self._path = folder / "kills.jsonl"
        rows = self._path.read_text().splitlines() if self._path.is_file() else []
        found = [kill for row in rows if (kill := _kept(row)) is not None]
        self.rows = {(kill.stage, kill.number): kill for kill in found if kill.code == code}

    def add(self, kill: Kill) -> None:
        """Keep one."""
        self.rows[kill.stage, kill.number] = kill
        with self._path.open("a") as file:  # what an interrupted run left of a line ends here
            file.write("\n" + json.dumps(asdict(kill)) + "\n")


def _kept(row: str) -> Kill | None:
    """A kill, None for an empty or a cut line."""
    try:
        return Kill(**json.loads(row))
    except (ValueError, TypeError):
        return None


def kill_all(stages: list[str], kills: int, folder: Path = FOLDER) -> list[Kill]:
    """The kills of some stages: those that are kept, and those that are still to do."""
    code = code_sha256()
    killing = Killing(SmokeCopy.below(kept_template(folder, code), folder / "trial"), code)
    kept = KeptKills(folder, code)
    for stage in stages:
        for number in range(kills):
            if (stage, number) not in kept.rows:
                kept.add(killing.kill(stage, number))
                print(kept.rows[stage, number].line, flush=True)
    return [kept.rows[stage, number] for stage in stages for number in range(kills)]


def table(kills: list[Kill]) -> str:
    """A line a stage, one for all, and each kill that did not end as an unbroken run."""
    stages = list(dict.fromkeys(kill.stage for kill in kills))
    rows = [("stage", "kills", "at a moment", "at a write", "left files", "then as an unbroken run")]
    rows += [_row(stage, [kill for kill in kills if kill.stage == stage]) for stage in stages]
    rows.append(_row("all", kills))
    return "\n".join([*aligned(rows), *(kill.line for kill in kills if kill.faults)])


def _row(name: str, kills: list[Kill]) -> tuple[str, ...]:
    at_a_write = sum(kill.how.startswith("write ") for kill in kills)
    left, whole = sum(bool(kill.left) for kill in kills), sum(not kill.faults for kill in kills)
    return (name, *map(str, (len(kills), len(kills) - at_a_write, at_a_write, left, whole)))


def page(kills: list[Kill], commit: str, today: str) -> str:
    """docs/results/kills.md."""
    return f"""# Killed stages

Written by `python -m tests.faults.killing --kills N --page`: each stage of the smoke profile is killed (SIGKILL) by turns
at a random moment and at a random write, then `dvc repro` runs, and every output is compared with an unbroken run's.
Commit {commit}, {today}.

```
{table(kills)}
```
"""


def main() -> int:
    """Kill, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", help="by default all")
    parser.add_argument("--kills", type=int, default=KILLS, help="of each stage")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    given = parser.parse_args()
    stages = given.stages or list(STAGES)
    if unknown := sorted({*stages} - {*STAGES}):
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    try:
        kills = kill_all(stages, given.kills)
    except KeyboardInterrupt:
        kept = KeptKills(FOLDER, code_sha256()).rows.values()
        print(table([kill for kill in kept if kill.stage in stages]))
        print("interrupted; the same command goes on from here")
        return 130
    print(table(kills))
    if given.page:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        write_text(PAGE, page(kills, commit_of(PAGE), today))
    return 1 if any(kill.faults for kill in kills) else 0


if __name__ == "__main__":
    sys.exit(main())
