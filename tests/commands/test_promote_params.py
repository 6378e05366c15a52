"""`mark promote-params`: what experiment=best composes to is what the experiment ran with."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml

from mark.commands.params import check_params, compose, recorded_overrides, write_params
from mark.commands.promote_params import promote_params
from mark.errors import ConfigError, DataError
from tests.conftest import ROOT

SMOKE = ("experiment=smoke", "train.lora.r=6", "rlhf.beta=0.07", "rlhf.max_steps=1", "seed=11")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], cwd=folder, check=True
    )


def keep_as(tag: str, overrides: tuple[str, ...], root: Path) -> dict[str, object]:
    """Commit params.yaml as `dvc exp run -S ...` composes it; its values."""
    text = compose(list(overrides), root)
    (root / "params.yaml").write_text(text)
    git(root, "add", "-A")
    git(root, "commit", "-qm", tag)
    git(root, "tag", tag)
    values: dict[str, object] = yaml.safe_load(text)
    return values


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC repository with conf/ alone."""
    folder = tmp_path_factory.mktemp("empty")
    shutil.copytree(ROOT / "conf", folder / "conf")
    git(folder, "init", "-q")
    subprocess.run(["dvc", "init", "-q"], cwd=folder, check=True)
    return folder


@pytest.fixture
def root(empty: Path, tmp_path: Path) -> Path:
    """A copy of it to work in."""
    return Path(shutil.copytree(empty, tmp_path / "project"))


def group(root: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((root / f"conf/{name}/best.yaml").read_text())
    return found


def test_best_composes_to_the_experiments_settings(root: Path) -> None:
    wanted = keep_as("tried", SMOKE, root)
    before = (root / "params.yaml").read_bytes()
    printed = promote_params("tried", root)
    assert (root / "params.yaml").read_bytes() == before  # nothing is composed by itself
    assert group(root, "train") == {"defaults": ["smoke", "_self_"], "lora": {"r": 6}}
    assert group(root, "rlhf") == {"defaults": ["grpo", "_self_"], "beta": 0.07}
    assert group(root, "rlhf/budget") == {
        "defaults": ["smoke", "_self_"],
        "max_steps": 1,
    }  # it is laid over rlhf
    assert not (root / "conf/data_prep/best.yaml").exists()  # was not changed
    assert set(group(root, "experiment")) == {"defaults"}  # an experiment selects, it sets nothing

    assert "conf/train/best.yaml: smoke with lora.r=6" in printed
    command = printed.splitlines()[-1]
    assert command.endswith("&& mark params experiment=best seed=11")  # no group holds the seed
    write_params(command.split("mark params ")[1].split(), root)
    assert yaml.safe_load((root / "params.yaml").read_text()) == wanted
    check_params(root, [])
    assert recorded_overrides((root / "params.yaml").read_text()) == ["experiment=best", "seed=11"]
    guarded = yaml.safe_load(compose(["experiment=best", "train=lora_sft"], root))["train"]
    assert guarded["dry_run"] is True and guarded["epochs"] == 0


def test_the_next_winner_takes_the_place_of_the_last(root: Path) -> None:
    keep_as("first", SMOKE, root)
    promote_params("first", root)
    wanted = keep_as("second", ("experiment=best", "train.lora.r=3", "rlhf.beta=0.04"), root)
    promote_params("second", root)
    assert group(root, "train") == {
        "defaults": ["smoke", "_self_"],
        "lora": {"r": 3},
    }  # never built on itself
    assert group(root, "rlhf") == {"defaults": ["grpo", "_self_"]}  # what was changed before and no longer is
    assert yaml.safe_load(compose(["experiment=best"], root)) == wanted


def test_small_numbers_stay_numbers(root: Path) -> None:
    overrides = ("experiment=smoke", "train.learning_rate=1e-5")
    wanted = yaml.safe_load(compose(list(overrides), root))
    (root / "params.yaml").write_text(dumps_yaml(wanted))  # as `dvc exp run -S` writes it
    assert "learning_rate: 1e-05" in (root / "params.yaml").read_text()
    git(root, "add", "-A")
    git(root, "commit", "-qm", "tried")
    promote_params("HEAD", root)
    assert group(root, "train") == {"defaults": ["smoke", "_self_"], "learning_rate": 1e-5}
    assert yaml.safe_load(compose(["experiment=best"], root)) == wanted


def test_a_file_of_ones_own_is_not_written_over(root: Path) -> None:
    keep_as("tried", SMOKE, root)
    own = root / "conf/rlhf/best.yaml"
    own.write_text("defaults: [dpo, _self_]\nbeta: 0.2\n")
    with pytest.raises(ConfigError, match=r"conf/rlhf/best\.yaml was not written by `mark promote-params`"):
        promote_params("tried", root)
    assert own.read_text() == "defaults: [dpo, _self_]\nbeta: 0.2\n"
    assert list((root / "conf").rglob("best.yaml")) == [own]


def test_what_is_refused(root: Path) -> None:
    keep_as("tried", SMOKE, root)
    with pytest.raises(DataError, match=r"no-such: cannot read params.yaml .*`dvc exp list`"):
        promote_params("no-such", root)
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("lora_alpha", "lora_beta"))
    git(root, "commit", "-qam", "another version")
    with pytest.raises(ConfigError, match=r"HEAD:params.yaml: train.lora.lora_beta: unknown key"):
        promote_params("HEAD", root)
    assert not list((root / "conf").rglob("best.yaml"))


@pytest.mark.long
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("experiment=proof", "data_prep.rules=[amount,agent]", "data_prep.llm.temperature=0.1"),
        ("model=mamba", "train=full", "train.lora.target_modules=[in_proj]"),
        ("experiment=full", "rlhf=kto", "rlhf/budget=demo", "rlhf.sampling.answers=3", "rlhf.reward.quote=0.1"),
        ("corpus=folder", "corpus.documents=[my lease, 'a: b']", "retrieval=reranker", "serve.port=8001"),
        ("ingest=collection", "retrieval.reranker=null", "paths.logs='my logs'"),
    ],
)  # fmt: skip
def test_any_composition_comes_back(root: Path, overrides: tuple[str, ...]) -> None:
    wanted = keep_as("tried", overrides, root)
    command = promote_params("tried", root).splitlines()[-1]
    assert yaml.safe_load(compose(shlex.split(command.split("mark params ")[1]), root)) == wanted
