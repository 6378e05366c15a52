"""`make proof`: the proof profile in a clone of its own, in the background, resumable."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import sys
from pathlib import Path

from mark.errors import MarkError
from mark.files import write_text
from mark.reproduce.clone import call, clone_at, environment, use_cache
from mark.reproduce.git import git

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
    commit = git(root, "rev-parse", "HEAD")
    clone_at(root, commit, clone)
    use_cache(clone, root / ".dvc/cache")
    call(clone, [sys.executable, "-m", "mark", "params", "experiment=proof"])
    with (clone / "proof.log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=clone,
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    write_text(clone / "proof.pid", f"{process.pid}\n")
    note = "; your uncommitted changes are not part of it" if git(root, "status", "--porcelain") else ""
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
            [sys.executable, "-m", "dvc", "status", "-q"], cwd=clone, env=environment(), check=False
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
    return f"{DOCS} holds the proof of {git(clone, 'rev-parse', '--short=10', 'HEAD')}"


def _page(clone: Path) -> str:
    commit = git(clone, "rev-parse", "HEAD")
    table = call(clone, [sys.executable, "-m", "mark", "report"])  # by the code that wrote the metrics
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
