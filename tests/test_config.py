"""Every fault in the configuration is one line: file, key, value, what is allowed, the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mark.config import Train, load_params, load_section, load_seed, load_value
from mark.errors import ConfigError
from tests.conftest import ROOT


def _changed(tmp_path: Path, section: str, changes: dict[str, Any]) -> Path:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values[section].update(changes)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_committed_params_are_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.eval.entries == [f"{params.model.name}_lora", "rl_trained_lora"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"epoch": 2}, "train.epoch: unknown key; did you mean epochs?"),
        ({"epochs": -1}, "train.epochs: -1 found; allowed: greater than or equal to 0"),
        ({"precision": "bf15"}, "train.precision: 'bf15' found; allowed: 'auto', 'fp32' or 'bf16'; did you mean bf16?"),
        ({"learning_rate": "fast"}, "train.learning_rate: 'fast' found"),
        ({"lora": {"rank": 8}}, "train.lora.r: missing; run `mark params`"),
    ],
)  # fmt: skip
def test_fault_is_one_line_with_file_key_value(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    path = _changed(tmp_path, "train", changes)
    with pytest.raises(ConfigError) as caught:
        load_section(Train, "train", path)
    assert f"{path}: {expected}" in str(caught.value)


def test_two_faults_are_two_lines(tmp_path: Path) -> None:
    path = _changed(tmp_path, "train", {"epochs": -1, "batch_size": 0})
    with pytest.raises(ConfigError) as caught:
        load_section(Train, "train", path)
    assert len(str(caught.value).splitlines()) == 2


def test_seed_zero_is_a_seed_and_true_is_none(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("seed: 0\n", encoding="utf-8")
    assert load_seed(path) == 0
    path.write_text("seed: true\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="seed: True found"):
        load_seed(path)


def test_missing_file_and_broken_yaml_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is missing; run `mark params`"):
        load_seed(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("train: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        load_seed(tmp_path / "params.yaml")


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("learning_rate: 0.0005", "learning_rate: 5e-4"), encoding="utf-8")
    assert "5e-4" in path.read_text(encoding="utf-8")
    assert load_value("train", "learning_rate", path) == 0.0005


@pytest.mark.parametrize(
    ("found", "said"),
    [("*", "does not appear to be"), ("10.0.0.1/8", "has host bits set"), ("0.0.0.0/0", "is everybody")],
)
def test_a_proxy_is_an_address_or_a_network(tmp_path: Path, found: str, said: str) -> None:
    path = _changed(tmp_path, "serve", {"trusted_proxies": [found]})
    with pytest.raises(ConfigError, match=r"serve.trusted_proxies: .*" + said):
        load_params(path)
    assert load_params(_changed(tmp_path, "serve", {"trusted_proxies": ["10.0.0.0/8"]}))
