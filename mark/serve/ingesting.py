"""`mark add` and `dvc repro ingest` in the background, for PDFs that were uploaded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from starlette.concurrency import run_in_threadpool

from mark.corpus.user_files import add_pdfs
from mark.errors import MarkError
from mark.models.faults import first_line

log = logging.getLogger(__name__)

INCOMING = Path(".mark/incoming")  # read and checked PDFs that wait for `mark add`
COMMAND = (sys.executable, "-m", "dvc", "repro", "ingest")
State = Literal["idle", "running", "failed"]

_LINE_END = re.compile(rb"[\r\n]+")
_MAX_LINE = 300


class IngestQueue:
    """Runs ingest once for all that came since the last run; made and used in one event loop.

    Attributes:
        state: What it does.
        line: The last line that DVC or a stage wrote, or why it failed.
    """

    def __init__(self, root: Path, shutdown_s: float, command: Sequence[str] = COMMAND) -> None:
        """Nothing runs yet.

        Args:
            root: The project's root.
            shutdown_s: How long a running ingest may take to end when the server stops.
            command: Run in the project's root.
        """
        self._root, self._shutdown_s, self._command = root, shutdown_s, command
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.state: State = "idle"
        self.line = ""

    def start(self) -> None:
        """Take up what an earlier process left."""
        self._task = asyncio.create_task(self._run())
        if any((self._root / INCOMING).glob("*.pdf")):
            self.want()

    def want(self) -> None:
        """Something lies in INCOMING."""
        self._wanted.set()

    async def close(self) -> None:
        """Let a running ingest end, within limits; the next start goes on with what is left."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle(), self._shutdown_s)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _idle(self) -> None:
        while self.state == "running":
            await asyncio.sleep(0.1)

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self.state, self.line = "running", "mark add"
            try:
                await run_in_threadpool(_add_incoming, self._root)
                code = await self._repro()
            except (MarkError, OSError) as fault:
                code, self.line = 1, first_line(fault)
            self.state = "idle" if code == 0 else "failed"
            if code == 0:
                log.info("ingest has ended: the new documents are used from the next question on")
            else:
                log.error("ingest failed (exit %d): %s; mend it, then `dvc repro ingest`", code, self.line)

    async def _repro(self) -> int:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=self._root,
            env=os.environ | {"PATH": path},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            await self._follow(process)
            return await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            await process.wait()
            raise

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        left = b""
        while piece := await process.stdout.read(4096):
            *lines, left = _LINE_END.split(left + piece)
            for line in [*lines, left]:
                if line.strip():
                    self.line = line.decode("utf-8", "replace").strip()[:_MAX_LINE]
            left = left[-4096:]


def _add_incoming(root: Path) -> None:
    waiting = sorted((root / INCOMING).glob("*.pdf"))
    if waiting:
        add_pdfs(waiting, root)
    for path in waiting:
        path.unlink()
