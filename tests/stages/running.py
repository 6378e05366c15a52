"""Running DVC and the CLI in a clone of this working tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

# Every process of these tests starts with this: whatever is not this machine is refused.
REFUSE_NETWORK = """
import socket

def _refuse(host):
    if host not in (None, "", "localhost", "127.0.0.1", "::1"):
        raise OSError(f"network refused by the test: {host}")

def _guarded(call):
    def guarded(self, address, *rest):
        if isinstance(address, tuple):
            _refuse(address[0])
        return call(self, address, *rest)
    return guarded

def _resolve(host, *rest, _call=socket.getaddrinfo, **named):
    _refuse(host)
    return _call(host, *rest, **named)

socket.socket.connect = _guarded(socket.socket.connect)
socket.socket.connect_ex = _guarded(socket.socket.connect_ex)
socket.getaddrinfo = _resolve
"""


def environment(folder: Path) -> dict[str, str]:
    """Of a process in the project: its own code first, no network."""
    refuse = folder.parent / "refuse_network"
    refuse.mkdir(exist_ok=True)
    (refuse / "sitecustomize.py").write_text(REFUSE_NETWORK)
    path = os.pathsep.join([str(folder), str(refuse)])
    bin_folder = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": bin_folder + os.pathsep + os.environ["PATH"], "PYTHONPATH": path}


def call(folder: Path, *command: str, online: bool = False) -> str:
    """Run a command in the project, without network unless `online`; its output is shown when it fails."""
    variables = environment(folder)
    if online:
        variables["PYTHONPATH"] = str(folder)
    done = subprocess.run(
        list(command), cwd=folder, env=variables, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def fails(folder: Path, *command: str) -> str:
    """Run a command in the project that must fail; all that it said."""
    done = subprocess.run(
        list(command), cwd=folder, env=environment(folder), text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode != 0, done.stdout[-4000:]
    return done.stdout


def dvc(folder: Path, *arguments: str, online: bool = False) -> str:
    """Run DVC in the project."""
    return call(folder, sys.executable, "-m", "dvc", *arguments, online=online)


def mark(folder: Path, *arguments: str) -> str:
    """Run the CLI in the project."""
    return call(folder, sys.executable, "-m", "mark", *arguments)


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder as somebody."""
    return call(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments)


def committed_copy(project: Path, target: Path, *remote: str) -> Path:
    """A copy of a project in which everything is committed, also DVC's default remote if one is given."""
    folder = Path(shutil.copytree(project, target, symlinks=True))
    if remote:
        dvc(folder, "remote", "add", "-q", "-d", *remote)
        dvc(folder, "remote", "modify", "-q", remote[0], "verify", "true")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "run")
    return folder


def clone(origin: Path, target: Path) -> Path:
    """What a colleague has after `git clone`."""
    git(origin, "clone", "-q", str(origin), str(target))
    return target


def stages_run(output: str) -> list[str]:
    """The stages that `dvc repro` ran or would run, from what it printed."""
    return re.findall(r"^Running stage '(.+)'", output, re.M)


def clone_of_working_tree(target: Path) -> Path:
    """A git repository with the files of this working tree, committed, as a user would clone it."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith("docs/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "clone"]):
        subprocess.run(
            ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *command],
            cwd=target,
            check=True,
        )
    return target


def smoke_project(target: Path, pdfs: Path) -> Path:
    """A clone in which the smoke profile ran once on a folder of PDFs."""
    folder = clone_of_working_tree(target)
    for key, value in (("user.name", "test"), ("user.email", "test@example.org")):
        subprocess.run(["git", "config", key, value], cwd=folder, check=True)
    mark(folder, "add", str(pdfs))
    mark(folder, "params", "experiment=smoke")
    dvc(folder, "repro")
    return folder
