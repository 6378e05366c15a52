"""What dvc.yaml and dvc.lock say, of the workspace or of any commit, without asking DVC."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mark.errors import DataError
from mark.reproduce.dvc_yaml import read_mapping
from mark.reproduce.git import commits_touching, file_at

DVC_YAML, DVC_LOCK, PARAMS_FILE = "dvc.yaml", "dvc.lock", "params.yaml"
_OUTS = ("outs", "metrics", "plots")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_BLOCK = 1 << 20
Tree = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml with its values filled in; one of a matrix is a stage of its own.

    Attributes:
        name: As DVC addresses it, e.g. `eval@transformer_lora`.
        deps: Paths that it reads.
        outs: Paths that it writes, metrics and plots among them.
        params: Keys of params.yaml that it reads.
    """

    name: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]


@dataclass(frozen=True)
class LockedStage:
    """What dvc.lock remembers of a stage's last run: path -> DVC's hash, and the values of its params."""

    deps: Mapping[str, str]
    outs: Mapping[str, str]
    params: Tree


Lock = dict[str, LockedStage]


def stages_of(pipeline: str, params: str) -> list[Stage]:
    """The stages of a dvc.yaml.

    Args:
        pipeline: Its text.
        params: The text of params.yaml beside it.

    Raises:
        DataError: Either is damaged, dvc.yaml names a value that params.yaml lacks, or it has stages of a
            kind that this project does not use.
    """
    values, found = params_of(params), []
    for name, stage in _sections(pipeline, DVC_YAML):
        matrix = stage.get("matrix", {})
        if "foreach" in stage or len(matrix) > 1:
            raise DataError(f"{DVC_YAML}: {name}: `foreach` and a matrix of several keys are not read here")
        if not matrix:
            found.append(_stage(name, stage, values))
            continue
        ((key, items),) = matrix.items()
        if isinstance(items, str):
            items = _value(items, values)
        found += [_stage(f"{name}@{item}", stage, {**values, "item": {key: item}}) for item in items]
    return found


def params_of(text: str) -> Tree:
    """The values of a params.yaml.

    Raises:
        DataError: It is damaged.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        loaded = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError) as fault:
        raise DataError(f"{PARAMS_FILE} cannot be read: {str(fault).splitlines()[0]}") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{PARAMS_FILE} holds no sections; run `mark params`")
    return {str(key): value for key, value in loaded.items()}


def lock_of(text: str) -> Lock:
    """The stages of a dvc.lock.

    Raises:
        DataError: It is damaged.
    """
    lock = {}
    for name, stage in _sections(text, DVC_LOCK):
        lock[str(name)] = LockedStage(
            _hashes(stage.get("deps", ())),
            _hashes(stage.get("outs", ())),
            dict(stage.get("params", {}).get(PARAMS_FILE, {})),
        )
    return lock


def stages_at(root: Path, commit: str) -> list[Stage]:
    """The stages of the pipeline in a commit.

    Raises:
        DataError: The commit lacks dvc.yaml or params.yaml.
    """
    return stages_of(_text_at(root, commit, DVC_YAML), _text_at(root, commit, PARAMS_FILE))


def lock_at(root: Path, commit: str) -> Lock:
    """dvc.lock in a commit.

    Raises:
        DataError: The commit has none.
    """
    return lock_of(_text_at(root, commit, DVC_LOCK))


def lock_here(root: Path) -> Lock:
    """dvc.lock of the workspace; empty where nothing was run."""
    path = root / DVC_LOCK
    return lock_of(path.read_text(encoding="utf-8")) if path.is_file() else {}


def lock_commits(root: Path) -> list[str]:
    """Commits of all branches that changed dvc.lock, newest first; none outside a git repository."""
    try:
        return commits_touching(root, DVC_LOCK)
    except DataError:
        return []


def pipeline_key(stages: Sequence[Stage], params: Tree, objects: Mapping[str, str]) -> str:
    """One hash of the code, data and settings that results come from, all but the seed.

    Args:
        stages: Of a commit.
        params: The values of its params.yaml.
        objects: Its paths and git's id of each; what DVC tracks is known by its .dvc file.
    """
    made = {out for stage in stages for out in stage.outs}
    read = {dep for stage in stages for dep in stage.deps} - made
    ids = {path: objects.get(path) or objects.get(f"{path}.dvc") for path in read}
    sections = {key.split(".")[0] for stage in stages for key in stage.params} - {"seed"}
    used = {name: params[name] for name in sections if name in params}
    text = json.dumps({"files": ids, "params": used}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def dvc_hash(path: Path) -> str:
    """DVC's hash of a file or folder, as dvc.lock holds it.

    Source: dvc-data, `hashfile/tree.py`: a folder's hash is that of the list of its files as JSON.
    """
    if not path.is_dir():
        return _md5(path)
    rows = [{"md5": md5, "relpath": name} for name, md5 in file_hashes(path).items()]
    return hashlib.md5(json.dumps(rows, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def file_hashes(folder: Path) -> dict[str, str]:
    """Relative path -> MD5 of each file below a folder, by path."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: _md5(files[name]) for name in sorted(files)}


def bytes_hash(content: bytes) -> str:
    """DVC's hash of a file with this content."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _stage(name: str, stage: Tree, values: Tree) -> Stage:
    outs = [_path(item) for key in _OUTS for item in stage.get(key, ())]
    return Stage(
        name,
        tuple(_filled(dep, values) for dep in stage.get("deps", ())),
        tuple(_filled(out, values) for out in outs),
        tuple(stage.get("params", ())),
    )


def _path(item: str | Tree) -> str:
    return item if isinstance(item, str) else str(next(iter(item)))


def _filled(text: str, values: Tree) -> str:
    return _REFERENCE.sub(lambda found: str(_value(found.group(0), values)), text)


def _value(reference: str, values: Tree) -> Any:
    """What `${a.b}` stands for."""
    found: Any = values
    for key in reference[2:-1].split("."):
        if not isinstance(found, Mapping) or key not in found:
            raise DataError(f"{DVC_YAML}: {reference} is not in {PARAMS_FILE}; run `mark params`")
        found = found[key]
    return found


def _hashes(rows: Sequence[Tree]) -> dict[str, str]:
    return {str(row["path"]): str(row["md5"]) for row in rows if "md5" in row}


def _text_at(root: Path, commit: str, path: str) -> str:
    content = file_at(root, commit, path)
    if content is None:
        raise DataError(f"commit {commit[:10]} holds no {path}; name a commit in which the pipeline had run")
    return content.decode("utf-8", errors="replace")


def _sections(text: str, name: str) -> Iterator[tuple[str, Tree]]:
    """The stages of a dvc.yaml or dvc.lock."""
    stages = read_mapping(text, name).get("stages") or {}
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise DataError(f"{name}: `stages` holds something else than stages; bring it back with git")
    yield from stages.items()
