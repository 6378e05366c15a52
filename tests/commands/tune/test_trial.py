"""Processes of trials: ended with all that is below them, and never taken for stopped when they were done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mark.commands.tune import trial as module
from mark.commands.tune.trial import Trial, TrialStopped, end_left_over, run_trial, validation_losses
from mark.files import write_json

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(60)"


@pytest.fixture
def deaf() -> Iterator[subprocess.Popen[str]]:
    """A process that does not end when it is asked to."""
    process = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "x\n"
    yield process
    process.kill()
    process.wait()


def test_what_a_killed_search_left_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaf: subprocess.Popen[str]
) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.1)
    ended = psutil.Popen([sys.executable, "-c", ""])
    ended.wait()
    waited = psutil.wait_procs

    def late(
        processes: list[psutil.Process], timeout: float
    ) -> tuple[list[psutil.Process], list[psutil.Process]]:
        gone, alive = waited(processes, timeout=timeout)
        return gone, [ended, *alive]  # one of those that were still alive has ended since

    monkeypatch.setattr(psutil, "wait_procs", late)
    running = tmp_path / "running.json"
    created = psutil.Process(deaf.pid).create_time()
    write_json(running, {"pid": deaf.pid, "created": created - 5})
    end_left_over(running)  # another process has the number of the one that was left
    assert deaf.poll() is None and not running.exists()
    write_json(running, {"pid": deaf.pid, "created": created})
    end_left_over(running)
    assert deaf.wait(timeout=10) != 0 and not running.exists()


@pytest.mark.parametrize(("code", "stopped"), [(0, False), (1, True)])
def test_a_trial_that_was_done_when_it_was_to_be_stopped_has_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaf: subprocess.Popen[str], code: int, stopped: bool
) -> None:
    folder = tmp_path / "checkpoints/run"
    folder.mkdir(parents=True)
    worker = psutil.Process(deaf.pid)  # hears nothing: the experiment ends by itself
    monkeypatch.setattr(module, "_training", lambda pid, checkpoints: (worker, folder))
    monkeypatch.setattr(module, "validation_losses", lambda folder: [0.5])
    program = f"import sys, time; time.sleep(1.5); sys.exit({code})"
    monkeypatch.setattr(module, "dvc_command", lambda arguments: [sys.executable, "-c", program])
    trial = Trial("t-0", (), "train", tmp_path / "t-0.log", tmp_path / "checkpoints")
    if stopped:
        with pytest.raises(TrialStopped):
            run_trial(trial, lambda losses: True, tmp_path / "running.json", tmp_path)
    else:
        run_trial(trial, lambda losses: True, tmp_path / "running.json", tmp_path)
    assert folder.is_dir() is not stopped
    assert not (tmp_path / "running.json").exists()


def test_losses_are_those_of_the_newest_complete_checkpoint(tmp_path: Path) -> None:
    assert validation_losses(tmp_path / "nowhere") == []
    for step, losses in ((5, [0.9]), (10, [0.9, 0.7]), (15, [0.9, 0.7, 0.6])):
        folder = tmp_path / f"checkpoint-{step}"
        history = [{"loss": 1.0}, *({"eval_loss": loss} for loss in losses)]
        write_json(folder / "trainer_state.json", {"log_history": history})
        if step < 15:
            write_json(folder / "COMPLETE.json", {})
    assert validation_losses(tmp_path) == [0.9, 0.7]
    (tmp_path / "checkpoint-10/trainer_state.json").write_text("{")
    assert validation_losses(tmp_path) == []
