"""The user's own PDFs in data/pdfs: added with `dvc add`, taken away with `dvc remove`."""

from __future__ import annotations

import difflib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mark.corpus.folder import list_pdfs
from mark.corpus.passwords import forget_passwords
from mark.errors import DataError
from mark.files import PDFS, sha256_file
from mark.wheels import disk_errors

log = logging.getLogger(__name__)

_HEADER_WINDOW = 1024  # bytes in which readers look for %PDF


def add_pdfs(paths: Sequence[Path], root: Path, dvc: bool = True) -> list[str]:
    """Copy PDFs into data/pdfs and put them under DVC.

    Args:
        paths: PDF files, or folders that are searched for PDFs with all that is below them.
        root: The project's root.
        dvc: Run `dvc add` for each new file.

    Returns:
        The names (with .pdf) of the files given, sorted; those already there included.

    Raises:
        DataError: A path is missing or no PDF, a folder holds none, two files of different content
            would share a name, or `dvc add` fails. Checked before anything is copied.
    """
    folder = root / PDFS
    wanted = _collect(paths)
    for name, source in wanted.items():
        _check_free(name, source, folder)
    new = [name for name in wanted if not (folder / name).exists()]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in new:
            _copy(wanted[name], folder / name)
    if dvc:
        untracked = [name for name in wanted if not (folder / f"{name}.dvc").exists()]
        if untracked:
            _dvc(["add", "--quiet", *[str(PDFS / name) for name in sorted(untracked)]], root)
    return sorted(wanted)


def remove_pdfs(names: Sequence[str], root: Path) -> None:
    """Take PDFs out of data/pdfs and out of DVC; the cache keeps their content until `dvc gc`.

    Their passwords are forgotten.

    Args:
        names: File names, with or without .pdf.
        root: The project's root.

    Raises:
        DataError: There is no such file (names the nearest one), or `dvc remove` fails.
    """
    folder = root / PDFS
    chosen = [find_pdf(name, root) for name in names]
    for name in dict.fromkeys(chosen):
        if (folder / f"{name}.dvc").exists():
            _dvc(["remove", "--quiet", str(PDFS / f"{name}.dvc")], root)
        (folder / name).unlink(missing_ok=True)
    forget_passwords(chosen, root)


def find_pdf(name: str, root: Path) -> str:
    """The name in data/pdfs that a user means, with .pdf.

    Args:
        name: With or without .pdf, with or without the folder.
        root: The project's root.

    Raises:
        DataError: There is no such file; the message names the nearest one.
    """
    folder = root / PDFS
    # A file that git knows but that is not checked out has only its .dvc file.
    known = sorted({p.name for p in list_pdfs(folder)} | {p.stem for p in folder.glob("*.dvc")})
    return _resolve(name, known)


def _resolve(name: str, known: list[str]) -> str:
    for candidate in (name, f"{name}.pdf", Path(name).name):
        if candidate in known:
            return candidate
    near = difflib.get_close_matches(Path(name).stem, [Path(other).stem for other in known], n=1, cutoff=0.5)
    if near:
        raise DataError(f"{PDFS} holds no {name!r}; did you mean {near[0]}.pdf?")
    raise DataError(f"{PDFS} holds no {name!r}; it holds {', '.join(known) if known else 'no PDF at all'}")


def _collect(paths: Sequence[Path]) -> dict[str, Path]:
    """Name -> file for all PDFs that the paths mean."""
    found: dict[str, Path] = {}
    for path in paths:
        for file in _expand(path):
            _check_pdf(file)
            name = f"{file.stem}.pdf"
            other = found.setdefault(name, file)
            if other != file and sha256_file(other) != sha256_file(file):
                raise DataError(f"{other} and {file} differ but would share the name {name}; rename one")
    return dict(sorted(found.items()))


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() == ".pdf")
        if not files:
            raise DataError(f"{path} holds no PDF; name a folder with *.pdf files")
        return files
    if not path.exists():
        near = difflib.get_close_matches(path.name, _siblings(path), n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
        raise DataError(f"{path} does not exist; {hint}")
    return [path]


def _siblings(path: Path) -> list[str]:
    return sorted(os.listdir(path.parent)) if path.parent.is_dir() else []


def _check_pdf(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            start = stream.read(_HEADER_WINDOW)
    except OSError as fault:
        raise DataError(f"{path} cannot be read ({fault.strerror}); mend its permissions") from None
    if b"%PDF-" not in start:
        raise DataError(f"{path} is no PDF (its first bytes are {start[:8]!r}); convert it to PDF first")


def _check_free(name: str, source: Path, folder: Path) -> None:
    there = folder / name
    if there.exists() and sha256_file(there) != sha256_file(source):
        raise DataError(
            f"{source} and {there} differ but share the name {name}; rename one, "
            f"or `mark remove {name}` first"
        )


def _copy(source: Path, target: Path) -> None:
    """Copy beside the target, then rename: never half a PDF under the final name."""
    work = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, work)
        os.replace(work, target)
    finally:
        work.unlink(missing_ok=True)


def _dvc(arguments: list[str], root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.strip()]
        reason = lines[0] if lines else f"exit status {done.returncode}"
        raise DataError(f"`dvc {arguments[0]}` failed: {reason}; mend that and run the command again")
