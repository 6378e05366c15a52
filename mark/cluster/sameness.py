"""Whether a machine of the cluster computes what the one that started the run would compute."""

from __future__ import annotations

import platform
import socket
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import mark
from mark.files import sha256_file, sha256_text


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def package_sha256() -> str:
    """One hash of all modules of `mark`."""
    root = Path(mark.__file__).parent
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    return sha256_text("\n".join(f"{name} {sha256_file(root / name)}" for name in files))


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """What results depend on beside code and settings.

    Args:
        packages: Names of distributions.

    Returns:
        Versions of Python and of the packages ("none" where one is missing), and the kind of processor.
    """
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def other_code(here: str, there: str) -> str | None:
    """A line where two hashes of the code differ."""
    return None if here == there else f"the code on {host()} is another one; bring all machines to one commit"


def missing(*paths: Path) -> str | None:
    """A line that names the first file or folder which this machine does not see."""
    gone = [path for path in paths if not path.exists()]
    return f"{gone[0]} is missing on {host()}; put the project where all machines mount it" if gone else None


def other_versions(stage: str, here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """A line that names what differs from the machine that runs the stage."""
    other = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    if not other:
        return None
    return (
        f"{host()} has another {', another '.join(other)} than the machine that runs {stage}; "
        "install the same on all of them"
    )
