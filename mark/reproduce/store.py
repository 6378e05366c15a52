"""The bytes of earlier outputs: in the workspace, in DVC's cache, in git."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mark.errors import DataError
from mark.reproduce.git import file_at
from mark.reproduce.pipeline import bytes_hash, dvc_hash, file_hashes

_FOLDER = ".dir"  # how DVC's hash of a folder ends


@dataclass(frozen=True)
class Store:
    """Finds contents by DVC's hash; whatever it gives has that hash.

    Attributes:
        root: The project's root.
        cache: DVC's cache of the project, e.g. `.dvc/cache/files/md5`.
        work: A folder for what git holds; the caller removes it.
    """

    root: Path
    cache: Path
    work: Path

    def file(self, md5: str, path: str = "", commit: str | None = None) -> Path | None:
        """A file by its hash, None where it is nowhere here.

        Args:
            md5: DVC's hash of it.
            path: Where the project keeps it, to be looked at too.
            commit: Of git, to be looked at too.
        """
        here = self.root / path
        if path and here.is_file() and dvc_hash(here) == md5:
            return here
        cached = self.cache / md5[:2] / md5[2:]
        if cached.is_file() and dvc_hash(cached) == md5:
            return cached
        content = file_at(self.root, commit, path) if commit is not None and path else None
        if content is None or bytes_hash(content) != md5:
            return None
        return self.kept(content)

    def kept(self, content: bytes) -> Path:
        """A file with this content, in the folder for that."""
        target = self.work / bytes_hash(content)
        if not target.is_file():
            self.work.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return target

    def listing(self, md5: str, path: str = "") -> dict[str, str] | None:
        """The files of a folder by its hash, relative path -> hash; None where it is nowhere here.

        Args:
            md5: DVC's hash of the folder.
            path: Where the project keeps it, to be looked at too.
        """
        cached = self.cache / md5[:2] / md5[2:]
        if cached.is_file() and dvc_hash(cached) == md5.removesuffix(_FOLDER):
            rows = json.loads(cached.read_text(encoding="utf-8"))
            return {str(row["relpath"]): str(row["md5"]) for row in rows}
        here = self.root / path
        if path and here.is_dir() and dvc_hash(here) == md5:
            return file_hashes(here)
        return None


def is_folder(md5: str) -> bool:
    """Whether DVC's hash is one of a folder."""
    return md5.endswith(_FOLDER)


def cache_of(root: Path) -> Path:
    """The folder of DVC's cache that holds files by their hash.

    Raises:
        DataError: This is no DVC project.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return Path(repo.cache.local.path)
    except DvcException as fault:
        reason = str(fault).splitlines()[0]
        raise DataError(f"DVC cannot read this project: {reason}; run `mark doctor`") from None
