"""What every stage and command shares: logging, one-line errors, the timing report."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mark.errors import MarkError
from mark.files import BASE_MODELS, CHUNKS, METRICS, MODELS, PLOTS, REPORTS, write_json

log = logging.getLogger(__name__)

_WRITTEN = (CHUNKS.parent, MODELS, BASE_MODELS, METRICS, PLOTS, PLOTS / "train", REPORTS, REPORTS / "eval")
_TEMPORARY = ".*.????????"  # what `mark.files` writes beside a file or folder before it takes its place
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_SIGNS = ("No space left on device", "disk is full", "File too large")
_NO_ROOM = 1 << 20  # bytes
_STALE_S = 3600.0  # age of such a one that no process can still be writing


def set_up_logging(debug: bool = False) -> None:
    """Messages of `mark` to stderr, one line each; libraries only from warnings on."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("mark").setLevel(logging.DEBUG if debug else logging.INFO)
    for name in ("transformers", "datasets", "sentence_transformers", "chromadb", "pypdf"):
        logging.getLogger(name).setLevel(logging.ERROR)


def set_up_environment() -> None:
    """No telemetry and no network by surprise; set before a library reads it."""
    for name in (
        "HF_HUB_OFFLINE",
        "HF_HUB_DISABLE_TELEMETRY",
        "DO_NOT_TRACK",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS",
    ):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def run_stage(name: str, work: Callable[[], Mapping[str, Any] | None], online: bool = False) -> None:
    """Run a DVC stage's work: a user's mistake is one line and a non-zero exit.

    Args:
        name: The stage's name; its timing goes to reports/timing_<name>.json.
        work: The stage; what it returns goes into the timing report.
        online: The stage may fetch weights from a hub (base_model only).
    """
    set_up_logging()
    if online:
        os.environ["HF_HUB_OFFLINE"] = "0"
    set_up_environment()
    started = time.monotonic()
    try:
        remove_leftovers()
        details = work()
        _write_timing(name, time.monotonic() - started, details or {})
    except MarkError as fault:
        for line in str(fault).splitlines():
            log.error("%s: %s", name, line)
        raise SystemExit(fault.exit_code) from None
    except KeyboardInterrupt:
        log.error("%s: interrupted; what was finished is kept, run it again to go on", name)
        raise SystemExit(130) from None
    except Exception as fault:
        told = disk_fault(fault)
        if told is None:
            raise
        log.error("%s: %s", name, told)
        raise SystemExit(1) from None


def disk_fault(fault: Exception) -> str | None:
    """One line about a disk that is full, read-only or broken, or a wrong path; None = something else.

    Writers in Rust and C++ tell of a full disk in words of their own, PyTorch's not at all: it is asked.
    """
    said = next((line.strip() for line in str(fault).splitlines() if line.strip()), type(fault).__name__)
    full = any(sign in said for sign in _FULL_SIGNS) or shutil.disk_usage(Path.cwd()).free < _NO_ROOM
    if isinstance(fault, OSError):
        full = full if fault.errno is None else fault.errno in _FULL
        said = f"{fault.strerror or said}: {fault.filename or Path.cwd()}"
    elif full:
        said = f"no space left on the disk of {Path.cwd()} ({said})"
    else:
        return None
    if full:
        return f"{said}; make room and run it again, what was finished is kept"
    return f"{said}; check the path and the free disk"


def remove_leftovers() -> None:
    """Remove what killed processes left of files and folders that they were writing, as large as a model."""
    for folder in _WRITTEN:
        for path in folder.glob(_TEMPORARY):
            with contextlib.suppress(FileNotFoundError):  # another stage removes it too
                if time.time() - path.lstat().st_mtime < _STALE_S:
                    continue
                log.info("removing %s, which a killed process left", path)
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def peak_memory_mb() -> float:
    """Peak resident memory of this process and, apart from it, of its largest child, in MiB."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1024 if sys.platform != "darwin" else 1024 * 1024
    return max(own, children) / unit


def _write_timing(name: str, seconds: float, details: Mapping[str, Any]) -> None:
    report = {
        "stage": name,
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(peak_memory_mb()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        **details,
    }
    write_json(Path(REPORTS) / f"timing_{name}.json", report)
    log.info("%s: %.0f s, peak memory %.0f MB", name, seconds, report["peak_memory_mb"])
