"""Where an entry came from: the dvc.lock that names it, and the files that its stage read."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mark.config import Paths
from mark.errors import DataError, MarkError, ModelError
from mark.evaluation.engines import CALIBRATION
from mark.files import (
    ADAPTER,
    CHAMPION_COPY,
    CHUNKS,
    MODELS,
    PASSAGES,
    PRACTICE_PASSAGES,
    TRAIN_SFT,
    VAL_SFT,
    sha256_file,
)
from mark.registry.promotion import EARLIER, PREDICTIONS
from mark.registry.view import ENTRY_FILE
from mark.reproduce.git import commits_touching
from mark.reproduce.pipeline import (
    DVC_LOCK,
    Lock,
    LockedStage,
    dvc_hash,
    lock_at,
    lock_commits,
    lock_here,
)
from mark.reproduce.store import Store, is_folder
from mark.rlhf.feedback import ACCEPTED
from mark.train.inputs import TrainInputs

_LEARNT = (TRAIN_SFT, VAL_SFT, CHUNKS, PRACTICE_PASSAGES, ACCEPTED)
Tree = dict[str, Any]


@dataclass(frozen=True)
class EntryFolder:
    """An adapter that lies under models/: an entry, the champion's copy, or that of an earlier champion.

    Attributes:
        folder: Where it lies.
        label: Relative to models/: `transformer_lora`, `champion`, `champions/1f2e3d4c5b6a`.
        facts: The content of its entry.json.
        adapter_sha256: Of its weights; "" where they are missing.
    """

    folder: Path
    label: str
    facts: Tree
    adapter_sha256: str

    @property
    def name(self) -> str:
        """Of the entry that it is or was."""
        return str(self.facts.get("name", self.folder.name))

    @property
    def is_copy(self) -> bool:
        """Whether it is a champion's copy."""
        return self.label != self.name


@dataclass(frozen=True)
class Origin:
    """The run that made an entry.

    Attributes:
        stage: Of the pipeline.
        locked: What dvc.lock remembers of it.
        commit: One whose dvc.lock says so; None: only that of the workspace does.
    """

    stage: str
    locked: LockedStage
    commit: str | None


@dataclass
class Locks:
    """Every dvc.lock that git knows, read when it is asked for; the workspace's comes first."""

    root: Path
    _read: list[tuple[str | None, Lock]] = field(default_factory=list)
    _left: list[str] | None = None

    def __iter__(self) -> Iterator[tuple[str | None, Lock]]:
        """Commit (None: the workspace) and lock, newest first; damaged ones are passed over."""
        if self._left is None:
            self._left = lock_commits(self.root)
            self._read.append((None, lock_here(self.root)))
        yield from self._read
        while self._left:
            commit = self._left.pop(0)
            try:
                lock = lock_at(self.root, commit)
            except MarkError:
                continue
            self._read.append((commit, lock))
            yield commit, lock

    def first_commit(self, md5: str) -> str | None:
        """The commit whose dvc.lock named an output first, None where none does."""
        try:
            return next(iter(reversed(commits_touching(self.root, DVC_LOCK, md5))), None)
        except DataError:
            return None


def entry_folders(root: Path) -> list[EntryFolder]:
    """All adapters under models/, entries first.

    Raises:
        ModelError: An entry.json is damaged.
    """
    entries = sorted(path.parent for path in (root / MODELS).glob(f"*/{ENTRY_FILE}"))
    folders = [f for f in entries if f != root / CHAMPION_COPY and not f.name.startswith(".")]
    copies = [root / CHAMPION_COPY, *sorted((root / EARLIER).glob("*"))]
    folders += [folder for folder in copies if (folder / ENTRY_FILE).is_file()]
    return [_entry_folder(folder, root) for folder in folders]


