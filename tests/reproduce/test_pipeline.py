"""dvc.yaml, dvc.lock and hashes are read as DVC reads and makes them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mark.errors import DataError
from mark.reproduce.git import commit_of, objects_at
from mark.reproduce.pipeline import (
    dvc_hash,
    lock_here,
    lock_of,
    params_of,
    pipeline_key,
    stages_at,
    stages_of,
)
from tests.conftest import ROOT
from tests.reproduce.conftest import call, commit


def test_the_stages_are_those_that_dvc_sees() -> None:
    from dvc.repo import Repo

    ours = stages_of((ROOT / "dvc.yaml").read_text(), (ROOT / "params.yaml").read_text())
    with Repo(str(ROOT)) as repo:
        theirs = {
            stage.addressing.rpartition(":")[2]: (_paths(stage.deps) - {"params.yaml"}, _paths(stage.outs))
            for stage in repo.index.stages
            if not stage.is_data_source
        }
    assert {stage.name: (set(stage.deps), set(stage.outs)) for stage in ours} == theirs
    assert "eval@transformer_lora" in theirs


def _paths(items: Iterable[Any]) -> set[str]:
    return {os.path.relpath(item.fs_path, ROOT) for item in items}


def test_hashes_are_dvcs(tmp_path: Path) -> None:
    call(tmp_path, "git", "init", "-q")
    call(tmp_path, sys.executable, "-m", "dvc", "init", "-q")
    (tmp_path / "folder/b/c").mkdir(parents=True)
    (tmp_path / "folder/b/c/1.txt").write_text("one\r\ntwo\n")
    (tmp_path / "folder/b.txt").write_bytes(b"\0\1")
    (tmp_path / "folder/ä.txt").write_text("")
    (tmp_path / "file").write_text("x")
    call(tmp_path, sys.executable, "-m", "dvc", "add", "-q", "folder", "file")
    for name in ("folder", "file"):
        (out,) = yaml.safe_load((tmp_path / f"{name}.dvc").read_text())["outs"]
        assert dvc_hash(tmp_path / name) == out["md5"]


def test_the_lock_names_what_lies_there(tiny: Path) -> None:
    lock = lock_here(tiny)
    assert list(lock) == ["ingest", "train", "eval@tiny_lora", "compare"]
    for stage in lock.values():
        assert all(dvc_hash(tiny / out) == md5 for out, md5 in stage.outs.items())
    assert lock["train"].params == {"seed": 7} and "data/chunks.jsonl" in lock["train"].deps


def key(root: Path) -> str:
    """Of the last commit."""
    head = commit_of(root, "HEAD")
    return pipeline_key(
        stages_at(root, head), params_of((root / "params.yaml").read_text()), objects_at(root, head)
    )


def test_the_key_of_a_pipeline_forgets_the_seed_and_nothing_else(tiny: Path) -> None:
    first = key(tiny)
    params = tiny / "params.yaml"
    params.write_text(params.read_text().replace("seed: 7", "seed: 8") + "serve: {port: 1}\n")
    (tiny / "notes.md").write_text("no stage reads this")
    commit(tiny, "another seed")
    assert key(tiny) == first
    (tiny / "make.py").write_text((tiny / "make.py").read_text() + "# changed\n")
    commit(tiny, "other code")
    second = key(tiny)
    (tiny / "data/source.pdf").write_bytes(b"%PDF-1.4 another source")
    call(tiny, sys.executable, "-m", "dvc", "add", "-q", "data/source.pdf")
    commit(tiny, "another document")
    assert len({first, second, key(tiny)}) == 3


@pytest.mark.parametrize(
    ("pipeline", "params", "expected"),
    [
        ("stages: [", "seed: 1", "dvc.yaml cannot be read"),
        ("- a", "seed: 1", "dvc.yaml holds no sections"),
        ("stages: [a]", "seed: 1", "dvc.yaml: `stages` holds something else than stages"),
        ("stages: {a: }", "seed: 1", "dvc.yaml: `stages` holds something else than stages"),
        ("stages: {a: {outs: ['x/${b.c}']}}", "b: {d: 1}", r"\$\{b.c\} is not in params.yaml"),
        ("stages: {}", "a: [", "params.yaml cannot be read"),
        ("stages: {a: {foreach: [1], do: {}}}", "seed: 1", "a: `foreach` and a matrix of several keys"),
        ("stages: {a: {matrix: {b: [1], c: [2]}}}", "seed: 1", "a: `foreach` and a matrix of several keys"),
    ],
)
def test_damage_is_one_line(pipeline: str, params: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected) as fault:
        stages_of(pipeline, params)
    assert "\n" not in str(fault.value)


def test_a_commit_without_a_pipeline_is_named(tiny: Path) -> None:
    call(tiny, "git", "rm", "-q", "dvc.yaml")
    head = commit(tiny, "no pipeline")
    with pytest.raises(DataError, match=rf"commit {head[:10]} holds no dvc\.yaml"):
        stages_at(tiny, head)
    with pytest.raises(DataError, match="git knows no commit 'nope'"):
        commit_of(tiny, "nope")
    assert lock_of("stages: {}") == lock_of("stages:") == {}
