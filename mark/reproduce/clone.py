"""Clones of a project in which commits run apart from the workspace."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mark.config import PARAMS
from mark.errors import DataError, MarkError
from mark.files import LLM_CACHE, PASSWORDS, whole_folder, write_text
from mark.reproduce.git import environment as repository_environment
from mark.reproduce.git import git
from mark.reproduce.store import cache_of

log = logging.getLogger(__name__)

CLONES = Path("tmp")  # ignored by git and DVC
AGREED = "confirmed"  # in data_prep.llm: a standing yes to paid replies
_STDERR = 2
_HERE = "mark-workspace"  # the remote that stands for the project's own cache
_PERSONAL = (
    PASSWORDS,
    LLM_CACHE,
)  # ignored by git, and read by stages: passwords, replies that were paid for


def clone_at(root: Path, commit: str, folder: Path) -> Path:
    """A clone of the project at a commit; one that is there already is brought to it.

    Args:
        root: The project's root.
        commit: Of it, on a branch or not.
        folder: Of the clone.

    Raises:
        DataError: The folder is there and is no clone; git would take it for a part of the project.
    """
    if not folder.is_dir():
        with whole_folder(folder) as work:
            git(root, "clone", "--quiet", "--no-hardlinks", "--no-checkout", str(root), str(work))
    elif not (folder / ".git").is_dir():
        raise DataError(f"{folder} is in the way and no clone of the project; move it elsewhere")
    git(folder, "config", "remote.origin.url", str(root))  # the project may have been moved since
    git(folder, "fetch", "--quiet", "origin", commit)
    git(folder, "checkout", "--quiet", "--force", "--detach", commit)
    return folder


@contextmanager
def temporary_clone(root: Path, commit: str, name: str, keep: bool) -> Iterator[Path]:
    """A clone at a commit with a cache of its own, so that nothing is taken from an earlier run.

    Passwords of documents and replies of a language model are copied, since stages need them.

    Args:
        root: The project's root.
        commit: Of it.
        name: What the folder's name begins with.
        keep: Leave it when the block ends.
    """
    (root / CLONES).mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=root / CLONES, prefix=f"{name}-{commit[:10]}-"))
    folder.rmdir()
    try:
        clone_at(root, commit, folder)
        for path in _PERSONAL:
            _copy(root / path, folder / path)
        use_cache(folder, folder / ".dvc/cache")
        check_code(folder)
        send_nothing(folder)
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def seed_clone(root: Path, commit: str) -> Path:
    """The clone for runs with other seeds, at a commit, with what the project's cache holds of its outputs.

    It shares the project's cache, so that an interrupted run goes on where it was.

    Raises:
        DataError: What DVC tracks beside the pipeline is not in the cache.
    """
    folder = clone_at(root, commit, root / CLONES / "seeds")
    _copy(root / PASSWORDS, folder / PASSWORDS)
    use_cache(folder, cache_of(root).parents[1])
    check_code(folder)
    _dvc(folder, ["checkout", "--quiet", "--force", "--allow-missing"])
    tracked = tracked_files(folder)
    if tracked and _dvc(folder, ["checkout", "--quiet", "--force", *tracked]).returncode != 0:
        raise DataError(f"not all of {', '.join(tracked[:3])} is in DVC's cache; run `dvc pull` first")
    return folder


def send_nothing(folder: Path) -> None:
    """Let a clone's stages pay for no new reply of a language model, whatever its settings agreed to."""
    path = folder / PARAMS
    text = path.read_text(encoding="utf-8")
    agreed = re.sub(rf"^( +{AGREED}): true$", r"\1: false", text, flags=re.MULTILINE)
    if agreed != text:
        write_text(path, agreed)


def use_cache(folder: Path, cache: Path) -> None:
    """Let a clone keep its outputs in a cache."""
    cache.mkdir(parents=True, exist_ok=True)
    _set_locally(folder, {"cache": {"dir": str(cache)}})


def check_code(folder: Path) -> None:
    """Make sure that a clone runs its own code, not that of an installed package.

    Raises:
        MarkError: It would not.
    """
    found = call(folder, [sys.executable, "-c", "import mark; print(mark.__file__)"])
    if not Path(found).is_relative_to(folder.resolve()):
        raise MarkError(f"the clone would run {found}; unset PYTHONSAFEPATH and PYTHONPATH, then try again")


