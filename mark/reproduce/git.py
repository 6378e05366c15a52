"""What git knows of a project."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from mark.errors import DataError

# Set in hooks of git; they would make every repository that of the hook, a clone too.
_ELSEWHERE = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_PREFIX", "GIT_NAMESPACE",
)  # fmt: skip


def environment() -> dict[str, str]:
    """Of a process that works in its own folder's repository, whatever repository a hook of git names."""
    return {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder.

    Returns:
        What it printed, without white space around it.

    Raises:
        DataError: It ended non-zero; the message holds its reason.
    """
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise DataError(f"`git {' '.join(arguments)}` failed in {folder}: {reason[0]}")
    return done.stdout.strip()


def commit_of(folder: Path, revision: str) -> str:
    """The full id of the commit that a branch, tag or short id means.

    Raises:
        DataError: There is no such commit.
    """
    try:
        return git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except DataError:
        raise DataError(f"git knows no commit {revision!r} here; `git log --oneline` lists them") from None


def file_at(folder: Path, commit: str, path: str) -> bytes | None:
    """A file's content in a commit, None where the commit has no such file.

    Args:
        folder: The repository.
        commit: Of it.
        path: Relative to the repository's root.
    """
    done = subprocess.run(
        ["git", "cat-file", "blob", f"{commit}:{path}"],
        cwd=folder, env=environment(), capture_output=True, check=False,
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else None


def commits_touching(folder: Path, path: str, text: str | None = None) -> list[str]:
    """Commits of all branches that changed a file, newest first.

    Args:
        folder: The repository.
        path: Relative to its root.
        text: Only those that added or took away this text.
    """
    picked = [] if text is None else [f"-S{text}"]
    return git(folder, "log", "--all", "--format=%H", *picked, "--", path).split()


def objects_at(folder: Path, commit: str) -> dict[str, str]:
    """Path -> git's own id of each file and folder in a commit."""
    found = {}
    for line in git(folder, "-c", "core.quotePath=false", "ls-tree", "-r", "-t", commit).splitlines():
        facts, _, path = line.partition("\t")
        found[path] = facts.split()[2]
    return found


def changed_files(folder: Path) -> list[str]:
    """Files that differ from the last commit, those that git does not know among them, ignored ones not.

    Args:
        folder: The repository's root.
    """
    changed = git(folder, "diff", "--name-only", "-z", "HEAD")
    new = git(folder, "ls-files", "-z", "--others", "--exclude-standard")
    return [path for path in f"{changed}\0{new}".split("\0") if path]
