"""Removing an entry by hand: what would go, and why it may not."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mark.errors import DataError, ModelError
from mark.files import CARDS
from mark.registry.view import ModelRegistry


@dataclass(frozen=True)
class Removal:
    """What removing an entry deletes."""

    name: str
    paths: list[Path]
    size_mb: float


def plan_removal(name: str, registry: ModelRegistry, owned: Mapping[str, str]) -> Removal:
    """Say what would be deleted.

    Args:
        name: Of an entry.
        registry: Of the project.
        owned: Outputs of DVC, relative to the root, and the stage of each.

    Raises:
        ModelError: There is no such model.
        DataError: It is the champion, or DVC owns it.
    """
    info = registry.get(name)
    champion = registry.champion()
    if champion is not None and champion.entry == name:
        raise DataError(
            f"{name} is the champion since {champion.at}; promote another entry first "
            "(`mark models promote NAME`), then remove it"
        )
    folder = info.folder.relative_to(registry.root).as_posix()
    if folder in owned:
        raise DataError(
            f"{folder} belongs to the DVC stage {owned[folder]}, which would write it again; take the entry "
            f"out of conf/ or dvc.yaml, then `rm -r {folder}` and `dvc gc --workspace` free the space"
        )
    if info.kind == "base":
        users = [other.name for other in registry.models() if other.kind == "entry" and other.base == name]
        if users:
            raise ModelError(f"{name} is the base of {', '.join(users)}; remove these first")
    paths = [path for path in (info.folder, registry.root / CARDS / name) if path.exists()]
    size = sum(p.stat().st_size for path in paths for p in path.rglob("*") if p.is_file())
    return Removal(name, paths, round(size / 2**20, 1))


def remove(removal: Removal) -> None:
    """Delete what was planned; a link goes, not what it leads to."""
    for path in removal.paths:
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path)
