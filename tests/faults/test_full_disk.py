"""Full and read-only disks, real ones: one line, the old file as it was, and the next run as if nothing had been."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mark.append_log import append, locked
from mark.errors import DataError
from mark.files import whole_folder, write_json, write_text
from tests.conftest import ROOT
from tests.faults.disks import Disk, small_disk
from tests.faults.kept import code_sha256, kept_template
from tests.faults.killing import FOLDER
from tests.faults.smoke_copy import STAGES, SmokeCopy

# Without bytecode files: Python before 3.12.8 writes them short where there is no room, and cannot read them then.
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PATH": ""}
LARGE = "x" * 200_000  # more than the disk has
ROOMS = 3  # kilobytes that are left, drawn for each stage; and none at all
SEED = 7
ROOM_FOR_ALL = 400_000  # kilobytes


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """64 KB."""
    with small_disk(tmp_path / "disk", 64) as mounted:
        yield mounted


def whole(folder: Path) -> None:
    with whole_folder(folder / "entry") as work:
        (work / "a.txt").write_text("small")
        (work / "b.txt").write_text(LARGE)


WRITERS: list[Callable[[Path], object]] = [
    lambda folder: write_text(folder / "old.txt", LARGE),
    lambda folder: write_json(folder / "old.txt", [LARGE]),
    whole,
]


@pytest.mark.parametrize("write", WRITERS, ids=["text", "json", "folder"])
def test_a_full_disk_changes_nothing(disk: Disk, write: Callable[[Path], object]) -> None:
    (disk.folder / "old.txt").write_text("old")
    (disk.folder / "entry").mkdir()
    (disk.folder / "entry/a.txt").write_text("old")
    with pytest.raises(OSError, match="No space left on device"):
        write(disk.folder)
    assert sorted(path.name for path in disk.folder.rglob("*")) == ["a.txt", "entry", "old.txt"]
    assert (disk.folder / "old.txt").read_text() == (disk.folder / "entry/a.txt").read_text() == "old"


def test_a_log_on_a_full_disk_keeps_what_it_acknowledged(disk: Disk) -> None:
    path = disk.folder / "log.jsonl"
    with locked(path):
        for _ in range(3):
            append(path, '{"a": 1}')
        before = path.read_bytes()
        with pytest.raises(DataError, match=r"log\.jsonl cannot be written: No space left on device"):
            append(path, '{"a": "' + LARGE + '"}')
        assert path.read_bytes() == before
        append(path, '{"a": 2}')
    assert path.read_bytes() == before + b'{"a": 2}\n'


def test_a_file_limit_is_told_like_a_full_disk(tmp_path: Path) -> None:
    """Needs no rights: the system refuses files beyond 4 KB."""
    code = "from pathlib import Path; from mark.commands.stage import run_stage; from mark.files import write_text; "
    code += f"run_stage('some', lambda: write_text(Path('old.txt'), 'x' * {len(LARGE)}))"
    (tmp_path / "old.txt").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=ENVIRONMENT, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr
        == f"some: File too large: {tmp_path}; make room and run it again, what was finished is kept\n"
    )
    assert (tmp_path / "old.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]


# Each writes more than there is room for, by a library with words of its own for it.
LIBRARIES = {
    "safetensors": "from safetensors.numpy import save_file; import numpy; "
    "save_file({'a': numpy.zeros(50000)}, 'a.safetensors')",
    "numpy": "import numpy; numpy.save('a.npy', numpy.zeros(50000))",
    "sqlite": "import sqlite3; c = sqlite3.connect('a.db'); c.execute('create table t (a)'); "
    "c.execute('insert into t values (zeroblob(400000))'); c.commit()",
    "torch": "import torch; torch.save(torch.zeros(50000), 'a.pt')",
}


@pytest.mark.parametrize(
    "library", [pytest.param(name, marks=pytest.mark.long if name == "torch" else ()) for name in LIBRARIES]
)
def test_a_stage_tells_of_a_full_disk_in_one_line(disk: Disk, library: str) -> None:
    code = "from mark.commands.stage import run_stage\n"
    code += f"def work():\n    {LIBRARIES[library]}\nrun_stage('some', work)"
    done = python(code, disk.folder)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("some: ") and line.endswith(
        "; make room and run it again, what was finished is kept"
    )
    assert str(disk.folder) in line


def test_a_fault_that_is_none_of_the_disk_keeps_its_traceback(tmp_path: Path) -> None:
    done = python("from mark.commands.stage import run_stage; run_stage('some', lambda: 1 / 0)", tmp_path)
    assert "ZeroDivisionError" in done.stderr and "Traceback" in done.stderr


def test_a_read_only_project_is_told_in_one_line(disk: Disk) -> None:
    disk.resize(1000)
    for name in ("params.yaml", "dvc.yaml"):
        (disk.folder / name).write_text((ROOT / name).read_text())
    subprocess.run(["cp", "-r", str(ROOT / "conf"), str(disk.folder)], check=True)
    disk.forbid_writing()
    for command, said in (
        ("mark params seed=11", f"mark: Read-only file system: {disk.folder}"),
        (
            "stages.base_model",
            "base_model: models/base/transformer cannot be written (Read-only file system)",
        ),
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command.split()], cwd=disk.folder, capture_output=True, text=True, check=False,
            env=ENVIRONMENT,
        )  # fmt: skip
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith(said), line


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False,
        env=ENVIRONMENT,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_on_a_disk_that_fills_up(stage: str, tmp_path: Path) -> None:
    """Its command as dvc.yaml has it, with less room than it needs; then, with room, `dvc repro`."""
    template = kept_template(FOLDER, code_sha256())
    with small_disk(tmp_path / "disk", ROOM_FOR_ALL) as disk:
        copy = SmokeCopy(template, disk.folder / "project", tmp_path / "state")
        needed = room_needed(copy, stage, disk)
        drawn = random.Random(f"{SEED}/{stage}")
        for room in {0, *(drawn.randrange(1, max(2, needed)) for _ in range(ROOMS))}:
            copy.fresh(stage)
            disk.fill_up(room)
            need_one_line(copy.command(stage), stage, f"{room} of {needed} KB")
            disk.resize(ROOM_FOR_ALL)
            assert list(copy.run_again(stage)) == [], f"{stage}, {room} of {needed} KB"


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_on_a_disk_that_nobody_may_write(stage: str, tmp_path: Path) -> None:
    template = kept_template(FOLDER, code_sha256())
    with small_disk(tmp_path / "disk", ROOM_FOR_ALL) as disk:
        copy = SmokeCopy(template, disk.folder / "project", tmp_path / "state")
        copy.fresh(stage)
        disk.forbid_writing()
        done = copy.command(stage)
        assert done.returncode != 0
        need_one_line(done, stage, "read-only")
        disk.resize(ROOM_FOR_ALL)
        assert list(copy.run_again(stage)) == []


def room_needed(copy: SmokeCopy, stage: str, disk: Disk) -> int:
    """Kilobytes that an unbroken run adds; what it needs for a while and takes away again is not seen."""
    copy.fresh(stage)
    before = disk.used()
    done = copy.command(stage)
    assert done.returncode == 0, done.stdout[-3000:]
    return disk.used() - before


def need_one_line(done: subprocess.CompletedProcess[str], stage: str, how: str) -> None:
    """The stage's last line says what is wrong, if it failed: a little room can be enough for it."""
    if done.returncode == 0:
        return
    assert "Traceback" not in done.stdout, f"{stage}, {how}: {done.stdout[-3000:]}"
    last = [line for line in done.stdout.splitlines() if line.strip()][-1]
    assert last.startswith(f"{stage.replace('@', '_')}: "), f"{stage}, {how}: {done.stdout[-3000:]}"
    assert any(sign in last.lower() for sign in ("no space left", "free", "disk is full", "read-only")), last
