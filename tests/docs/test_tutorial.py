"""docs/tutorial.md is what happens: its commands run in a clone, in order (minutes)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs/tutorial.md"


def commands(text: str) -> list[str]:
    """Lines after a `$` in the console blocks, in order."""
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_commands_are_read_from_console_blocks_alone() -> None:
    text = "```console\n$ one\noutput\n$ two\n```\n$ three\n```\n$ four\n```\n"
    assert commands(text) == ["one", "two"]
    assert {"dvc repro", "mark report"} < set(commands(PAGE.read_text(encoding="utf-8")))


@pytest.mark.long
def test_the_tutorial_runs(tmp_path: Path) -> None:
    clone = tmp_path / "mark"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    bin_dir = tmp_path / "bin"  # `mark` and `python` of the clone, not of this checkout
    bin_dir.mkdir()
    for name, module in (("mark", "-m mark"), ("python", ""), ("dvc", "-m dvc")):
        (bin_dir / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (bin_dir / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(clone),
    }
    said = {}
    for line in commands(PAGE.read_text(encoding="utf-8")):
        here = line.replace("/tmp/my-pdfs", str(tmp_path / "my-pdfs"))
        done = subprocess.run(
            here, shell=True, cwd=clone, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        print(f"$ {line}\n{done.stdout}")
        said.setdefault(line, []).append(done.stdout)
    assert "cannot tell" in said["mark report"][0]
    assert (
        "cra"
        in said['mark ask "Within how many hours must an exploited vulnerability be notified?"'][0].lower()
    )
    before, after = said["mark ingest --report"]
    assert "dora" in before and "dora" not in after
