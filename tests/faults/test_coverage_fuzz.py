"""The driver of atheris: it runs, and a reader that breaks ends it with a traceback and the input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

BROKEN = """
import sys
from pathlib import Path
from tests.faults import coverage_fuzz
coverage_fuzz.KEPT = Path(sys.argv[1])
coverage_fuzz.READERS["rows"] = lambda content, folder: content.decode("ascii")
coverage_fuzz.main(["rows", "-runs=20000", "-seed=1"])
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("atheris", reason="atheris is not installed: make extras")
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, text=True, errors="replace", check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(("reader", "runs"), [("rows", 20_000), ("params", 2_000), ("pdf", 40)])
def test_the_readers_stand_it(reader: str, runs: int) -> None:
    done = run("-m", "tests.faults.coverage_fuzz", reader, f"-runs={runs}")
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"Done {runs} " in done.stdout


@pytest.mark.long
def test_what_breaks_a_reader_is_kept(tmp_path: Path) -> None:
    """The seeds hold letters that ASCII lacks."""
    done = run("-c", BROKEN, str(tmp_path))
    assert done.returncode != 0 and "UnicodeDecodeError" in done.stdout
    assert list(tmp_path.glob("rows-crash-*"))
