"""What every stage and command shares: logging, one-line errors, the timing report, the run's record."""

from __future__ import annotations

import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mark.errors import MarkError
from mark.files import REPORTS, write_json

log = logging.getLogger(__name__)


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
        details = work()
    except MarkError as fault:
        for line in str(fault).splitlines():
            log.error("%s: %s", name, line)
        raise SystemExit(fault.exit_code) from None
    except KeyboardInterrupt:
        log.error("%s: interrupted; what was finished is kept, run it again to go on", name)
        raise SystemExit(130) from None
    _write_timing(name, time.monotonic() - started, details or {})
    record_run()


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