def tracked_files(folder: Path) -> list[str]:
    """The .dvc files of a clone: what DVC tracks beside the pipeline, such as the user's PDFs."""
    return [path for path in git(folder, "ls-files", "-z", "*.dvc").split("\0") if path]


def fetch(folder: Path, targets: Sequence[str], root: Path) -> None:
    """Check outputs and tracked files out in a clone.

    Args:
        folder: The clone.
        targets: Outputs of stages and .dvc files; none is nothing to do.
        root: The project, whose cache is asked first, its default remote next.

    Raises:
        DataError: Something is in neither.
    """
    if not targets:
        return
    remotes = _copy_remotes(folder, root)
    for remote in (_HERE, *remotes[:1]):
        done = _dvc(folder, ["pull", "--quiet", "--remote", remote, *targets])
        if done.returncode == 0:
            return
    where = f"nor in the remote {remotes[0]}" if remotes else "and no DVC remote is set"
    missing = ", ".join(targets[:3]) + (" ..." if len(targets) > 3 else "")
    raise DataError(f"not all of {missing} is in DVC's cache here, {where}; `dvc fetch` shows which")


def pull(folder: Path, root: Path) -> None:
    """Take all outputs of a clone from the project's default remote.

    What the remote lacks stays missing.

    Raises:
        DataError: There is no remote.
        MarkError: It cannot be read; that something is missing there would not be known.
    """
    remotes = _copy_remotes(folder, root)
    if not remotes:
        raise DataError("no default DVC remote is set (`dvc remote add -d NAME URL`); or leave --pull out")
    done = _dvc(folder, ["pull", "--allow-missing", "--remote", remotes[0]])
    if done.returncode != 0:
        raise MarkError(f"the DVC remote {remotes[0]} cannot be read: {_reason(done)}")


def run_dvc(folder: Path, arguments: Sequence[str], threads: int | None = None) -> None:
    """Run DVC in a clone, its progress on stderr.

    Args:
        folder: The clone.
        arguments: e.g. `["repro"]`.
        threads: That each stage computes with; None = as the machine has it.

    Raises:
        MarkError: It ended non-zero; the reason stands above it.
    """
    variables = environment()
    if threads is not None:
        variables |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=_STDERR,
        check=False,
    )
    if done.returncode != 0:
        raise MarkError(
            f"`dvc {' '.join(arguments)}` failed in the clone (exit {done.returncode}); see above"
        )


def set_seed(folder: Path, seed: int) -> None:
    """Change the seed in params.yaml and nothing else.

    Raises:
        DataError: params.yaml has no line for it.
    """
    path = folder / PARAMS
    text, found = re.subn(
        r"^seed: .*$", f"seed: {seed}", path.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE
    )
    if not found:
        raise DataError(f"{PARAMS} has no line `seed: N`; run `mark params` to compose it")
    write_text(path, text)


def environment() -> dict[str, str]:
    """Of a process in a clone: this interpreter first on the PATH."""
    variables = repository_environment()
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables.get('PATH', '')}"
    return variables


def call(folder: Path, command: Sequence[str]) -> str:
    """Run a command in a clone.

    Returns:
        What it printed, without white space around it.

    Raises:
        MarkError: It ended non-zero; the message holds its reason.
    """
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MarkError(f"`{' '.join(command[-3:])}` failed in {folder}: {_reason(done)}")
    return done.stdout.strip()


def _dvc(folder: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """DVC's own word, or the last line."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines[-1:] or ["it printed nothing"])[0][:300]


def _copy_remotes(folder: Path, root: Path) -> list[str]:
    """Give a clone the project's remotes, with places that hold there too, and its cache as one more.

    Returns:
        The name of the default remote, if there is one.
    """
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        # Of what comes from elsewhere DVC would take the hash on trust.
        remotes = {name: {**values, "verify": True} for name, values in repo.config["remote"].items()}
        default = repo.config["core"].get("remote")
    remotes[_HERE] = {"url": str(cache_of(root).parents[1])}
    _set_locally(folder, {"remote": remotes})
    return [default] if default in remotes else []


def _set_locally(folder: Path, sections: Mapping[str, Any]) -> None:
    """Sections of a clone's own DVC configuration, which git does not see."""
    from dvc.repo import Repo

    (folder / ".dvc/config.local").touch(mode=0o600)  # it may hold a remote's password
    with Repo(str(folder)) as repo, repo.config.edit("local") as local:
        local.update(sections)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copy(source, target)
