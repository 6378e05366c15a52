"""Reading files of DVC experiments and commits, outputs among them, without checking them out."""

from __future__ import annotations

from pathlib import Path

from mark.errors import DataError
from mark.models.faults import first_line

WORKSPACE = "workspace"


def read_at(revision: str, file: Path, root: Path) -> str:
    """The text of a file as an experiment, a commit or the workspace holds it.

    Args:
        revision: The name of an experiment, a commit, a tag or `workspace`.
        file: Below the root; tracked by git or by DVC.
        root: The project's root.

    Raises:
        DataError: There is no such revision, or it or the DVC cache lacks the file.
    """
    if revision == WORKSPACE:
        if not (root / file).is_file():
            raise DataError(f"{file} is missing; `dvc repro` writes it")
        return (root / file).read_text(encoding="utf-8")
    from dvc import api
    from dvc.exceptions import DvcException
    from dvc_data.index.index import DataIndexDirError
    from scmrepo.exceptions import SCMError

    try:
        return str(api.read(file.as_posix(), repo=str(root), rev=revision, encoding="utf-8"))
    except (DvcException, SCMError, DataIndexDirError, OSError) as fault:
        raise DataError(
            f"{revision}: cannot read {file} ({first_line(fault)}); see `dvc exp list`; `dvc pull` fetches "
            "their outputs; a branch of the same name comes first, give the commit then"
        ) from None
