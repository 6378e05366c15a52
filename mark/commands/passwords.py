"""`mark password` and `mark add --password`: a PDF's password, tried before it is remembered."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mark.config import Ingest, load_section
from mark.corpus.passwords import forget_passwords, store_password
from mark.corpus.user_files import find_pdf
from mark.errors import DataError
from mark.files import PDFS


def ask_password(names: Sequence[str]) -> str:
    """The password from a hidden prompt, or the first line of standard input where that is a pipe.

    Raises:
        DataError: Nothing was given.
    """
    import getpass

    if sys.stdin.isatty():
        secret = getpass.getpass(f"Password of {', '.join(names)}: ")
    else:
        secret = sys.stdin.readline().rstrip("\r\n")
    if not secret:
        raise DataError("no password was given; type it, or pipe it: `mark password FILE < secret.txt`")
    return secret


def set_password(names: Sequence[str], secret: str, root: Path) -> list[str]:
    """Remember a password for those of the files that are locked.

    Args:
        names: Files in data/pdfs, with or without .pdf.
        secret: One password for all of them.
        root: The project's root.

    Returns:
        The files that it opens.

    Raises:
        DataError: A file is not in data/pdfs, or the password does not open it; nothing is stored then.
    """
    from mark.ingest.reading import Job, run

    settings = load_section(Ingest, "ingest", root / "params.yaml")
    found = [find_pdf(name, root) for name in names]
    locked = []
    for name in found:
        plain = run(Job("pdfium", root / PDFS / name, None, ()), settings)
        if plain.fault is None or plain.fault[0] != "encrypted":
            continue
        tried = run(Job("pdfium", root / PDFS / name, secret, ()), settings)
        if tried.fault is not None and tried.fault[0] == "encrypted":
            raise DataError(f"this is not the password of {name}; nothing is stored, try again")
        locked.append(name)
    if not locked:
        raise DataError(f"{', '.join(found)}: no password is needed; nothing is stored")
    store_password(locked, secret, root)
    return locked


def forget_password(names: Sequence[str], root: Path) -> list[str]:
    """Delete the passwords of some files.

    Raises:
        DataError: None of them has one.
    """
    gone = forget_passwords([name if name.endswith(".pdf") else f"{name}.pdf" for name in names], root)
    if not gone:
        raise DataError(f"there is no password for {', '.join(names)}; nothing is forgotten")
    return gone
