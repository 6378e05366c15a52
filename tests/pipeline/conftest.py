"""A small project with a name for each model of the priority list: links to tiny random ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mark.files import sha256_file, write_json
from tests.evaluation.conftest import MAX_LENGTH, PARAMS, RETRIEVAL, SETTINGS, project

__all__ = ["project"]

MakeRoot = Callable[..., Path]


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_root(project: Path, tiny_llama_dir: Path, tiny_mamba_dir: Path, tmp_path: Path) -> MakeRoot:
    """Makes a project: `make_root(models=[...], search=..., ...)`; `models` are those that it holds."""

    def make(models: list[str], **serve: Any) -> Path:
        root = tmp_path / "project"
        params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
        params["eval"] = SETTINGS.model_dump()
        params["retrieval"] = RETRIEVAL.model_dump()
        params["train"]["max_seq_length"] = MAX_LENGTH
        params["serve"] |= {"search": "exact", **serve}
        (root / "models/base").mkdir(parents=True)
        (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        shutil.copy(PARAMS.parent / "dvc.yaml", root)
        shutil.copytree(project / "data", root / "data")
        (root / "models/embedder").symlink_to(project / "models/embedder")
        for name in models:
            _add_model(root, name, project / "models/random_lora", tiny_llama_dir, tiny_mamba_dir)
        return root

    return make


def _add_model(root: Path, name: str, entry: Path, llama: Path, mamba: Path) -> None:
    base = name if not name.endswith("_lora") else "transformer"
    if not (root / "models/base" / base).exists():
        (root / "models/base" / base).symlink_to(mamba if base == "mamba" else llama)
    if name == base:
        return
    target = root / "models" / name
    shutil.copytree(entry, target)
    facts = json.loads((target / "entry.json").read_text(encoding="utf-8")) | {"base": base}
    (target / "entry.json").write_text(json.dumps(facts), encoding="utf-8")


def promote(root: Path, name: str, sha256: str | None = None) -> None:
    """Write models/champion.json.

    Args:
        root: The project's root.
        name: Of the champion.
        sha256: Of its adapter; None = as its folder holds it.
    """
    adapter = root / "models" / name / "adapter_model.safetensors"
    row = {
        "entry": name, "adapter_sha256": sha256 or sha256_file(adapter), "at": "2026-01-01T00:00:00Z",
        "over": None, "forced": False, "reason": "better",
    }  # fmt: skip
    write_json(root / "models/champion.json", {"schema_version": 1, "champion": name, "log": [row]})
