"""A line of an append-only file is there as a whole or not at all, whoever writes and whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mark.append_log as append_log
from mark.append_log import MAX_LINE, append, locked, read_lines, rewrite
from mark.errors import DataError
from tests.conftest import ROOT

_WRITER = """
import json, sys
from pathlib import Path
from mark.append_log import append, locked
path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(count):
    with locked(path):
        append(path, json.dumps({"writer": name, "number": number, "text": name * 3000}))
    print(number, flush=True)
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), name, str(count)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def add(path: Path, **values: object) -> None:
    with locked(path):
        append(path, json.dumps(values, ensure_ascii=False))


def test_several_processes_lose_and_mix_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in/log.jsonl"
    writers = [writer(path, name, 25) for name in "abcd"]
    assert [process.communicate()[0].count("\n") for process in writers] == [25] * 4
    rows = [json.loads(line) for line in read_lines(path) if line is not None]
    assert all(row["text"] == row["writer"] * 3000 for row in rows)
    for name in "abcd":
        assert [row["number"] for row in rows if row["writer"] == name] == list(range(25))


def test_a_killed_writer_loses_no_acknowledged_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    process = writer(path, "a", 100_000)
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    acknowledged = process.communicate()[0].count("\n")
    assert acknowledged > 0
    add(path, number=-1)
    rows = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    assert rows[-1] == {"number": -1}
    assert [row["number"] for row in rows[:-1]] == list(range(len(rows) - 1))
    assert len(rows) - 1 in (acknowledged, acknowledged + 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"n": 1}\n{"n": 2, "te', b'{"n": 1}\n'),
        (b'{"n": 1}\n\0\0\0\0', b'{"n": 1}\n'),  # what a power cut leaves on some file systems
        (b'{"n": 1}\n{"n": 2}', b'{"n": 1}\n{"n": 2}\n'),  # only its end is missing
        (b'{"to', b""),
        (b"[" * 100_000, b""),
        (b'{"n": 1}\nnot json\n', b'{"n": 1}\nnot json\n'),  # a whole line is not ours to remove
    ],
)
def test_a_torn_last_line_is_mended_by_the_next_write(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(before)
    add(path, n=3)
    assert path.read_bytes() == after + b'{"n": 3}\n'


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    add(path, n=1)

    def full(handle: int, data: bytes) -> None:
        os.write(handle, data[:4])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(append_log, "_write", full)
        with pytest.raises(DataError, match=r"log.jsonl cannot be written: No space left on device"):
            add(path, n=2)
        with pytest.raises(DataError, match="No space left"):
            rewrite(path, [b"{}"])
    assert path.read_bytes() == b'{"n": 1}\n'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "log.lock"]


def test_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "in/log.jsonl"
    add(path, n=1)
    path.chmod(0o644)  # as an editor leaves it
    add(path, n=2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    rewrite(path, [b"{}"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    add(path, text="a\u2028b\u2029c\x85d\x0be")
    with path.open("ab") as stream:
        stream.write(b"\n\r\n" + b"x" * (3 * MAX_LINE) + b'\n{"n": 2}\r\n')
    lines = list(read_lines(path))
    assert len(lines) == 3 and lines[1] is None and lines[2] == b'{"n": 2}'
    assert lines[0] is not None and json.loads(lines[0]) == {"text": "a\u2028b\u2029c\x85d\x0be"}
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def test_a_held_lock_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_log, "_LOCK_S", 0.1)
    with locked(tmp_path / "a.jsonl"), pytest.raises(DataError, match="held by another process"):
        add(tmp_path / "a.jsonl", n=1)
    add(tmp_path / "a.jsonl", n=1)
