"""`mark tune`, `mark experiments` and `mark promote-params` on a project whose training is a formula.

The real training under a search stands in tests/stages/test_sweep.py.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mark.commands.experiments import experiments_table
from mark.commands.params import compose, write_params
from mark.commands.promote_params import promote_params
from mark.commands.tune.request import TuneRequest, resolve
from mark.commands.tune.search import run_tune
from mark.errors import ConfigError, MarkError
from tests.conftest import ROOT

optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[tune]'")
from mark.commands.tune.study import (  # noqa: E402  # needs optuna
    finished,
    open_study,
    repeat_interrupted,
)

# The validation loss is |r - 16| / 100 + learning_rate, and a rank of 13 is bad luck.
STAGE = """
import json, pathlib, yaml
p = yaml.safe_load(open("params.yaml"))["train"]
if p["lora"]["r"] == 13:
    raise SystemExit("train: 13 is bad luck")
loss = abs(p["lora"]["r"] - 16) / 100 + p["learning_rate"]
for name, value in (("models/transformer_lora/entry.json", {"val_loss": loss}),
                    ("plots/train/transformer_lora.json", [{"step": 1, "split": "val", "loss": loss}])):
    pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(name).write_text(json.dumps(value))
"""
PIPELINE = {
    "stages": {
        "train": {
            "cmd": "python -m stages.train",
            "deps": ["stages/train.py"],
            "params": ["train"],
            "outs": ["models/transformer_lora"],
            "plots": ["plots/train/transformer_lora.json"],
        }
    }
}
REQUEST = TuneRequest(("train.lora.r=8,16",), None, None, None, 1, None, 3, True)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments], cwd=folder, check=True
    )


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """conf/, params.yaml with another learning rate, and the one stage; committed, trained once."""
    folder = tmp_path_factory.mktemp("formula") / "project"
    (folder / "stages").mkdir(parents=True)
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "stages/__init__.py").touch()  # a package, which comes before an installed one
    (folder / "stages/train.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    (folder / ".gitignore").write_text("/models\n/plots\n/.mark\n__pycache__\n")
    write_params(["train.learning_rate=0.25"], folder)
    git(folder, "init", "-q")
    git(folder, "config", "user.name", "t")
    git(folder, "config", "user.email", "t@example.org")
    for command in (["init", "-q"], ["config", "hydra.enabled", "true"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, check=True)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "begin")
    return folder


@pytest.fixture
def root(untouched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(untouched, tmp_path / "project", symlinks=True))


def test_a_search_goes_on_and_its_winner_is_kept(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "Nothing was run" in run_tune(replace(REQUEST, confirmed=False), root)
    assert not (root / ".mark").exists()
    first = run_tune(REQUEST, root)
    assert first.count("done") == 1
    with caplog.at_level(logging.INFO, "mark"):
        table = run_tune(replace(REQUEST, trials=5), root)  # there are two settings: no third trial
        assert table.count("done") == 2
        again = len(caplog.records)
        assert run_tune(replace(REQUEST, trials=5), root) == table and len(caplog.records) == again
    rows = {row.split()[4]: (row.split()[1], float(row.split()[3])) for row in table.splitlines()[1:3]}
    assert {key: value for key, (_, value) in rows.items()} == {
        "train.lora.r=8": 0.33,
        "train.lora.r=16": 0.25,
    }
    winner = rows["train.lora.r=16"][0]
    assert (
        table.splitlines()[-1]
        == f"best: {winner}, val_loss 0.25; keep it with `mark promote-params {winner}`"
    )
    assert (
        (root / "params.yaml").read_text().startswith("# mark params train.learning_rate=0.25")
    )  # untouched

    shown = experiments_table("tuned_retrieval", "loss", False, root).splitlines()
    assert [line.split()[0] for line in shown[2:4]] == [winner, rows["train.lora.r=8"][0]]
    assert shown[2].split()[1:] == ["success", "train.lora.r=16", "0.2500", "-"]  # never evaluated: no F1
    assert shown[1].split()[2:4] == ["-", "0.3300"]  # the commit itself: rank 8

    promote_params(winner, root)
    best = yaml.safe_load(compose(["experiment=best"], root))["train"]
    assert best["lora"]["r"] == 16 and best["learning_rate"] == 0.25

    git(root, "commit", "-qm", "another", "--allow-empty")
    with pytest.raises(ConfigError, match=r"conf/experiment/best.yaml is not in git.*`git add"):
        run_tune(REQUEST, root)
    git(root, "add", "-A")
    git(root, "commit", "-qm", "best")
    with pytest.raises(ConfigError, match=r"study tune was begun with other commit .*another --study NAME"):
        run_tune(REQUEST, root)


def test_a_trial_that_was_left_behind_is_repeated(root: Path) -> None:
    search = resolve(
        replace(REQUEST, trials=9, space=("train.learning_rate=tag(log,interval(0.1,0.9))",)), root
    )
    search.folder.mkdir(parents=True)
    key = "train.learning_rate"
    study = open_study(search)
    study.ask().suggest_float(key, 0.1, 0.9, log=True)  # and the process is killed
    again = open_study(search)
    repeat_interrupted(again)
    assert [trial.state.name for trial in again.trials] == ["FAIL", "WAITING"]
    repeated = again.ask()
    assert repeated.suggest_float(key, 0.1, 0.9, log=True) == study.trials[0].params[key]
    again.tell(repeated, 0.5)
    repeat_interrupted(again)
    assert len(finished(again)) == 1 and len(again.trials) == 2  # once is enough


@pytest.mark.long
def test_trials_that_fail_say_why_and_end_the_search(root: Path) -> None:
    failing = replace(REQUEST, space=("train.lora.r=13", "train.learning_rate=interval(0.1,0.9)"), trials=9)
    with pytest.raises(
        MarkError, match=r"3 trials in a row failed.*tune-2 failed: train: 13 is bad luck; see"
    ):
        run_tune(failing, root)
    assert "bad luck" in (root / ".mark/tune/tune/tune-0.log").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": ("train.lora.r=0,8",)}, r"train.lora.r: 0 found; allowed: greater than or equal to 1"),
        ({"space": ("train.lora.rank=8,9",)}, r"train.lora.rank: unknown key"),
        ({"space": ("train.lora.r=8,9", "train=lora_sft")}, r"guarded by train.dry_run: true"),
        ({"config": "nope"}, r"conf/tune: no option 'nope'; known: answers, lora"),
        ({"study": "a/b"}, r"--study a/b: letters, digits"),
        ({"objective": "all.tuned.token_f1"}, r"measured on the test questions"),
    ],
)
def test_what_is_refused_before_anything_runs(root: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(MarkError, match=message):
        run_tune(replace(REQUEST, **changes), root)  # type: ignore[arg-type]
    assert not (root / ".mark").exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf/tune").glob("*.yaml")))
def test_the_spaces_of_conf_compose(untouched: Path, name: str) -> None:
    planned = run_tune(replace(REQUEST, space=(), config=name, confirmed=False), untouched)
    assert planned.startswith(f"study {name}: ") and "Nothing was run" in planned


def test_the_command_line_takes_the_place_of_the_file(untouched: Path) -> None:
    space = ("train.lora.r=4", "train.learning_rate=1e-4,1e-3")
    planned = run_tune(replace(REQUEST, space=space, config="lora", confirmed=False), untouched)
    assert "fixed: train.lora.r=4" in planned and "searched: train.learning_rate: 0.0001, 0.001" in planned
    assert "searched: train.lora.r" not in planned


def test_hand_edits_of_params_are_not_lost_to_an_experiment(root: Path) -> None:
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("weight_decay: 0.0", "weight_decay: 0.1"))
    with pytest.raises(ConfigError, match=r"params\.yaml differs from conf/"):
        run_tune(REQUEST, root)
