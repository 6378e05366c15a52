"""Small disks and disks that nobody may write: tmpfs, where mounting is allowed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """A mounted tmpfs."""

    folder: Path

    def resize(self, kilobytes: int) -> None:
        """Another size; it may not be below what is used."""
        _mount("-o", f"remount,rw,size={kilobytes}k", str(self.folder))

    def forbid_writing(self) -> None:
        """Read-only from now on, for root too."""
        _mount("-o", "remount,ro", str(self.folder))

    def used(self) -> int:
        """Kilobytes."""
        done = subprocess.run(
            ["df", "-k", "--output=used", str(self.folder)], capture_output=True, text=True, check=True
        )
        return int(done.stdout.splitlines()[1])

    def fill_up(self, leave: int = 0) -> None:
        """Let it have room for some kilobytes more and no others."""
        self.resize(self.used() + leave)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Disk]:
    """Mount a disk of this size; a test is skipped where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError) as fault:
        said = fault.stderr.strip() if isinstance(fault, subprocess.CalledProcessError) else str(fault)
        pytest.skip(f"a small disk cannot be mounted here ({said}); as root on Linux it can")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], capture_output=True, text=True, check=True)
