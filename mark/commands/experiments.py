"""`mark experiments`: DVC experiments in few columns: what was changed, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mark.commands.conf_groups import differing
from mark.commands.dvc import dvc_output
from mark.commands.lock_file import is_current, out_md5, read_lock
from mark.commands.tables import aligned
from mark.errors import ConfigError, DataError
from mark.files import PLOTS

_HEAD = ("experiment", "state", "changed", "validation loss", "token F1 (development)")
_SHOWN_CHANGES = 4


@dataclass(frozen=True)
class Experiment:
    """One line of the table."""

    name: str
    state: str  # commit, or DVC's: success, failed, queued, running
    changes: dict[str, Any]  # dotted params key -> value, against the commit that it started from
    val_loss: float | None  # of the best checkpoint; None = not trained with these settings
    f1: tuple[float, float, float] | None  # value, low, high; None = not evaluated with these settings


def experiments_table(cell: str, order: str | None, all_commits: bool, root: Path) -> str:
    """A table of the experiments of the present commit.

    Args:
        cell: Of the evaluation grid, e.g. `tuned_retrieval`.
        order: The best first, by `loss` or by `f1`; None = the newest first.
        all_commits: Experiments of all commits.
        root: The project's root.

    Raises:
        ConfigError: No evaluation has the cell.
        MarkError: DVC cannot list them.
    """
    from dvc.repo import Repo

    shown = json.loads(
        dvc_output(["exp", "show", "--json", *(["--all-commits"] if all_commits else [])], root)
    )
    if (known := _cells(shown)) and cell not in known:
        raise ConfigError(f"--cell {cell}: no evaluation here has it; there are {', '.join(sorted(known))}")
    rows: list[tuple[str, ...]] = [_HEAD]
    failed: list[str] = []
    with Repo(str(root)) as repo:
        for base in shown:
            if base["rev"] == "workspace" or (len(rows) > 1 and not base.get("experiments")):
                continue
            baseline, *found = list(_of_commit(base, cell, repo))
            rows += [_row(one) for one in [baseline, *_sorted(found, order)]]
            failed += [one.name for one in found if one.state == "failed"]
    if len(rows) == 1:
        raise DataError("there is no commit with params.yaml here; run this inside the project")
    note = (
        f"Token F1 of {cell} on the answerable development questions, the refusal rule off, in points of "
        "100; no test figure is read. `-`: that stage did not run with these settings, or `dvc pull` and "
        "`dvc exp pull` did not bring its curve."
    )
    lines = [*aligned(rows), "", note]
    if failed:
        lines.append(f"Failed: {', '.join(failed)}; `dvc queue logs NAME` says why.")
    return "\n".join(lines)


def _of_commit(base: Mapping[str, Any], cell: str, repo: Any) -> Iterator[Experiment]:
    """The commit itself, then its experiments."""
    own = base.get("data") or {}
    before = _params(own)
    yield _experiment(base.get("name") or base["rev"][:7], "commit", own, before, cell, repo)
    for one in base.get("experiments") or []:
        tip = one["revs"][0]
        state = (one.get("executor") or {}).get("state") or "success"
        name = one.get("name") or tip["rev"][:7]
        yield _experiment(name, state, tip.get("data") or {}, before, cell, repo)


def _experiment(
    name: str, state: str, data: Mapping[str, Any], before: Mapping[str, Any], cell: str, repo: Any
) -> Experiment:
    params = _params(data)
    changes = differing(params, before)
    if state not in ("commit", "success") or not params:
        return Experiment(name, state, changes, None, None)
    stages = read_lock(_git_show(repo, data["rev"], "dvc.lock"))
    entry = f"{(params.get('model') or {}).get('name')}_lora"
    loss = _val_loss(entry, stages, repo) if is_current("train", stages, params) else None
    evaluated = is_current(f"eval@{entry}", stages, params)
    return Experiment(name, state, changes, loss, _f1(entry, cell, data) if evaluated else None)


def _cells(shown: Sequence[Mapping[str, Any]]) -> set[str]:
    """The cells of all evaluations that DVC lists."""
    found: set[str] = set()
    for base in shown:
        tips = [one["revs"][0] for one in base.get("experiments") or []]
        for data in (one.get("data") or {} for one in (base, *tips)):
            for file in (data.get("metrics") or {}).values():
                trees = (tree for tree in (file.get("data") or {}).values() if isinstance(tree, dict))
                found |= {cell for tree in trees for cell in tree.get("development") or {}}
    return found


def _params(data: Mapping[str, Any]) -> dict[str, Any]:
    return dict(((data.get("params") or {}).get("params.yaml") or {}).get("data") or {})


def _git_show(repo: Any, rev: str, file: str) -> str:
    fs = repo.scm.get_fs(rev)
    return str(fs.open(file, mode="r", encoding="utf-8").read()) if fs.exists(file) else ""


def _val_loss(entry: str, stages: Mapping[str, Mapping[str, Any]], repo: Any) -> float | None:
    """The lowest point of the validation curve, from the cache; that checkpoint became the entry."""
    md5 = out_md5((PLOTS / "train" / f"{entry}.json").as_posix(), stages)
    path = None if md5 is None else Path(repo.cache.local.oid_to_path(md5))
    if path is None or not path.is_file():
        return None
    rows = json.loads(path.read_text(encoding="utf-8"))
    return min((float(row["loss"]) for row in rows if row["split"] == "val"), default=None)


def _f1(entry: str, cell: str, data: Mapping[str, Any]) -> tuple[float, float, float] | None:
    files = data.get("metrics") or {}
    tree = (files.get(f"metrics/eval_{entry}.json") or {}).get("data") or {}
    found = tree.get(f"eval_{entry}", {}).get("development", {}).get(cell, {})
    keys = ("f1_if_answered", "f1_if_answered_low", "f1_if_answered_high")
    if any(key not in found for key in keys):
        return None
    value, low, high = (100 * float(found[key]) for key in keys)
    return value, low, high


def _sorted(found: list[Experiment], order: str | None) -> list[Experiment]:
    if order == "loss":
        return sorted(found, key=lambda one: (one.val_loss is None, one.val_loss or 0.0))
    if order == "f1":
        return sorted(found, key=lambda one: (one.f1 is None, -(one.f1 or (0.0,))[0]))
    return found


def _row(one: Experiment) -> tuple[str, ...]:
    changed = [f"{key}={json.dumps(value) if value is None else value}" for key, value in one.changes.items()]
    if len(changed) > _SHOWN_CHANGES:
        changed = [*changed[:_SHOWN_CHANGES], f"and {len(changed) - _SHOWN_CHANGES} more"]
    f1 = "-" if one.f1 is None else f"{one.f1[0]:.1f} ({one.f1[1]:.0f} to {one.f1[2]:.0f})"
    loss = "-" if one.val_loss is None else f"{one.val_loss:.4f}"
    return one.name, one.state, ", ".join(changed) or "-", loss, f1