def origin_of(entry: EntryFolder, locks: Locks, store: Store) -> Origin | None:
    """The run whose dvc.lock names this adapter as its output; None: it is in none that git knows.

    Args:
        entry: Which.
        locks: Of the project.
        store: Of the project; a copy that lacks files of its stage is known by its weights.
    """
    wanted, path = _folder_hash(entry), f"{MODELS.as_posix()}/{entry.name}"
    weights = dvc_hash(entry.folder / ADAPTER) if entry.adapter_sha256 else None
    for commit, lock in locks:
        for stage, locked in lock.items():
            md5 = locked.outs.get(path)
            if md5 is None:
                continue
            listed = (store.listing(md5) or {}) if is_folder(md5) and md5 != wanted else {}
            if md5 == wanted or (weights is not None and listed.get(ADAPTER) == weights):
                return Origin(stage, locked, commit or locks.first_commit(md5))
    return None


@contextmanager
def laid_out(files: Mapping[str, str], store: Store, commit: str | None) -> Iterator[Path | None]:
    """A temporary folder with files of an earlier run at their places; None where one of them is gone.

    Args:
        files: Path -> DVC's hash.
        store: Of the project.
        commit: In which git has those that it tracks.
    """
    with tempfile.TemporaryDirectory(prefix="mark-lineage-") as work:
        for path, md5 in files.items():
            found = store.file(md5, path, commit)
            if found is None:
                yield None
                return
            target = Path(work) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(found.resolve())
        yield Path(work)


def made_by(path: str, md5: str | None, locks: Locks) -> Origin | None:
    """The run that wrote an output of this hash, None where no dvc.lock names it.

    Args:
        path: Of the output.
        md5: DVC's hash of it; None: nobody knows it.
        locks: Of the project.
    """
    for commit, lock in locks if md5 is not None else ():
        for stage, locked in lock.items():
            if locked.outs.get(path) == md5:
                return Origin(stage, locked, commit or locks.first_commit(str(md5)))
    return None


def data_files(locked: LockedStage) -> dict[str, str]:
    """What an adapter learns from, among the files that a stage read: path -> DVC's hash."""
    wanted = {path.as_posix() for path in _LEARNT}
    return {path: md5 for path, md5 in locked.deps.items() if path in wanted}


def data_matches(facts: Tree, data: Path) -> bool:
    """Whether a fine-tuned entry was trained on the files of a project's root or of a folder of examples.

    Args:
        facts: Its entry.json.
        data: The root, with data/ below it, or a folder that `mark data-prep --out-dir` wrote.
    """
    inputs = TrainInputs.of_project("", Paths(checkpoints="", logs=""), data)
    own = inputs if inputs.train_file.is_file() else inputs.on(data)
    return own.data_sha256() == facts.get("data_sha256")


def example_folders(root: Path) -> list[Path]:
    """Folders of examples that were made outside the pipeline, right below the root."""
    return sorted(p.parent for p in root.glob(f"*/{PASSAGES}") if (p.parent / TRAIN_SFT.name).is_file())


def _entry_folder(folder: Path, root: Path) -> EntryFolder:
    path = folder / ENTRY_FILE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise ModelError(f"{path} is damaged ({fault}); bring it back with `dvc checkout`") from None
    if not isinstance(facts, dict):
        raise ModelError(f"{path} is damaged (no object); bring it back with `dvc checkout`")
    adapter = folder / ADAPTER
    sha256 = sha256_file(adapter) if adapter.is_file() else ""
    return EntryFolder(folder, folder.relative_to(root / MODELS).as_posix(), facts, sha256)


def _folder_hash(entry: EntryFolder) -> str:
    """Of the entry as its stage wrote it: a copy holds answers and thresholds beside it."""
    if not entry.is_copy:
        return dvc_hash(entry.folder)
    with tempfile.TemporaryDirectory() as work:
        for path in entry.folder.iterdir():
            if path.name not in (PREDICTIONS, CALIBRATION):
                (Path(work) / path.name).symlink_to(path.resolve())
        return dvc_hash(Path(work))
