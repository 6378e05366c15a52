"""Runs one backend on one file: `python -P process.py`, the job as JSON on standard input.

A job never stands on the command line or in the environment: it may hold a password, and both can be
read by others. What came out before a crash says which page was at fault.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from typing import Any


def main() -> int:
    """Write the rows of one job, then `end`; the exit code is 0 unless the process itself failed."""
    job = json.load(sys.stdin)
    rows = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library's own prints must not mix with the rows
    _limit_memory(job["memory_mb"])
    try:
        for row in _load(job["backend_file"], job):
            _write(rows, row)
            if row["kind"] == "fault":
                return 0
    except MemoryError:
        detail = f"more than {job['memory_mb']} MB of memory"
        _write(rows, {"kind": "fault", "code": "crashed", "detail": detail})
        return 0
    _write(rows, {"kind": "end"})
    return 0


def _load(file: str, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A backend by its path: its folder must not be importable, pypdf.py would shadow pypdf."""
    spec = importlib.util.spec_from_file_location("mark_backend", file)
    assert spec is not None and spec.loader is not None
    backend = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backend)
    rows: Iterator[dict[str, Any]] = backend.read(job)
    return rows


def _write(rows: Any, row: dict[str, Any]) -> None:
    rows.write(json.dumps(row) + "\n")
    rows.flush()


def _limit_memory(megabytes: int) -> None:
    try:
        import resource
    except ImportError:  # no such limits on this system; the time limit remains
        return
    try:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    except (OSError, ValueError):  # macOS has the call and refuses it
        return


if __name__ == "__main__":
    sys.exit(main())
