"""A commit's outputs beside those of a rerun: which are the same, and where the others begin to differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mark.errors import DataError
from mark.reproduce.clone import AGREED
from mark.reproduce.difference import changed_leaves, first_difference
from mark.reproduce.git import file_at
from mark.reproduce.pipeline import PARAMS_FILE, Lock, Stage, bytes_hash, dvc_hash, file_hashes
from mark.reproduce.seeds import Spread
from mark.reproduce.store import Store, is_folder

Verdict = Literal["identical", "within seed noise", "different", "missing"]
METRICS_FOLDER = "metrics/"


@dataclass(frozen=True)
class Finding:
    """What became of one output.

    Attributes:
        path: Of the output.
        stage: That writes it.
        verdict: `missing`: one side has none.
        detail: Where it differs; "" where it does not.
    """

    path: str
    stage: str
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True)
class Original:
    """What a commit says of its outputs.

    Attributes:
        commit: The full id.
        lock: Its dvc.lock.
        store: Where contents are found.
        spread: Over seeds, of the same code and settings; None where it was not measured.
        rerun: Whether the other side ran; False: it came from the remote, git's files from the commit itself.
    """

    commit: str
    lock: Lock
    store: Store
    spread: Spread | None = None
    rerun: bool = True

    @property
    def absent(self) -> str:
        """What to say of an output that the other side lacks."""
        return "the rerun has none" if self.rerun else "the remote has none with the hash of dvc.lock"


def compare_outputs(original: Original, stages: Sequence[Stage], rerun: Path) -> list[Finding]:
    """Compare every output of some stages, in the pipeline's order.

    Args:
        original: The commit.
        stages: Of it.
        rerun: The folder of the clone in which they ran.
    """
    return [
        _finding(original, stage.name, out, rerun / out)
        for stage in in_order(stages)
        for out in sorted(stage.outs)
    ]


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """The stages so that each follows those that it reads from; else as dvc.yaml has them."""
    waiting, found = list(stages), []
    while waiting:
        unmade = {out for stage in waiting for out in stage.outs}
        ready = [stage for stage in waiting if not _reads(stage, unmade - set(stage.outs))]
        found += ready or waiting
        waiting = [stage for stage in waiting if stage not in found]
    return found


def _reads(stage: Stage, outs: set[str]) -> bool:
    """Whether a stage reads one of some outputs, a folder that holds one, or a part of one."""
    return any(overlap(dep, out) for dep in stage.deps for out in outs)


def overlap(dep: str, out: str) -> bool:
    """Whether one path is the other or holds it."""
    return dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/")


def _finding(original: Original, stage: str, path: str, new: Path) -> Finding:
    locked = original.lock.get(stage)
    md5 = None if locked is None else locked.outs.get(path)
    if md5 is None:
        return Finding(path, stage, "missing", "dvc.lock of the commit does not name it")
    committed = file_at(original.store.root, original.commit, path)
    note = ""
    if committed is not None and bytes_hash(committed) != md5:
        note = "; the committed file is not the one that dvc.lock names: changed by hand, or not by a run"
        md5 = bytes_hash(committed) if original.rerun else md5  # else it would be compared with itself
    if not new.exists():
        return Finding(path, stage, "missing", f"{original.absent}{note}")
    if dvc_hash(new) == md5:
        return Finding(path, stage, "identical", note.removeprefix("; "))
    if is_folder(md5):
        return Finding(path, stage, "different", _folder(original, path, md5, new))
    old = original.store.file(md5, path, original.commit)
    if old is None or new.is_dir():
        where = _unknown(path) if old is None else "a file there, a folder here"
        return Finding(path, stage, "different", f"{where}{note}")
    where = first_difference(path, old, new)
    noise = _noise(original.spread, path, old, new) if path.startswith(METRICS_FOLDER) else None
    if noise is None:
        return Finding(path, stage, "different", f"first at {where}{note}")
    return Finding(path, stage, *_judged(noise, where, note))


@dataclass(frozen=True)
class _Noise:
    """How many values of a metrics file moved, and the first that moved further than seeds move it."""

    moved: int
    beyond: str | None


def _judged(noise: _Noise, where: str, note: str) -> tuple[Verdict, str]:
    if noise.beyond is None:
        return "within seed noise", f"{noise.moved} moved, first {where}{note}"
    return "different", f"first at {where}; beyond seed noise first at {noise.beyond}{note}"


def _noise(spread: Spread | None, path: str, old: Path, new: Path) -> _Noise | None:
    """None where no spread of this file was measured, or one of the files is not JSON."""
    if spread is None or path not in spread.values:
        return None
    try:
        changed = changed_leaves(*(json.loads(p.read_text(encoding="utf-8")) for p in (old, new)))
    except ValueError:
        return None
    for leaf in changed:
        seen = spread.measured(path, leaf.pointer)
        numbers = isinstance(leaf.old, int | float) and isinstance(leaf.new, int | float)
        if seen is None or not numbers:
            return _Noise(len(changed), f"key {leaf.pointer} (its spread over seeds is not known)")
        if abs(leaf.new - leaf.old) > seen.range:
            gap = f"{abs(leaf.new - leaf.old):.4g}, between {seen.runs} seeds up to {seen.range:.4g}"
            return _Noise(len(changed), f"key {leaf.pointer} (by {gap})")
    return _Noise(len(changed), None)


def _folder(original: Original, path: str, md5: str, new: Path) -> str:
    before = original.store.listing(md5, path)
    if before is None:
        return _unknown(path)
    after = file_hashes(new)
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    if not changed:
        return "first at an empty folder"
    rest = (
        "" if len(changed) == 1 else f"; {len(changed)} of {len(before.keys() | after.keys())} files differ"
    )
    return f"first at {_file(original, path, changed[0], before, new)}{rest}"


def _file(original: Original, path: str, name: str, before: dict[str, str], new: Path) -> str:
    if name not in before:
        return f"{name}: only in the rerun"
    if not (new / name).is_file():
        return f"{name}: not in the rerun"
    old = original.store.file(before[name], f"{path}/{name}")
    if old is None:
        return f"{name}: its original is not in DVC's cache here, so where is not known"
    return f"{name}, {first_difference(name, old, new / name)}"


def _unknown(path: str) -> str:
    return f"where is not known: the original of {path} is not in DVC's cache here"


def other_inputs(before: Lock, after: Lock, stages: Sequence[Stage]) -> dict[str, list[str]]:
    """What stages read in the original run and the commit holds otherwise: its dvc.lock is older.

    A yes to paid replies (`send_nothing` takes it back in a clone) makes no difference.

    Args:
        before: dvc.lock of the commit.
        after: That of the rerun.
        stages: That ran again; `params.yaml` stands for the params that a stage reads.

    Returns:
        Path -> names of the stages.
    """
    made = {out for stage in (*before.values(), *after.values()) for out in stage.outs}
    found: dict[str, list[str]] = {}
    for stage in stages:
        old, new = before.get(stage.name), after.get(stage.name)
        if old is None or new is None:
            continue
        changed = [
            path for path in sorted({*old.deps, *new.deps}) if old.deps.get(path) != new.deps.get(path)
        ]
        changed = [path for path in changed if not any(overlap(path, out) for out in made)]
        for path in [*changed, *([PARAMS_FILE] if _asking(old.params) != _asking(new.params) else [])]:
            found.setdefault(path, []).append(stage.name)
    return found


def _asking(params: Any) -> Any:
    """Settings without a yes to paid replies."""
    if not isinstance(params, Mapping):
        return params
    return {key: _asking(value) for key, value in params.items() if key != AGREED}


def made_from(stages: Sequence[Stage], name: str) -> Iterator[str]:
    """The outputs of other stages that a stage reads, those first that come first in the pipeline.

    Args:
        stages: Of the pipeline.
        name: Of the stage, or of all of a matrix.

    Raises:
        DataError: There is no such stage.
    """
    wanted = named(stages, name)
    deps = {dep for stage in wanted for dep in stage.deps}
    for stage in in_order(stages):
        if stage not in wanted:
            for out in stage.outs:
                if any(overlap(dep, out) for dep in deps):
                    yield out


def named(stages: Sequence[Stage], name: str) -> list[Stage]:
    """The stages that a name means: one, or all of a matrix.

    Raises:
        DataError: There is none; the message lists all.
    """
    found = [stage for stage in stages if name in (stage.name, stage.name.partition("@")[0])]
    if not found:
        raise DataError(f"no stage {name!r}; there are {', '.join(stage.name for stage in stages)}")
    return found
