"""Fetching wheels with the real pip, from a local folder instead of the registry."""

from __future__ import annotations

import errno
import hashlib
import shutil
import zipfile
from pathlib import Path

import pytest

from mark.config import Wheel
from mark.errors import DataError
from mark.wheels import cache_folder, disk_errors, fetch_member, fetch_wheel

NAME = "tiny_texts-1.0-py3-none-any.whl"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the registry, with one wheel for a Python that does not exist."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with zipfile.ZipFile(folder / NAME, "w") as wheel:
        wheel.writestr("tiny/data/a.json", "[1]")
        wheel.writestr("tiny/data/deep/b.txt", "b")
        wheel.writestr("tiny/database.txt", "other")
        wheel.writestr(
            "tiny_texts-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-texts\nVersion: 1.0\nRequires-Python: >=9.0\n",
        )
        wheel.writestr("tiny_texts-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_texts-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("MARK_CACHE", str(tmp_path / "cache"))
    return folder


def pinned(registry: Path, member: str, requirement: str = "tiny-texts==1.0") -> Wheel:
    digest = hashlib.sha256((registry / NAME).read_bytes()).hexdigest()
    return Wheel(requirement=requirement, sha256=digest, member=member)


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_file_and_folder(registry: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert fetch_member(pinned(registry, "tiny/data/a.json"), out) == out / "a.json"
    assert (out / "a.json").read_text() == "[1]"
    assert fetch_member(pinned(registry, "tiny/data"), out) == out / "data"
    assert files(out) == ["a.json", "data/a.json", "data/deep/b.txt"]  # not tiny/database.txt
    assert fetch_member(pinned(registry, "tiny/data"), out) == out / "data"  # again: replaced


def test_cache_is_used_and_mended(registry: Path, tmp_path: Path) -> None:
    wheel = pinned(registry, "tiny/data")
    kept = fetch_wheel(wheel)
    assert kept.is_relative_to(cache_folder())
    hidden = tmp_path / "hidden.whl"
    shutil.move(registry / NAME, hidden)
    assert fetch_wheel(wheel) == kept  # no registry needed
    kept.write_bytes(b"damaged")
    shutil.move(hidden, registry / NAME)
    assert hashlib.sha256(fetch_wheel(wheel).read_bytes()).hexdigest() == wheel.sha256


def test_wrong_hash(registry: Path, tmp_path: Path) -> None:
    wheel = pinned(registry, "tiny/data").model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DataError, match=r"tiny-texts==1\.0: the downloaded .* has sha256 .*, pinned is 0000"):
        fetch_member(wheel, tmp_path / "out")
    assert files(tmp_path / "cache") == []
    assert not (tmp_path / "out").exists()


def test_no_such_wheel_and_no_network(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = pinned(registry, "x", requirement="tiny-texts==2.0").model_copy(update={"sha256": "1" * 64})
    message = r"tiny-texts==2\.0 cannot be downloaded: No matching .*; check the requirement"
    with pytest.raises(DataError, match=message) as caught:
        fetch_member(absent, tmp_path / "out")
    assert "\n" not in str(caught.value)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(DataError, match="the package registry cannot be reached"):
        fetch_member(absent, tmp_path / "out")


def test_no_such_member(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tiny-texts==1\.0 holds no tiny/dat; mend `member`"):
        fetch_member(pinned(registry, "tiny/dat"), tmp_path / "out")
    assert files(tmp_path / "out") == []


def test_full_disk(registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    wheel = pinned(registry, "tiny/data")
    fetch_wheel(wheel)
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(DataError, match=r"no space left on the disk of .*out; free some"):
        fetch_member(wheel, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_disk_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"), disk_errors(tmp_path):
        raise OSError(errno.EROFS, "Read-only file system")
    with pytest.raises(OSError, match="odd"), disk_errors(tmp_path):
        raise OSError(errno.EIO, "odd")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/mark")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache/mark"
    monkeypatch.setenv("MARK_CACHE", "/y")
    assert cache_folder() == Path("/y")
