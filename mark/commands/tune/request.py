"""What is asked of a search, resolved against the project and refused where trials could not be compared."""

from __future__ import annotations

import math
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mark.commands.params import check_params, compose, recorded_overrides
from mark.commands.tune.objective import VAL_LOSS, Objective, check_comparable, choose_objective
from mark.commands.tune.space import Choices, Interval, Space, key_of, parse_space
from mark.config import PARAMS, Params, Train, load_params, validate
from mark.config.tune import Tune
from mark.errors import ConfigError, MarkError
from mark.files import sha256_text

FOLDER = Path(".mark/tune")
_CONF = Path("conf/tune")


@dataclass(frozen=True)
class TuneRequest:
    """What `mark tune` was asked for."""

    space: tuple[str, ...]  # Hydra overrides; one with several values is searched
    config: str | None  # conf/tune/<config>.yaml
    objective: str | None  # None: the config's, else the validation loss
    study: str | None  # None: the config's name, else `tune`
    trials: int  # of the study, those of earlier runs included
    minutes: float | None  # no trial begins after them
    prune_after: int | None  # trials with a curve before one may be stopped; None = never
    confirmed: bool


@dataclass(frozen=True)
class Search:
    """A request that fits the project."""

    request: TuneRequest
    study: str
    space: Space
    objective: Objective
    base: tuple[str, ...]  # overrides of every trial
    params: Params
    root: Path

    @property
    def folder(self) -> Path:
        """Journal and logs."""
        return self.root / FOLDER / self.study

    def identity(self) -> dict[str, Any]:
        """What all trials of a study share."""
        changes = _git(self.root, "diff", "HEAD")
        return {
            "searched": [told(dimension) for dimension in self.space.dimensions],
            "fixed": list(self.base),
            "objective": self.objective.name,
            "commit": _git(self.root, "rev-parse", "HEAD"),
            "uncommitted changes": sha256_text(changes)[:12] if changes else "none",
        }


def resolve(request: TuneRequest, root: Path) -> Search:
    """Check a request against conf/, params.yaml, git and the guard rails.

    Raises:
        ConfigError: The space, the objective or the study's name does not fit.
        GuardError: Training is blocked.
        MarkError: There is no git commit.
    """
    check_params(root, [])
    _refuse_untracked_conf(root)
    given = None if request.config is None else _read_config(request.config, root)
    own = {key_of(text) for text in request.space}
    of_file = [] if given is None else [*given.fixed, *given.space]
    space = parse_space([*(text for text in of_file if key_of(text) not in own), *request.space])
    params = load_params(root / PARAMS)
    name = request.objective or (VAL_LOSS if given is None else given.objective)
    objective = choose_objective(name, params)
    check_comparable(objective, [dimension.key for dimension in space.dimensions])
    study = request.study or request.config or "tune"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", study):
        raise ConfigError(f"--study {study}: letters, digits, - and _ name a study and its experiments")
    recorded = recorded_overrides((root / PARAMS).read_text(encoding="utf-8"))
    _check_corners(space, recorded, root)
    return Search(request, study, space, objective, (*recorded, *space.fixed), params, root)


def plan(search: Search) -> str:
    """What would be done, for people."""
    best = "lowest" if search.objective.minimize else "highest"
    size = "infinitely many" if math.isinf(search.space.size) else f"{search.space.size:g}"
    minutes = search.request.minutes
    lines = [
        f"study {search.study}: {search.objective.name}, the {best} is best; "
        f"a trial is `dvc exp run --temp {search.objective.target}`",
        *(f"  searched: {told(dimension)}" for dimension in search.space.dimensions),
        *(f"  fixed: {override}" for override in search.base),
        f"  {size} settings, up to {search.request.trials} trials"
        + ("" if minutes is None else f", none begun after {minutes:g} minutes"),
        "Nothing was run. The same with --confirm-run runs it, and given again goes on with it.",
    ]
    return "\n".join(lines)


def told(dimension: Choices | Interval) -> str:
    """A dimension for people."""
    if isinstance(dimension, Choices):
        return f"{dimension.key}: {', '.join(dimension.values)}"
    scale = ", by its logarithm" if dimension.log else ""
    return f"{dimension.key}: {dimension.text(dimension.low)} to {dimension.text(dimension.high)}{scale}"


def _read_config(name: str, root: Path) -> Tune:
    path = root / _CONF / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in (root / _CONF).glob("*.yaml")))
        raise ConfigError(f"{_CONF}: no option {name!r}; known: {known}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as fault:
        raise ConfigError(f"{path}: {str(fault).splitlines()[0]}") from None
    return validate(Tune, values, "", path)


def _refuse_untracked_conf(root: Path) -> None:
    """An experiment is a commit: files that git does not know are missing in it."""
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "conf").splitlines()
    if untracked:
        raise ConfigError(
            f"{untracked[0]} is not in git, so no experiment would hold it; run `git add {untracked[0]}`"
        )


def _check_corners(space: Space, recorded: list[str], root: Path) -> None:
    """Compose each choice and each end of an interval once: a wrong one is told before anything runs."""
    from mark.train.guard import check_guards

    for corner in space.corners():
        composed = yaml.safe_load(compose([*recorded, *corner], root))
        check_guards(validate(Train, composed["train"], "train", Path("conf")), confirmed=True)


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MarkError(
            f"`{shlex.join(['git', *arguments])}` failed: {done.stderr.strip()[:200]}; "
            "experiments need a git commit"
        )
    return done.stdout.strip()
