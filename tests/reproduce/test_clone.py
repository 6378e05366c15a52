"""A clone is brought to a commit, and the project that it is of stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mark.errors import DataError
from mark.reproduce.clone import CLONES, clone_at
from mark.reproduce.git import commit_of, git
from tests.reproduce.conftest import call, commit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one commit and a change that is not committed."""
    folder = tmp_path / "project"
    folder.mkdir()
    call(folder, "git", "init", "-q", "-b", "main")
    (folder / ".gitignore").write_text("/tmp/\n")
    (folder / "text").write_text("first")
    commit(folder, "first")
    (folder / "text").write_text("not committed")
    return folder


def unchanged(root: Path) -> None:
    """What must hold of the project whatever happened to its clones."""
    assert (root / "text").read_text() == "not committed"
    assert call(root, "git", "symbolic-ref", "HEAD").strip() == "refs/heads/main"
    assert "origin" not in call(root, "git", "remote")


def test_a_folder_that_is_no_clone_is_left_alone(root: Path) -> None:
    (root / CLONES / "seeds").mkdir(parents=True)  # git would find the project's own repository from there
    with pytest.raises(DataError, match=r"tmp/seeds is in the way and no clone of the project"):
        clone_at(root, commit_of(root, "HEAD"), root / CLONES / "seeds")
    unchanged(root)


def test_a_clone_that_did_not_come_to_its_end_is_not_there(root: Path) -> None:
    for name in (CLONES, "nowhere"):
        (root / name).mkdir()
    with pytest.raises(DataError, match="git clone"):
        clone_at(root / "nowhere", "HEAD", root / CLONES / "seeds")
    assert list((root / CLONES).iterdir()) == []


def test_a_hook_of_git_does_not_lead_the_clone_to_the_project(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = commit_of(root, "HEAD")
    monkeypatch.setenv("GIT_DIR", str(root / ".git"))  # as git sets it in the hooks of a worktree
    monkeypatch.setenv("GIT_WORK_TREE", str(root))
    folder = clone_at(root, first, root / CLONES / "seeds")
    assert git(folder, "rev-parse", "--show-toplevel") == str(folder.resolve())
    monkeypatch.undo()
    assert (folder / "text").read_text() == "first"
    unchanged(root)


def test_a_commit_of_no_branch_and_a_project_that_was_moved(root: Path) -> None:
    clone_at(root, commit_of(root, "HEAD"), root / CLONES / "seeds")
    moved = root.rename(root.parent / "moved")
    call(moved, "git", "checkout", "-q", "--detach")
    second = commit(moved, "second")
    call(moved, "git", "checkout", "-q", "main")
    folder = clone_at(moved, second, moved / CLONES / "seeds")
    assert (folder / "text").read_text() == "not committed" and commit_of(folder, "HEAD") == second
