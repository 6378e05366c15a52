"""One run of a backend in a process with a time and a memory limit, and what came out of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mark.config import Ingest
from mark.errors import ConfigError
from mark.ingest.backends import BACKENDS, PROCESS
from mark.records import Quarantine

_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_THREAD_LIMIT": "1"}  # no download; one core a worker


@dataclass(frozen=True)
class Job:
    """One file for one backend."""

    backend: str
    path: Path
    password: str | None = field(default=None, repr=False)
    pages: tuple[int, ...] | None = None  # physical pages; None: all
    extra: dict[str, Any] = field(default_factory=dict)  # what this backend alone wants

    def encoded(self, settings: Ingest) -> bytes:
        """What the process reads from its standard input."""
        values = {
            "backend_file": str(BACKENDS[self.backend].file),
            "path": str(self.path),
            "password": self.password,
            "pages": self.pages,
            "memory_mb": settings.memory_mb,
            "max_pages": settings.max_pages,
            "min_page_chars": settings.min_page_chars,
            "ocr_max_chars": settings.ocr_max_chars,
            "ocr_image_share": settings.ocr_image_share,
        }
        return json.dumps(values | self.extra).encode()


@dataclass
class Reading:
    """What came out of one process, complete or not."""

    backend: str
    pages: int | None = None
    title: str = ""
    texts: list[dict[str, Any]] = field(default_factory=list)
    damaged: dict[int, str] = field(default_factory=dict)  # physical page -> what is wrong
    notes: list[str] = field(default_factory=list)
    fault: tuple[Quarantine, str] | None = None
    complete: bool = False

    @classmethod
    def parse(cls, backend: str, output: bytes) -> Reading:
        """The rows that a process wrote before it ended.

        Raises:
            ConfigError: The backend lacks something that concerns every file, such as its models.
        """
        reading = cls(backend)
        for line in output.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break  # cut off where the process died
            kind = row["kind"]
            if kind == "document":
                reading.pages, reading.title = row["pages"], row["title"]
            elif kind == "page":
                reading.texts.append(row)
            elif kind == "damaged":
                reading.damaged[row["page"]] = row["detail"]
            elif kind == "note":
                reading.notes.append(row["detail"])
            elif kind == "unusable":
                raise ConfigError(row["detail"])
            elif kind == "fault":
                reading.fault = (row["code"], row["detail"])
            reading.complete = kind in {"end", "fault"}
        return reading

    @property
    def page_at_fault(self) -> int | None:
        """The page that a process was reading when it ended."""
        stopped = not self.complete or (self.fault is not None and self.fault[0] == "crashed")
        if self.pages is None or not stopped:
            return None
        done = len(self.texts) + len(self.damaged)
        return done + 1 if done < self.pages else None


def run(job: Job, settings: Ingest, timeout_s: float | None = None) -> Reading:
    """Run a backend on one file; whatever happens to it comes back as the reading's fault.

    Args:
        job: The file and the backend.
        settings: The limits.
        timeout_s: Instead of `settings.timeout_s`.
    """
    limit = settings.timeout_s if timeout_s is None else timeout_s
    # -P: the script's own folder stays off the import path, so its siblings cannot shadow a module.
    command = [BACKENDS[job.backend].python, "-P", str(PROCESS)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | _ENVIRONMENT,
    )
    try:
        output, errors = process.communicate(job.encoded(settings), timeout=limit)
    except subprocess.TimeoutExpired:
        _stop(process)
        reading = Reading.parse(job.backend, process.communicate()[0])
        reading.complete, reading.fault = False, ("timeout", f"more than {limit:g} s")
        return reading
    except BaseException:
        _stop(process)
        raise
    reading = Reading.parse(job.backend, output)
    if reading.fault is None and not (reading.complete and process.returncode == 0):
        reading.complete, reading.fault = False, ("crashed", _end_of(process.returncode, errors))
    if reading.fault is not None:  # a report must not hold this machine's folders
        code, detail = reading.fault
        reading.fault = (code, detail.replace(f"{job.path.parent}{os.sep}", ""))
    return reading


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and its children: OCRmyPDF starts Tesseract."""
    import psutil

    try:
        family = [*psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _end_of(code: int, errors: bytes) -> str:
    if code < 0:
        return f"its process ended with {signal.Signals(-code).name}"
    last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
    return " ".join([f"its process ended with code {code}", *last])
