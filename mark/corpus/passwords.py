"""Passwords of the user's PDFs: one file that git, DVC and other users of the machine never see.

It stands in a folder that ignores itself (`.mark/.gitignore` holds `*`), readable by its owner alone.
Nothing here is a setting, a dependency or an out, so no secret reaches params.yaml or dvc.lock; readers
get it through their standard input.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mark.errors import DataError
from mark.files import PASSWORDS, git_root
from mark.wheels import disk_errors


def read_passwords(root: Path | None = None) -> dict[str, str]:
    """File name -> password; empty where none was given.

    Args:
        root: The project's root; by default the one that we are in.

    Raises:
        DataError: The file is damaged; its content is not shown.
    """
    path = (git_root() if root is None else root) / PASSWORDS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise DataError(
            f'{path} is damaged; it should hold {{"file.pdf": "password"}}: mend it, or delete it and give '
            "the passwords again with `mark password FILE`"
        )
    return found


def store_password(names: Sequence[str], secret: str, root: Path) -> None:
    """Remember one password for some files.

    Args:
        names: Names in data/pdfs, with .pdf.
        secret: The password.
        root: The project's root.
    """
    _write(read_passwords(root) | dict.fromkeys(names, secret), root)


def forget_passwords(names: Sequence[str], root: Path) -> list[str]:
    """Delete passwords.

    Returns:
        The names that had one.
    """
    known = read_passwords(root)
    gone = [name for name in dict.fromkeys(names) if name in known]
    if gone:
        _write({name: secret for name, secret in known.items() if name not in gone}, root)
    return gone


def _write(passwords: Mapping[str, str], root: Path) -> None:
    target = root / PASSWORDS
    with disk_errors(target.parent):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (target.parent / ".gitignore").write_text("*\n", encoding="utf-8")
        handle, work = tempfile.mkstemp(dir=target.parent)  # readable by its owner alone
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(dict(sorted(passwords.items())), stream, ensure_ascii=False, indent=2)
            os.replace(work, target)
        except BaseException:
            Path(work).unlink(missing_ok=True)
            raise
