"""The registry shows what lies in models/, at once, and says what is wrong with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mark.errors import ModelError
from mark.registry import ModelRegistry, get_registry
from tests.conftest import ROOT

from .conftest import edit_entry


def test_entries_and_bases_are_listed(registry: ModelRegistry) -> None:
    assert registry.list_models() == ["transformer_lora", "transformer"]
    entry, base = registry.get("transformer_lora"), registry.get("transformer")
    assert (entry.kind, entry.base, entry.architecture, entry.fault) == (
        "entry",
        "transformer",
        "llama",
        None,
    )
    assert (base.kind, base.random, base.metrics) == ("base", True, None)
    assert len(entry.sha256) == len(base.sha256) == 64
    assert not entry.champion


def test_a_new_entry_is_there_as_soon_as_its_folder_is(registry: ModelRegistry) -> None:
    shutil.copytree(registry.root / "models/transformer_lora", registry.root / "models/rl_trained_lora")
    shutil.copytree(registry.root / "models/transformer_lora", registry.root / "models/.half_lora.x1")
    assert registry.list_models() == ["rl_trained_lora", "transformer_lora", "transformer"]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda e: (e / "entry.json").write_text("{"), "entry.json is damaged"),
        (lambda e: (e / "entry.json").write_text("[]"), "entry.json is damaged (content"),
        (lambda e: (e / "entry.json").write_text('{"base": "transformer"}'), "(base_sha256: Field required)"),
        (lambda e: (e / "adapter_model.safetensors").unlink(), "holds no adapter_model.safetensors"),
        (lambda e: shutil.rmtree(e.parent / "base/transformer"), "its base"),
        (
            lambda e: (e.parents[1] / "metrics").mkdir() or (e.parents[1] / "metrics/eval_transformer_lora.json").write_text("{}"),
            "holds no eval_transformer_lora",
        ),
    ],
)  # fmt: skip
def test_damage_is_one_line_and_hides_nothing(registry: ModelRegistry, damage: object, expected: str) -> None:
    damage(registry.root / "models/transformer_lora")  # type: ignore[operator]
    info = registry.get("transformer_lora")
    assert info.fault is not None and expected in info.fault and "\n" not in info.fault
    assert "transformer_lora" not in registry.list_models()
    with pytest.raises(ModelError):
        registry.entry("transformer_lora")


@pytest.mark.parametrize("name", ["transformer_lor", "", "../models/transformer_lora", "champion"])
def test_an_unknown_name_lists_those_that_there_are(registry: ModelRegistry, name: str) -> None:
    with pytest.raises(ModelError, match="there are: transformer_lora, transformer"):
        registry.get(name)


def test_a_base_is_no_entry(registry: ModelRegistry) -> None:
    with pytest.raises(ModelError, match="is a base model; name a fine-tuned one"):
        registry.entry("transformer")


def test_the_written_view_follows_the_folders(registry: ModelRegistry) -> None:
    view = registry.write_view()
    assert [row["name"] for row in json.loads(view.read_text())["models"]] == registry.list_models()
    edit_entry(registry.root, "transformer_lora", random=True)
    registry.write_view()
    assert json.loads(view.read_text())["models"][0]["random"] is True


def test_the_public_names_are_lazy(project: Path) -> None:
    assert get_registry().root == project and get_registry(Path("x")).root == Path("x")
    program = (
        "import sys; from mark import get_registry; print(get_registry().list_models()); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['transformer_lora', 'transformer']"
