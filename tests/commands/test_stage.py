"""What every stage does: leftovers of killed runs go, its timing is written."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from mark.commands.stage import run_stage


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
