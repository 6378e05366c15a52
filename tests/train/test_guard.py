"""Guard rails: each refusal is one sentence that names the setting."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mark.commands.params import compose
from mark.config import Train, validate
from mark.errors import GuardError
from mark.train import TrainInputs, train
from mark.train.guard import check_guards
from tests.conftest import ROOT
from tests.train.small import settings


@pytest.fixture(autouse=True)
def _no_setup_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARK_SETUP_MODE", raising=False)


def test_an_unguarded_confirmed_run_passes() -> None:
    check_guards(settings(), confirmed=True)
    check_guards(settings(epochs=0, max_steps=3), confirmed=True)  # bounded by steps


@pytest.mark.parametrize(
    ("changes", "confirmed", "named"),
    [
        ({"dry_run": True}, True, "train.dry_run"),
        ({"epochs": 0}, True, "train.epochs"),
        ({"max_steps": 0}, True, "train.max_steps"),
        ({}, False, "--confirm-run"),
    ],
)
def test_each_guard_names_its_setting(changes: dict[str, object], confirmed: bool, named: str) -> None:
    with pytest.raises(GuardError) as refusal:
        check_guards(settings(**changes), confirmed)
    assert named in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_setup_mode_blocks_everything(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MARK_SETUP_MODE", value)
    with pytest.raises(GuardError, match="MARK_SETUP_MODE"):
        check_guards(settings(), confirmed=True)


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_setup_mode_off(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MARK_SETUP_MODE", value)
    check_guards(settings(), confirmed=True)


@pytest.mark.parametrize("experiment", ["smoke", "demo", "proof", "full"])
def test_the_shipped_recipe_is_guarded_under_every_experiment(experiment: str) -> None:
    composed = yaml.safe_load(compose([f"experiment={experiment}", "train=lora_sft"], ROOT))["train"]
    recipe = validate(Train, composed, "train", Path("conf/train/lora_sft.yaml"))
    assert recipe.dry_run
    assert recipe.epochs == 0
    with pytest.raises(GuardError):
        check_guards(recipe, confirmed=True)


def test_the_guard_comes_before_anything_is_read(tmp_path: Path) -> None:
    nowhere = TrainInputs(*(tmp_path / "nothing" for _ in range(8)))
    with pytest.raises(GuardError):
        train(nowhere, settings(dry_run=True), 0, tmp_path / "out", confirmed=True)
