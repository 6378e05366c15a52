"""One trial: `dvc exp run --temp`, its training watched by the checkpoints that it writes, and stopped."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from mark.commands.dvc import dvc_command, dvc_environment
from mark.errors import MarkError
from mark.files import read_json, write_json

Losses = list[float]
_POLL_S = 0.5
_GRACE_S = 20.0


@dataclass(frozen=True)
class Trial:
    """What runs."""

    experiment: str  # its name
    overrides: tuple[str, ...]
    target: str  # a DVC stage
    log: Path  # gets what DVC prints
    checkpoints: Path  # where trainings keep theirs


class TrialFailed(MarkError):
    """The experiment ended non-zero; the message says where its log is."""


class TrialStopped(Exception):
    """`stop` asked for it."""


def run_trial(trial: Trial, stop: Callable[[Losses], bool], running: Path, root: Path) -> None:
    """Run an experiment to its end, in a folder of DVC's own; the workspace stays as it is.

    Args:
        trial: What to run.
        stop: Told the validation losses of the training so far whenever there is a new one; true = stop it.
        running: A file that names the process while it runs, see `end_left_over`.
        root: The project's root.

    Raises:
        TrialFailed: DVC or a stage failed.
        TrialStopped: `stop` said so.
    """
    trial.log.parent.mkdir(parents=True, exist_ok=True)
    sets = [part for override in trial.overrides for part in ("-S", override)]
    command = dvc_command(["exp", "run", "--temp", "-n", trial.experiment, *sets, trial.target])
    with trial.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=root, env=dvc_environment(), stdout=log, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        write_json(running, {"pid": process.pid, "created": psutil.Process(process.pid).create_time()})
        try:
            stopped = _watch(process, trial, stop)
        except BaseException:
            end_left_over(running)
            process.wait()
            raise
    running.unlink(missing_ok=True)
    if stopped:
        raise TrialStopped
    if process.returncode != 0:
        raise TrialFailed(f"{trial.experiment} failed: {_reason(trial.log)}; see {trial.log}")


def end_left_over(running: Path) -> None:
    """End the processes of a trial that a killed search has left behind.

    Args:
        running: The file that names them; removed.
    """
    if not running.is_file():
        return
    left = read_json(running)
    with suppress(psutil.NoSuchProcess):  # it has ended by itself
        process = psutil.Process(left["pid"])
        if process.create_time() == left["created"]:  # else another one has its number
            tree = [*process.children(recursive=True), process]
            for one in tree:
                _signal(one.terminate)
            for one in psutil.wait_procs(tree, timeout=_GRACE_S)[1]:
                _signal(one.kill)
    running.unlink(missing_ok=True)


def _watch(process: subprocess.Popen[bytes], trial: Trial, stop: Callable[[Losses], bool]) -> bool:
    """Wait for the end; whether the training was stopped."""
    seen = 0
    folder: Path | None = None
    while process.poll() is None:
        time.sleep(_POLL_S)
        training = _training(process.pid, trial.checkpoints)
        if training is None:
            continue
        worker, folder = training
        losses = validation_losses(folder)
        if len(losses) > seen:
            seen = len(losses)
            if stop(losses):
                _signal(worker.terminate)  # DVC cleans up after a stage that fails
                if process.wait() == 0:  # it was done before the signal came: the trial has its result
                    return False
                _remove(folder)
                return True
    return False


def _training(pid: int, checkpoints: Path) -> tuple[psutil.Process, Path] | None:
    """The stage train below a process, and its folder of checkpoints, whose lock it holds."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return None
    for child in children:
        for path in _held(child):
            if path.suffix == ".lock" and path.parent == checkpoints:
                return child, path.with_suffix("")
    return None


def _held(process: psutil.Process) -> list[Path]:
    """The files that a process holds open, if it is the stage train."""
    try:
        if "stages.train" not in process.cmdline():
            return []
        return [Path(file.path) for file in process.open_files()]
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended while it was looked at
        return []


def validation_losses(folder: Path) -> Losses:
    """The validation losses so far, from the newest complete checkpoint; empty before the first.

    Args:
        folder: Of a training's checkpoints; it may vanish at any time.
    """
    from mark.train.checkpoints import COMPLETE, step_of

    try:
        for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
            if (checkpoint / COMPLETE).is_file():
                state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
                return [float(row["eval_loss"]) for row in state["log_history"] if "eval_loss" in row]
    except (OSError, ValueError):  # the training ended and took its checkpoints away, or is replacing one
        return []
    return []


def _signal(send: Callable[[], None]) -> None:
    """Send a signal to a process that may have ended by itself."""
    with suppress(psutil.NoSuchProcess):
        send()


def _remove(folder: Path) -> None:
    """A stopped training's checkpoints: nothing goes on from them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)


def _reason(log: Path) -> str:
    """What the stage said before DVC's first error line, or that line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    first = next((i for i, line in enumerate(lines) if line.startswith("ERROR: ")), None)
    if first is None:
        return lines[-1] if lines else "it printed nothing"
    before = lines[first - 1] if first else ">"
    told = lines[first] if before.startswith(("> ", "Running ", "Stage ", "'")) else before
    return told.removeprefix("ERROR: ")[:200]
