"""What the machine offers: device, bfloat16, free memory; and the memory that a piece of work takes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
import torch

from mark.errors import ConfigError

_CGROUPS = (
    (
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory.current",
        "/sys/fs/cgroup/memory.stat",
        "inactive_file",
    ),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)
_SAMPLE_S = 0.005


def training_device() -> torch.device:
    """The GPU where there is one (this process's own under torchrun), else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def wants_bf16(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> bool:
    """Whether matrix products run in bfloat16 (weights that are trained stay float32).

    Args:
        precision: `train.precision`; auto = where the hardware multiplies bfloat16 natively.
        device: Where training runs.

    Raises:
        ConfigError: bf16 is asked of a GPU that has none.
    """
    native = _native_bf16(device)
    if precision == "bf16" and device.type == "cuda" and not native:
        raise ConfigError("train.precision: bf16 found, but this GPU has no bfloat16; set auto or fp32")
    return native if precision == "auto" else precision == "bf16"


def _native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    return any(
        bool(features.get(name, False)) for name in ("avx512_bf16", "amx_bf16", "amx_tile", "arm_bf16")
    )


def free_memory_bytes() -> int:
    """Memory that this process can still take: the machine's, or the control group's where it is less."""
    free = int(psutil.virtual_memory().available)
    for limit_file, usage_file, stat_file, cache_key in _CGROUPS:
        limit, usage = _number(limit_file), _number(usage_file)
        if limit is not None and usage is not None:
            free = min(free, limit - usage + _stat(stat_file, cache_key))
    return max(free, 0)


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # absent, or "max": no limit
        return None


def _stat(path: str, key: str) -> int:
    try:
        pairs = (line.split() for line in Path(path).read_text().splitlines())
        return next((int(pair[1]) for pair in pairs if pair[0] == key), 0)
    except OSError:
        return 0


@dataclass
class Peak:
    """Bytes in use before a piece of work and at its peak."""

    before: int = 0
    peak: int = 0

    @property
    def grown(self) -> int:
        """How much the work added at its peak."""
        return max(0, self.peak - self.before)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak of a block: resident memory on a CPU, allocated memory on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        measured = Peak(before=torch.cuda.memory_allocated(device))
        yield measured
        torch.cuda.synchronize(device)
        measured.peak = torch.cuda.max_memory_allocated(device)
        return
    process, done = psutil.Process(), threading.Event()
    measured = Peak(before=process.memory_info().rss, peak=process.memory_info().rss)

    def watch() -> None:
        while not done.wait(_SAMPLE_S):
            measured.peak = max(measured.peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield measured
    finally:
        done.set()
        watcher.join()
