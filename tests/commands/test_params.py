"""params.yaml is composed from conf/, stays in step with it, and the guarded recipe stays guarded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from mark.commands.params import check_params, compose, recorded_overrides, write_params
from mark.errors import ConfigError
from tests.conftest import ROOT

EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf/experiment").glob("*.yaml"))


def test_committed_params_equal_conf() -> None:
    check_params(ROOT, [])
    assert recorded_overrides((ROOT / "params.yaml").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_guarded_recipe_stays_guarded_under_every_experiment(experiment: str) -> None:
    values = yaml.safe_load(compose([f"experiment={experiment}", "train=lora_sft"], ROOT))
    assert values["train"]["dry_run"] is True
    assert values["train"]["epochs"] == 0


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_only_selects_groups(experiment: str) -> None:
    text = yaml.safe_load((ROOT / f"conf/experiment/{experiment}.yaml").read_text(encoding="utf-8"))
    assert set(text) == {"defaults"}
    assert all(key.startswith("override /") for choice in text["defaults"] for key in choice)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("experiment=prof", "conf/experiment: no option 'prof'; known: demo, full, proof, smoke"),
        ("train.lora.rr=3", "train.lora.rr: unknown key; see conf/ for the right name"),
        ("+train.epoch=2", "conf: train.epoch: unknown key; did you mean epochs?"),
        ("train.epochs=-1", "conf: train.epochs: -1 found; allowed: greater than or equal to 0"),
    ],
)
def test_wrong_override_is_one_line(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([override], ROOT)
    assert str(caught.value) == expected


def test_write_then_check_then_edit(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    assert write_params(["experiment=proof"], tmp_path) is True
    assert write_params(["experiment=proof"], tmp_path) is False
    check_params(tmp_path, [])  # against the overrides that were given
    path = tmp_path / "params.yaml"
    path.write_text(path.read_text().replace("seed: 7", "seed: 8"))
    with pytest.raises(ConfigError, match=r"differs from conf/ in 2 lines.*`mark params experiment=proof`"):
        check_params(tmp_path, [])
    write_params([], tmp_path)
    check_params(tmp_path, [])
    assert recorded_overrides(path.read_text()) == []


def test_ones_own_pdfs_pass_the_check_that_make_repro_begins_with(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    write_params(["corpus=folder", "corpus.documents=[my lease]"], tmp_path)
    check_params(tmp_path, [])
    assert yaml.safe_load((tmp_path / "params.yaml").read_text())["corpus"]["source"] == "folder"


def test_model_choice_names_the_entry() -> None:
    values = yaml.safe_load(compose(["model=mamba"], ROOT))
    assert values["eval"]["entries"] == ["mamba_lora", "rl_trained_lora"]
    assert values["model"]["base"]["revision"] == "1e76775"
