"""What every stage does: leftovers of killed runs go, its timing is written."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from mark.commands.stage import _WRITTEN, run_stage
from mark.reproduce.environment import RUNS
from tests.conftest import ROOT


def test_what_a_killed_run_left_goes_after_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    old = [
        "models/.random_lora.ab12cd_9/adapter_model.safetensors",
        "data/.train_sft.jsonl.zz99zz99",
        "reports/eval/.x.12345678/a",
    ]
    kept = [
        "models/random_lora/entry.json",
        "data/.token_vectors.lock",
        "data/pdfs/.lease.12345678",
        "models/.young.12345678",
    ]
    for name in [*old, *kept]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "models/.link.12345678").symlink_to(tmp_path / "models/random_lora")
    past = time.time() - 2 * 3600
    for path in [*tmp_path.rglob("*"), *tmp_path.rglob(".*")]:
        if not path.name.startswith(".young"):
            os.utime(path, (past, past), follow_symlinks=False)
    run_stage("some", lambda: {"answers": 3})
    assert not any((tmp_path / name).exists() for name in old)
    assert all((tmp_path / name).is_file() for name in kept)
    assert not (tmp_path / "models/.link.12345678").is_symlink()
    assert [path.name for path in (tmp_path / "reports/eval").iterdir()] == []
    assert json.loads((tmp_path / "reports/timing_some.json").read_text())["answers"] == 3


def test_what_a_killed_stage_was_writing_is_known_to_git_and_dvc() -> None:
    """Every folder that stages write files to: their half-written ones are neither committed nor dependencies."""
    assert RUNS in _WRITTEN
    for folder in _WRITTEN:
        left = f"{folder.as_posix()}/.name.json.ab12cd_9"
        ignored = subprocess.run(["git", "check-ignore", "-q", left], cwd=ROOT, check=False).returncode == 0
        assert ignored, left
    ignored_by_dvc = (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
    assert {f"/{folder.as_posix()}/.*.????????" for folder in _WRITTEN} <= set(ignored_by_dvc)
