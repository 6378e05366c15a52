"""What every stage and command shares: logging, one-line errors, the timing report, the run's record."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mark.errors import ConfigError, MarkError
from mark.files import BASE_MODELS, CHUNKS, METRICS, MODELS, PLOTS, REPORTS, write_json

LAUNCH = "MARK_LAUNCH"  # what starts several processes of a stage that can use them: torchrun ...
_RANK = "RANK"  # set by it: which of them this one is
log = logging.getLogger(__name__)

_WRITTEN = (
    CHUNKS.parent, MODELS, BASE_MODELS, METRICS, PLOTS, PLOTS / "train",
    REPORTS, REPORTS / "eval", REPORTS / "runs",
)  # fmt: skip
_TEMPORARY = ".*.????????"  # what `mark.files` writes beside a file or folder before it takes its place
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_SIGNS = ("No space left on device", "disk is full", "File too large")
_NO_ROOM = 1 << 20  # bytes
_STALE_S = 3600.0  # age of such a one that no process can still be writing


def set_up_logging(debug: bool = False) -> None:
    """Messages of `mark` to stderr, one line each; libraries only from warnings on.

    Of several processes the first one speaks; the others tell errors, and which one they are.
    """
    number = os.environ.get(_RANK, "0")
    text = "%(message)s" if number == "0" else f"process {number}: %(message)s"
    logging.basicConfig(level=logging.WARNING, format=text, stream=sys.stderr, force=True)
    level = logging.DEBUG if debug else logging.INFO
    logging.getLogger("mark").setLevel(level if number == "0" else logging.ERROR)
    for name in ("transformers", "datasets", "sentence_transformers", "chromadb", "pypdf", "bitsandbytes"):
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
        name: The stage's name; its timing goes to reports/timing_<name>.json, what it computed on to
            reports/runs/<name>.json.
        work: The stage; what it returns goes into the timing report.
        online: The stage may fetch weights from a hub (base_model only).
    """
    set_up_logging()
    if online:
        os.environ["HF_HUB_OFFLINE"] = "0"
    set_up_environment()
    from mark.reproduce.environment import record_run

    started = time.monotonic()
    try:
        remove_leftovers()
        details = work()
        if os.environ.get(_RANK, "0") == "0":
            _write_timing(name, time.monotonic() - started, details or {})
            record_run()
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


def launched(name: str) -> bool:
    """Run a stage's file in the processes that `MARK_LAUNCH` starts, where it is set.

    How many there are is this machine's affair and changes no result, so it stands in no file that DVC reads.

    Args:
        name: The stage's.

    Returns:
        Whether it ran; False in one of those processes, and where nothing is set.

    Raises:
        ConfigError: The launcher is not installed.
        MarkError: It failed; what failed stands above, on the screen.
    """
    launcher = shlex.split(os.environ.get(LAUNCH, ""))
    if not launcher or _RANK in os.environ:
        return False
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which(launcher[0], path=places)
    if program is None:
        raise ConfigError(
            f"{LAUNCH}: {launcher[0]!r} is no program; allowed: torchrun ... or accelerate launch ..."
        )
    done = subprocess.run([program, *launcher[1:], "-m", f"stages.{name}"], check=False)
    if done.returncode != 0:
        raise MarkError(f"{' '.join(launcher)} failed (exit {done.returncode}); the reason stands above")
    return True


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
                age = time.time() - path.lstat().st_mtime
                if age < 0:  # the clock was set back: it ages from now on
                    os.utime(path, follow_symlinks=False)
                if age < _STALE_S:
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
