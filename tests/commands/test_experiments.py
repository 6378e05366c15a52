"""`mark experiments` names what it does not know."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mark.commands.experiments import experiments_table
from mark.errors import ConfigError
from tests.conftest import ROOT
from tests.reproduce.conftest import call, commit

METRICS = "metrics/eval_transformer_lora.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A committed project with one evaluation, made by hand and by no run."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    stage = {"cmd": "false", "metrics": [{METRICS: {"cache": False}}]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"eval": stage}}))
    (tmp_path / METRICS).parent.mkdir()
    figures = {"f1_if_answered": 0.5, "f1_if_answered_low": 0.4, "f1_if_answered_high": 0.6}
    content = {"eval_transformer_lora": {"development": {"tuned_retrieval": figures, "base": figures}}}
    (tmp_path / METRICS).write_text(json.dumps(content))
    call(tmp_path, "git", "init", "-q")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=tmp_path, check=True)
    commit(tmp_path, "begin")
    return tmp_path


def test_a_cell_that_no_evaluation_has_is_no_missing_run(root: Path) -> None:
    with pytest.raises(
        ConfigError, match="--cell tuned: no evaluation here has it; there are base, tuned_ret"
    ):
        experiments_table("tuned", None, False, root)
    row = experiments_table("tuned_retrieval", None, False, root).splitlines()[1]
    assert row.split()[1:] == ["commit", "-", "-", "-"]  # no dvc.lock says that it is of these settings
