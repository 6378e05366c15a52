"""`mark tune` over the real training stage on the smoke profile: stopped early, killed and gone on with."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.stages.running import call, committed_copy, dvc, environment, git, mark, stages_run

pytestmark = pytest.mark.long
pytest.importorskip("optuna", reason="optuna is not installed: make extras")

# Long enough to be looked at while it runs: a validation and a checkpoint after each step.
LONG = ("train.max_steps=60", "train.evals_per_epoch=60")


@pytest.fixture
def swept(smoke: Path, tmp_path: Path) -> Path:
    return committed_copy(smoke, tmp_path / "project")


def rows(output: str) -> dict[str, tuple[str, str]]:
    """Settings -> state and loss, from the printed table."""
    found = re.findall(r"^\d+ +\S+ +(done|stopped early|failed) +(\S+) +(.+?) *$", output, re.M)
    return {settings: (state, loss) for state, loss, settings in found}


def test_trials_that_learn_nothing_are_stopped_and_the_best_is_kept(swept: Path) -> None:
    search = ("tune", "train.learning_rate=2e-2,1e-8,2e-8", *LONG, "--trials", "3", "--study", "rate",
              "--prune-after", "1", "--confirm-run")  # fmt: skip
    output = mark(swept, *search)
    found = rows(output)
    good = found["train.learning_rate=0.02"]
    assert good[0] == "done" and len(found) == 3
    # Whichever ran first came to its end; of the two that learn nothing at least one did not.
    assert "stopped early" in {state for state, _ in found.values()}
    assert "best: rate-" in output
    (best,) = re.findall(r"mark promote-params (rate-\d)", output)
    assert git(swept, "status", "--porcelain") == ""  # all of it happened elsewhere
    assert not list((swept / ".ckpt").glob("*")), "a stopped training left its checkpoints"
    assert not list((swept / ".dvc/tmp/exps/standalone").glob("tmp*")), "DVC left a folder"

    table = mark(swept, "experiments", "--sort", "loss").splitlines()
    first = table[2].split()
    assert first[0] == best and float(first[-2]) == pytest.approx(float(good[1]), abs=1e-4)
    stopped = [line for line in output.splitlines() if "stopped early" in line and line[0].isdigit()]
    assert all(line.split()[1] == "-" for line in stopped)  # no experiment came of it

    mark(swept, "promote-params", best)
    git(swept, "add", "-A")
    mark(swept, "params", "experiment=best")
    assert "Stage 'train' is cached" in dvc(
        swept, "repro", "train"
    )  # what the trial gave, not another training

    mark(swept, "plots", best, "HEAD", "--target", "plots/train/random_lora.json", "--out", "laid_over")
    page = (swept / "laid_over/index.html").read_text(encoding="utf-8")
    assert "<script src=" not in page and page.count("vegaEmbed('#plots_") == 1
    assert set(re.findall(r'"rev": ?"([^"]+)"', page)) == {best, "HEAD"}


def test_a_killed_search_goes_on_with_the_trial_that_it_was_in(swept: Path) -> None:
    search = ["tune", "train.learning_rate=interval(0.001,0.01)", *LONG, "--trials", "1", "--no-prune",
              "--confirm-run"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "mark", *search], cwd=swept, env=environment(swept),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    checkpoints = swept / ".ckpt"
    deadline = time.monotonic() + 300
    while not list(checkpoints.glob("*/checkpoint-*/COMPLETE.json")):
        assert process.poll() is None and time.monotonic() < deadline, "the trial did not train"
        time.sleep(0.1)
    left = json.loads((swept / ".mark/tune/tune/running.json").read_text())["pid"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert psutil.pid_exists(left)  # DVC does not notice that nobody waits for it

    output = mark(swept, *search)
    assert not psutil.pid_exists(left)
    assert "going on from step" in (swept / ".mark/tune/tune/tune-1.log").read_text()
    assert re.search(r"^1 +tune-1 +done ", output, re.M) and len(rows(output)) == 1
    assert (
        mark(swept, *search).strip().splitlines()[-1] == output.strip().splitlines()[-1]
    )  # nothing is left to do
    assert stages_run(dvc(swept, "repro")) == []  # the workspace is as it was
    assert call(swept, "git", "stash", "list") == ""
