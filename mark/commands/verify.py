"""`mark verify`: a commit's pipeline runs again in a clone, and what differs is named."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mark.errors import ConfigError
from mark.reproduce.clone import fetch, pull, run_dvc, temporary_clone, tracked_files
from mark.reproduce.environment import (
    LOCK_FILE,
    RUNS,
    RunRecord,
    environment_differences,
    installed_packages,
    package_differences,
    pinned_packages,
    present_environment,
    record_at,
    record_here,
)
from mark.reproduce.git import commit_of, file_at, git
from mark.reproduce.pipeline import DVC_LOCK, Lock, Stage, lock_at, lock_here, stages_at
from mark.reproduce.seeds import Spread, key_at, read_spread
from mark.reproduce.store import Store, cache_of
from mark.reproduce.verification import (
    Finding,
    Original,
    Verdict,
    compare_outputs,
    in_order,
    made_from,
    named,
    other_inputs,
    overlap,
)

VERDICTS: tuple[Verdict, ...] = ("identical", "within seed noise", "different", "missing")
_SHOWN = 12  # packages of another version


@dataclass(frozen=True)
class VerifyRequest:
    """What `mark verify` was asked for."""

    revision: str = "HEAD"
    stage: str | None = None  # rerun this one alone
    pull: bool = False  # take the outputs from the remote in place of a rerun
    threads: int | None = None
    keep: bool = False


@dataclass(frozen=True)
class Verified:
    """The text to print, and whether everything is as the commit says."""

    text: str
    reproduced: bool


def verify(request: VerifyRequest, root: Path) -> Verified:
    """Run a commit's pipeline again, or fetch its outputs, and compare each with the commit's own.

    Args:
        request: What to run and how.
        root: The project's root; nothing in it is changed but `tmp/`, where the clone lies.

    Raises:
        ConfigError: Flags that contradict each other.
        DataError: The commit is unknown or holds no run, or its inputs are nowhere.
        MarkError: A stage failed.
    """
    if request.pull and (request.stage or request.threads):
        raise ConfigError("--pull runs no stage; leave --stage and --threads out")
    commit = commit_of(root, request.revision)
    pipeline, lock = stages_at(root, commit), lock_at(root, commit)
    chosen = in_order(pipeline if request.stage is None else named(pipeline, request.stage))
    records = {stage.name: _own_record(record_at(root, commit, stage.name), stage, lock) for stage in chosen}
    threads = request.threads or _recorded_threads(records)
    started = time.monotonic()
    with temporary_clone(root, commit, "verify", request.keep) as clone:
        _fill(clone, root, request, pipeline, threads)
        seconds = time.monotonic() - started
        store = Store(root, cache_of(root), clone / "tmp/originals")
        original = Original(commit, lock, store, _spread(root, commit), rerun=not request.pull)
        findings = compare_outputs(original, chosen, clone)
        lines = [_headline(root, commit, request, seconds), *_told(findings)]
        if not request.pull:
            other = other_inputs(lock, lock_here(clone), chosen)
            lines += [
                f"The commit's {DVC_LOCK} is older than its {path}: {', '.join(stages)} ran with another one"
                for path, stages in other.items()
            ]
            here = {stage.name: record_here(clone, stage.name) for stage in chosen}
            lines += _environment_lines(root, commit, records, here)
        if request.keep:
            lines.append(f"The clone is kept: {clone.relative_to(root)}")
    lines.append(_counts(findings))
    bad = [finding for finding in findings if finding.verdict in ("different", "missing")]
    return Verified("\n".join(lines), not bad)


def _fill(
    clone: Path, root: Path, request: VerifyRequest, pipeline: Sequence[Stage], threads: int | None
) -> None:
    """Let the clone hold the outputs that are to be compared."""
    if request.pull:
        pull(clone, root)
        return
    tracked = tracked_files(clone)
    shutil.rmtree(clone / RUNS, ignore_errors=True)  # else the commit's records pass for the rerun's
    if request.stage is None:
        fetch(clone, tracked, root)
        run_dvc(clone, ["repro", "--force", "--no-run-cache"], threads)
        return
    made = [out for out in made_from(pipeline, request.stage) if not _in_git(clone, out)]
    deps = {dep for stage in named(pipeline, request.stage) for dep in stage.deps}
    read = [file for file in tracked if any(overlap(dep, file.removesuffix(".dvc")) for dep in deps)]
    fetch(clone, [*made, *read], root)
    run_dvc(clone, ["repro", "--force", "--no-run-cache", "--single-item", request.stage], threads)


def _in_git(clone: Path, path: str) -> bool:
    return bool(git(clone, "ls-files", "--", path))


def _own_record(record: RunRecord | None, stage: Stage, lock: Lock) -> RunRecord | None:
    """A record, if it is of the run whose outputs dvc.lock names: DVC may have restored others."""
    if record is None or stage.name not in lock:
        return None
    outs = lock[stage.name].outs
    return record if all(record.outs.get(path) == outs.get(path) for path in stage.outs) else None


def _recorded_threads(records: Mapping[str, RunRecord | None]) -> int | None:
    """The threads that every recorded stage computed with, None where they differ or are not known."""
    known = {record.environment.threads for record in records.values() if record is not None}
    return known.pop() if len(known) == 1 else None


def _spread(root: Path, commit: str) -> Spread | None:
    """The spread over seeds, if it is of the commit's code and settings."""
    spread = read_spread(root)
    return spread if spread is not None and spread.pipeline == key_at(root, commit) else None


