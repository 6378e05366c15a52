"""Each command: (arguments, expected one line). No traceback reaches a user, `--help` needs no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def mark(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real CLI in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "mark", *arguments], cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder without data: dvc.yaml, params.yaml, conf/ in a git and DVC repository."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--dry-run", "--confirm-run"], "--dry-run and --confirm-run contradict each other"),
        (["train", "--data", "nowhere"], "--data needs --config FILE or --out-dir DIR"),
        (
            ["train", "--data", "nowhere", "--config", "conf/train/demo.yaml"],
            "--data nowhere lacks train_sft.jsonl, val_sft.jsonl, passages.jsonl; `mark data-prep",
        ),
        (
            ["train", "--config", "no.yaml"],
            "no.yaml is missing; the guarded recipe is conf/train/lora_sft.yaml",
        ),
        (["train", "--config", "conf"], "conf is a folder; give a YAML file"),
        (["train"], "Training data not found"),
        (["data-prep", "--out-dir", "dvc.yaml"], "--out-dir dvc.yaml is a file; choose a folder"),
        (["params", "foo bar"], "override not understood"),
        (["params", "==="], "write KEY=VALUE"),
        (["eval", "--model", "x"], "give both --model NAME and --dataset FILE"),
        (["eval", "--model", "x", "--dataset", "no.jsonl"], "no.jsonl is missing"),
        (["data-prep", "--top-k", "3"], "--collection, --top-k and --max-samples need --out-dir DIR"),
        (["data-prep", "--estimate"], "data_prep.llm.enabled is false: switch it on with `mark params"),
        (["data-prep", "--estimate", "--confirm"], "--estimate and --confirm contradict each other"),
        (["data-prep", "--out-dir", "data"], "data/train_sft.jsonl belongs to the DVC stage data_prep"),
        (["params", "experiment=nope"], "conf/experiment: no option 'nope'"),
        (["add", "no.pdf"], "no.pdf"),
        (["rlhf"], "train_sft.jsonl is missing; run `dvc repro data_prep`"),
        (["rlhf", "--report"], "rlhf.json is missing; `mark rlhf --confirm-run` makes it"),
        (["feedback", "review", "--accept", "x", "--reject", "x"], "x is both accepted and rejected"),
        (["feedback", "review", "--accept", "x"], "feedback x is not in the inbox"),
        (["remove", "no.pdf"], "no.pdf"),
        (["ingest", "--report"], "data/ingest_report.json is missing"),
        (["rules", "--data", "nowhere"], "nowhere/ledger.json is missing; run `dvc repro`"),
        (["rules", "--data", "nowhere", "--out", "a.csv"], "nowhere/train_sft.jsonl is missing"),
        (["snapshot", "--collection", "nope", "--chroma", "no_folder"], "no_folder"),
        (["report"], "metrics/ holds no evaluation"),
        (["proof", "--keep"], "no finished proof to keep"),
        (["promote-params", "nope"], "nope: cannot read params.yaml"),
        (["models", "show", "x"], "no model named 'x'"),
        (["models", "promote", "x"], "no model named 'x'"),
        (["models", "promote", "--force"], "--force needs --reason TEXT"),
        (["verify"], "git knows no commit 'HEAD' here"),
        (["verify", "nope"], "git knows no commit 'nope' here"),
        (["verify", "--pull", "--stage", "train"], "--pull runs no stage"),
        (["seeds"], "git knows no commit 'HEAD' here"),
        (["lineage"], "name an entry or an answer, or give --document NAME"),
        (["lineage", "x"], "no entry or answer 'x'; there are: none, run `dvc repro`"),
        (["lineage", "last"], "no answer last in feedback/answers.jsonl"),
        (["lineage", "--document", "x"], "no document 'x' in the index or in what entries saw; known: none"),
    ],
)
def test_wrong_use_is_one_line(project: Path, arguments: list[str], expected: str) -> None:
    done = mark(*arguments, cwd=project)
    assert done.returncode != 0
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(project: Path) -> None:
    done = mark("--debug", "params", "experiment=nope", cwd=project)
    assert "Traceback" in done.stderr


def test_setup_mode_blocks_confirmed_training(project: Path) -> None:
    done = mark("run", "--stage", "lora", "--confirm", cwd=project, MARK_SETUP_MODE="1")
    assert done.returncode == 3
    assert "MARK_SETUP_MODE" in done.stderr


def test_help_names_every_command_and_imports_no_torch() -> None:
    program = "import sys, runpy; sys.argv = ['mark', '--help']\n" \
        "try: runpy.run_module('mark', run_name='__main__')\n" \
        "except SystemExit: pass\n" \
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in [
        "add",
        "remove",
        "snapshot",
        "ingest",
        "data-prep",
        "rules",
        "train",
        "eval",
        "ask",
        "chat",
        "params",
        "doctor",
        "experiments",
        "promote-params",
        "tune",
        "run",
        "models",
        "verify",
        "seeds",
        "lineage",
    ]:
        assert f" {name} " in done.stdout


def test_doctor_says_what_to_do(project: Path) -> None:
    done = mark("doctor", cwd=project)
    assert "dvc repro base_model" in done.stdout
    assert "Traceback" not in done.stderr
