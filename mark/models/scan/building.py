"""The C++ sources of the scan and the convolution as a shared library, compiled on first use and kept in the user's cache.

The library has a plain C interface and is called through ctypes: that needs g++ (or another C++17 compiler
with OpenMP), but neither ninja nor the headers of Python and torch.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from mark.models.faults import first_line
from mark.wheels import cache_folder

log = logging.getLogger(__name__)

_FOLDER = Path(__file__).parent
_COMPILED = tuple(_FOLDER / name for name in ("kernel.cpp", "convolution.cpp"))
_INCLUDED = (_FOLDER / "vectors.hpp",)
_FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-strict-aliasing", "-Wno-psabi",
    "-fPIC", "-shared",
)  # fmt: skip
_COMPILERS = ("g++", "c++", "clang++")
_BUILD_S = 300.0
_CPU_INFO = Path("/proc/cpuinfo")


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled scan, built where there is none yet; None where that fails, which is logged once."""
    try:
        return ctypes.CDLL(str(_built()))
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError, Timeout) as fault:
        log.warning(
            "the Mamba scan could not be compiled or loaded (%s); the PyTorch loop is used, which is many times "
            "slower: install g++, or name a C++ compiler in CXX",
            first_line(fault),
        )
        return None


def _built() -> Path:
    """The library's file. Two processes do not compile it twice, and none sees half a file.

    Raises:
        OSError: No compiler, or a cache that cannot be written.
        subprocess.SubprocessError: The compiler failed or hung.
        Timeout: Another process has been building for too long.
    """
    command = _compiler()
    folder = cache_folder() / "scan"
    target = folder / f"scan-{_key(command)}.so"
    if target.is_file():
        _refuse_others(folder)
        _refuse_others(target)
        return target
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_others(folder)
    with FileLock(target.with_suffix(".lock"), timeout=_BUILD_S):
        if not target.is_file():
            _compile(command, target)
    return target


def _refuse_others(path: Path) -> None:
    """Code is loaded from here: nobody else may have put it there.

    Raises:
        OSError: The path belongs to someone else, or others may write to it.
    """
    found = path.stat()
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o022:
        raise OSError(f"{path} is not this user's alone; `chmod go-w {path}` or set MARK_CACHE")


def _compiler() -> list[str]:
    """The command of a C++ compiler; CXX may name one, with arguments.

    Raises:
        OSError: There is none.
    """
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        return named
    found = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if found is None:
        raise OSError(f"none of {', '.join(_COMPILERS)} is on the PATH")
    return [found]


def _compile(command: list[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        done = subprocess.run(
            [*command, *_FLAGS, "-o", str(made), *map(str, _COMPILED)],
            capture_output=True, text=True, errors="replace", timeout=_BUILD_S, check=False,
        )  # fmt: skip
        if done.returncode != 0 or not made.is_file():
            said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
            raise OSError(f"{shlex.join(command)} ended with {done.returncode}: {said or 'no message'}")
        made.chmod(0o755)  # whatever the umask
        os.replace(made, target)
    log.info("compiled the Mamba scan into %s", target)


def _key(command: list[str]) -> str:
    """Of all that decides what the library holds and whether it runs here (-march=native: the CPU)."""
    sources = (path.read_text(encoding="utf-8") for path in (*_COMPILED, *_INCLUDED))
    parts = (*sources, *_FLAGS, *command, torch.__version__, _cpu())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _cpu() -> str:
    """Model and instruction sets."""
    if not _CPU_INFO.is_file():
        return f"{platform.machine()} {platform.processor()}"
    lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    wanted = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return "\n".join(sorted(wanted))
