"""Copies of a finished smoke project in which one stage has never run: to break it, run it again and compare."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mark.files import sha256_file
from mark.ingest.index import collection_keys, stored_ids
from mark.reproduce.dvc_yaml import read_mapping
from tests.faults.hook import HOOK

STAGES = (
    "corpus", "base_model", "ingest", "data_prep", "train", "eval@random_lora", "rlhf", "eval@rl_trained_lora",
    "rlhf_report", "compare",
)  # fmt: skip
_TEMPORARY = re.compile(r"(?:^|/)\.[^/]+\.[a-z0-9_]{8}(?:/|$)")
_LOCK = "dvc.lock"  # compared as YAML: the order of its stages is that of their last runs
# What is derived, personal or of the machine, and DVC's own folders: compared otherwise, or not at all.
_ASIDE = {_LOCK, ".git", ".dvc/tmp", ".dvc/cache", "chroma_db", "logs", "tmp", "__pycache__"}
_DERIVED = (".dvc/cache/runs", ".cache", "data/token_vectors", ".chroma_db.lock", "data/.token_vectors.lock")


@dataclass(frozen=True)
class SmokeCopy:
    """One copy at a time."""

    template: Path  # as `smoke_project` leaves it; never changed
    project: Path  # the copy
    state: Path  # a folder for DVC's own state and for the hook

    @classmethod
    def below(cls, template: Path, folder: Path) -> SmokeCopy:
        """Both below one folder."""
        return cls(template, folder / "project", folder / "state")

    def fresh(self, stage: str) -> None:
        """Copy the template anew, as if DVC had never run this stage in it."""
        for left in (self.project, self.state):
            shutil.rmtree(left, ignore_errors=True)
        self.state.mkdir(parents=True)
        shutil.copytree(self.template, self.project, symlinks=True)
        for name in _DERIVED:
            place = self.project / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        if stage == "ingest":  # else there would be nothing to build
            shutil.rmtree(self.project / "chroma_db")
        lock = _lock(self.project)
        for out in lock["stages"].pop(stage)["outs"]:
            place = self.project / out["path"]
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        (self.project / _LOCK).write_text(yaml.safe_dump(lock, sort_keys=False))

    def environment(self) -> dict[str, str]:
        """Of DVC in the copy: the copy's code, no network, the hook."""
        site = self.state / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(HOOK)
        path = os.pathsep.join([str(self.project), str(site)])
        programs = str(Path(sys.executable).parent)
        return {
            **os.environ, "PATH": programs + os.pathsep + os.environ["PATH"], "PYTHONPATH": path,
            "DVC_SITE_CACHE_DIR": str(self.state / "dvc"),
        }  # fmt: skip

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run DVC in the copy; both of its outputs are `stdout`."""
        return self._run(sys.executable, "-m", "dvc", *arguments)

    def command(self, stage: str) -> subprocess.CompletedProcess[str]:
        """Run a stage's command as dvc.yaml has it, without DVC; both of its outputs are `stdout`."""
        return self._run(*_lock(self.template)["stages"][stage]["cmd"].split())

    def run_again(self, stage: str) -> Iterator[str]:
        """`dvc repro` right after the fault: it must run this stage alone and end as if nothing had been.

        Yields:
            What is not so.
        """
        done = self.dvc("repro")
        if done.returncode != 0:
            yield f"`dvc repro` ended with {done.returncode}: {done.stdout[-1500:]}"
            return
        ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
        if ran not in ([stage], []):  # none: DVC had kept its results before the fault
            yield f"ran {ran}"
        if "Traceback" in done.stdout:
            yield done.stdout[-1500:]
        yield from self.differences()

    def differences(self) -> Iterator[str]:
        """What is not as in the template; what a killed stage was writing may lie there for an hour."""
        before, after = tree(self.template), tree(self.project)
        yield from (f"{name} is missing" for name in sorted(before.keys() - after.keys()))
        yield from (f"{name} is left over" for name in self._not_passed_over(after.keys() - before.keys()))
        yield from (f"{n} differs" for n in sorted(before.keys() & after.keys()) if before[n] != after[n])
        if _collection(self.template) != _collection(self.project):
            yield "the Chroma collection differs"
        if _lock(self.template) != _lock(self.project):
            yield f"{_LOCK} differs"

    def left(self) -> list[str]:
        """Files that the template does not have."""
        return sorted(tree(self.project).keys() - tree(self.template).keys())

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(command), cwd=self.project, env=self.environment(), text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip

    def _not_passed_over(self, names: set[str]) -> list[str]:
        """Those of some files that are no half-written ones which Git ignores (.dvcignore has the same lines)."""
        half_written = [name for name in names if _TEMPORARY.search(name)]
        asked = subprocess.run(
            ["git", "check-ignore", "--stdin"], cwd=self.project, input="\n".join(half_written), text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        return sorted(names - set(asked.stdout.splitlines()))


def tree(project: Path) -> dict[str, str]:
    """Each file of a project and the hash of its bytes; what never belongs to a result is left out."""
    found = {}
    for folder, names, files in os.walk(project):
        here = Path(folder).relative_to(project)
        names[:] = [name for name in names if not _aside(here / name)]
        for name in files:
            path = here / name
            if not _aside(path):
                found[path.as_posix()] = sha256_file(project / path)
    return found


def _aside(path: Path) -> bool:
    name = path.as_posix()
    return name in _ASIDE or path.name in _ASIDE or name in _DERIVED or name.startswith("reports/timing_")


def _lock(project: Path) -> dict[str, Any]:
    """As DVC reads it: by YAML 1.1 an `off` would come back as false, and make a stage stale."""
    return read_mapping((project / _LOCK).read_text(), _LOCK)


def _collection(project: Path) -> tuple[dict[str, str | None], list[str]]:
    """What the project's Chroma folder holds: keys of collections, ids of ours."""
    folder = project / "chroma_db"
    return collection_keys(folder), stored_ids(folder, "pdf_docs")