def _headline(root: Path, commit: str, request: VerifyRequest, seconds: float) -> str:
    subject = git(root, "log", "-1", "--format=%s", commit)
    changed = request.revision == "HEAD" and git(root, "status", "--porcelain", "--untracked-files=no")
    note = "; your uncommitted changes are not part of it" if changed else ""
    what = f"stage {request.stage} run again" if request.stage else "the pipeline run again"
    done = "its outputs pulled" if request.pull else what
    return f"{commit[:10]} ({subject[:60]}): {done} in {seconds:.0f} s{note}"


def _told(findings: Sequence[Finding]) -> list[str]:
    lines = []
    for finding in findings:
        lines.append(f"  {finding.verdict:17}  {finding.path}")
        lines += [f"      {finding.detail}"] if finding.detail else []
    first = next((finding for finding in findings if finding.verdict == "different"), None)
    if first is not None:
        lines.append(
            f"The first difference in the pipeline's order is {first.path} of stage {first.stage}; "
            "what later stages make of it may differ for that reason alone."
        )
    return lines


def _counts(findings: Sequence[Finding]) -> str:
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in VERDICTS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"{len(findings)} outputs: {told or 'none'}"


def _environment_lines(
    root: Path, commit: str, there: Mapping[str, RunRecord | None], here: Mapping[str, RunRecord | None]
) -> list[str]:
    """How the environments differ, each difference once, with the stages that have it."""
    now = present_environment(root)  # code of before the records writes none
    stages_of: dict[str, list[str]] = {}
    for stage, record in there.items():
        if record is not None:
            run = here.get(stage)
            for line in environment_differences(record.environment, now if run is None else run.environment):
                stages_of.setdefault(line, []).append(stage)
    known = [stage for stage, record in there.items() if record is not None]
    lines = [f"  {line}{_where(found, known)}" for line, found in stages_of.items()]
    unknown = [stage for stage, record in there.items() if record is None]
    if not unknown:
        return (
            ["Environment: differs from the original's in", *lines] if lines else ["Environment: as recorded"]
        )
    head = f"Environment: the original's is not recorded for {_list(unknown, len(there))}"
    return [head, *lines, *_pins(root, commit)]


def _pins(root: Path, commit: str) -> list[str]:
    """What is known without a record: the versions that the commit pins."""
    pinned = file_at(root, commit, LOCK_FILE.as_posix())
    if pinned is None:
        return [f"  nor does the commit hold a {LOCK_FILE}"]
    versions = pinned_packages(pinned.decode("utf-8"))
    changed = package_differences(versions, installed_packages(versions))
    more = [f"  and {len(changed) - _SHOWN} packages more"] if len(changed) > _SHOWN else []
    if not changed:
        return [f"  the packages are those of its {LOCK_FILE}"]
    return [
        f"  against its {LOCK_FILE} (there = pinned):",
        *(f"  {line}" for line in changed[:_SHOWN]),
        *more,
    ]


def _where(stages: Sequence[str], known: Sequence[str]) -> str:
    return "" if len(stages) == len(known) else f" (stages {', '.join(stages)})"


def _list(stages: Sequence[str], of: int) -> str:
    return "any stage" if len(stages) == of else f"stages {', '.join(stages)}"
