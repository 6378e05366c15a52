"""The tests that take minutes, a file at a time: `make test-long`, or `python -m tests.long [FILE ...]`.

A file that passed at the present commit is not run again, so a run that was interrupted goes on. What came of each
stands in docs/results/long.md with date and commit. Exit code 1 where a file failed.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from mark.files import write_json, write_text
from tests.conftest import ROOT

STATE = ROOT / ".cache/test-long.json"
PAGE = ROOT / "docs/results/long.md"
_PYTEST = (sys.executable, "-m", "pytest", "-m", "long", "-o", "timeout=3600")


@dataclass(frozen=True)
class Piece:
    """What came of one file.

    Attributes:
        file: Below the project's root.
        commit: Short hash; `+changes` where tracked files differed.
        date: UTC.
        seconds: Of the whole file.
        passed: Tests.
        failed: Tests, errors included.
        skipped: Why, one a test.
    """

    file: str
    commit: str
    date: str
    seconds: float
    passed: int
    failed: int
    skipped: list[str] = field(default_factory=list)


def main(files: Sequence[str]) -> int:
    """Run what is left, write the page."""
    commit = commit_of(PAGE)
    done = {name: Piece(**piece) for name, piece in _state().items()}
    wanted = list(files) or sorted(_files())
    for name in wanted:
        before = done.get(name)
        if before is not None and before.commit == commit and before.failed == 0 and "+" not in commit:
            sys.stdout.write(f"{name}: passed at {commit} already\n")
            continue
        done[name] = _run(name, commit)
        write_json(STATE, {one: asdict(piece) for one, piece in sorted(done.items())})
        write_text(PAGE, page(done.values()))
    return int(any(done[name].failed for name in wanted))


def page(pieces: Sequence[Piece] | Iterator[Piece]) -> str:
    """The table of docs/results/long.md."""
    lines = [
        "# Long tests",
        "",
        "Written by `make test-long`, which runs the tests that take minutes, a file at a time, and goes on where it",
        "was interrupted.",
        "",
        "| file | passed | failed | skipped | seconds | date | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in sorted(pieces, key=lambda piece: piece.file):
        why = "; ".join(dict.fromkeys(one.skipped)) or "-"
        lines.append(
            f"| {one.file} | {one.passed} | {one.failed} | {why} | {one.seconds:.0f} | {one.date} | {one.commit} |"
        )
    return "\n".join(lines) + "\n"


def _run(name: str, commit: str) -> Piece:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        code = subprocess.run([*_PYTEST, name, f"--junitxml={report}"], cwd=ROOT, check=False).returncode
        passed, failed, skipped = counts(report) if report.is_file() else (0, 1, [])
    if code != 0 and failed == 0:
        failed = 1  # a file that cannot be read, or a process that died
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Piece(name, commit, today, round(time.monotonic() - started, 1), passed, failed, skipped)


def counts(report: Path) -> tuple[int, int, list[str]]:
    """Passed, failed and the reasons of the skipped, of a JUnit file that pytest wrote."""
    passed, failed = 0, 0
    skipped: list[str] = []
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif (skip := case.find("skipped")) is not None:
            skipped.append((skip.get("message") or "no reason").removeprefix("Skipped: "))
        else:
            passed += 1
    return passed, failed, skipped


def _files() -> set[str]:
    listed = subprocess.run(
        [*_PYTEST, "--collect-only"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {line.split("::")[0] for line in listed.stdout.splitlines() if "::" in line}


def _state() -> dict[str, dict[str, object]]:
    if not STATE.is_file():
        return {}
    found: dict[str, dict[str, object]] = json.loads(STATE.read_text(encoding="utf-8"))
    return found


def commit_of(page: Path) -> str:
    """Short hash of HEAD; `+changes` where tracked files but this page differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    own = f":!{page.relative_to(ROOT).parent}"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", own)
    return git("rev-parse", "--short=10", "HEAD") + ("+changes" if changed else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
