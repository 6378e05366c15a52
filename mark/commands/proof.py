"""`make proof`: the proof profile in a clone of its own, in the background, resumable."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from mark.errors import MarkError
from mark.files import write_text

PROOF = Path("tmp/proof")
DOCS = Path("docs/proof")


def start(root: Path) -> str:
    """Clone the committed state (or reuse the clone) and run the pipeline in the background.

    Raises:
        MarkError: A run is on already.
    """
    running = _running(root)
    if running is not None:
        raise MarkError(f"the proof is running already (process {running}); `mark proof` shows how far it is")
    clone = root / PROOF
    commit = _git(root, "rev-parse", "HEAD")
    if not clone.is_dir():
        _git(root, "clone", "--quiet", "--no-hardlinks", str(root), str(clone))
    _git(clone, "fetch", "--quiet", "origin")
    _git(clone, "checkout", "--quiet", "--force", "--detach", commit)
    _git(clone, "config", "remote.origin.url", str(root))
    cache = root / ".dvc/cache"
    cache.mkdir(parents=True, exist_ok=True)
    _call(clone, [sys.executable, "-m", "dvc", "cache", "dir", "--local", str(cache)])
    _call(clone, [sys.executable, "-m", "mark", "params", "experiment=proof"])
    with (clone / "proof.log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=clone,
            env=_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    write_text(clone / "proof.pid", f"{process.pid}\n")
    note = "; your uncommitted changes are not part of it" if _git(root, "status", "--porcelain") else ""
    return (
        f"proof of {commit[:10]} runs in {PROOF} (process {process.pid}){note}; "
        "`mark proof` shows how far it is"
    )


def status(root: Path) -> str:
    """What is done, what runs, and the last line of the log."""
    clone = root / PROOF
    if not clone.is_dir():
        return "no proof was started here; `make proof` starts one"
    running = _running(root)
    done = sorted(path.name for path in (clone / "reports").glob("timing_*.json"))
    log = (
        (clone / "proof.log").read_text(encoding="utf-8", errors="replace")
        if (clone / "proof.log").is_file()
        else ""
    )
    last = next((line for line in reversed(log.replace("\r", "\n").splitlines()) if line.strip()), "")
    state = f"running (process {running})" if running is not None else "not running"
    return f"{state}; timed so far: {', '.join(done) or 'nothing'}\n{last}"


def keep(root: Path) -> str:
    """Copy the finished proof's table and metrics to docs/proof/, with date and commit.

    Raises:
        MarkError: There is no finished proof.
    """
    clone = root / PROOF
    metrics = sorted((clone / "metrics").glob("eval_*.json"))
    up_to_date = (
        subprocess.run(
            [sys.executable, "-m", "dvc", "status", "-q"], cwd=clone, env=_environment(), check=False
        )
        if clone.is_dir()
        else None
    )
    if not metrics or up_to_date is None or up_to_date.returncode != 0:
        raise MarkError(
            "no finished proof to keep; `make proof` starts or resumes it, `mark proof` shows how far it is"
        )
    (root / DOCS).mkdir(parents=True, exist_ok=True)
    rlhf = clone / "metrics/rlhf.json"
    for path in [*metrics, *([rlhf] if rlhf.is_file() else []), clone / "params.yaml", clone / "dvc.lock"]:
        shutil.copyfile(path, root / DOCS / path.name)
    write_text(root / DOCS / "README.md", _page(clone))
    return f"{DOCS} holds the proof of {_git(clone, 'rev-parse', '--short=10', 'HEAD')}"


def _page(clone: Path) -> str:
    commit = _git(clone, "rev-parse", "HEAD")
    table = _call(clone, [sys.executable, "-m", "mark", "report"])  # by the code that wrote the metrics
    timings = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((clone / "reports").glob("timing_*.json"))
    ]
    rows = [f"| {t['stage']} | {t['seconds']:.0f} | {t['peak_memory_mb']} |" for t in timings]
    return "\n".join(
        [
            "# Proof",
            "",
            f"Printed by `mark proof --keep` on {datetime.date.today().isoformat()} from `make proof` "
            f"at commit {commit}. Its metrics, params.yaml and dvc.lock stand beside this page.",
            "",
            "```",
            table.rstrip(),
            "```",
            "",
            "| stage | wall time (s) | peak memory (MB) |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _running(root: Path) -> int | None:
    """The process id of a live proof, None where none runs."""
    import psutil

    path = root / PROOF / "proof.pid"
    if not path.is_file():
        return None
    try:
        number = int(path.read_text(encoding="utf-8"))
        process = psutil.Process(number)
        alive = process.status() != psutil.STATUS_ZOMBIE and "repro" in process.cmdline()
    except (ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return number if alive else None


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return environment


def _call(folder: Path, command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise MarkError(
            f"`{' '.join(command[-3:])}` failed in {folder}: {(done.stderr or done.stdout).strip()[-300:]}"
        )
    return done.stdout.strip()


def _git(folder: Path, *arguments: str) -> str:
    return _call(folder, ["git", *arguments])
