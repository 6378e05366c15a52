"""Running DVC from a command, and telling which files belong to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mark.errors import DataError, MarkError


def dvc(arguments: list[str], root: Path) -> None:
    """Run DVC in the project with this interpreter first on the PATH.

    Args:
        arguments: e.g. `["repro", "-s", "train"]`.
        root: The project's root.

    Raises:
        MarkError: DVC ended non-zero; what failed stands above, on the screen.
    """
    done = subprocess.run(dvc_command(arguments), cwd=root, env=dvc_environment(), check=False)
    if done.returncode != 0:
        raise MarkError(
            f"`dvc {' '.join(arguments)}` failed (exit {done.returncode}); the reason stands above"
        )


def dvc_output(arguments: list[str], root: Path) -> str:
    """Run DVC in the project and take what it prints.

    Raises:
        MarkError: DVC ended non-zero; names its reason.
    """
    done = subprocess.run(
        dvc_command(arguments), cwd=root, env=dvc_environment(), check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[0].removeprefix("ERROR: ") if lines else f"exit {done.returncode}"
        raise MarkError(f"`dvc {' '.join(arguments)}` failed: {reason}")
    return done.stdout


def dvc_command(arguments: list[str]) -> list[str]:
    """The command line that runs DVC with this interpreter."""
    return [sys.executable, "-m", "dvc", *arguments]


def dvc_environment() -> dict[str, str]:
    """Of a DVC process: stages find this interpreter first on the PATH."""
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return environment


def stage_outputs(root: Path) -> dict[str, str]:
    """Each output of dvc.yaml (a path below root) and the stage that writes it.

    Raises:
        DataError: dvc.yaml is missing.
    """
    if not (root / "dvc.yaml").is_file():
        raise DataError(f"{root} holds no dvc.yaml; run this inside the project")
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        found = {}
        for stage in repo.index.stages:
            for out in stage.outs:
                path = os.path.relpath(out.fs_path, os.path.realpath(root))
                found[path] = stage.addressing
    return found


def refuse_stage_output(paths: list[Path], root: Path) -> None:
    """Refuse to write by hand what a DVC stage owns.

    Raises:
        DataError: Names the file, the stage and both ways out.
    """
    owned = stage_outputs(root)
    for path in paths:
        inside = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
        for out, stage in owned.items():
            if inside == out or inside.startswith(out + os.sep):
                raise DataError(
                    f"{inside} belongs to the DVC stage {stage}; choose another folder, "
                    f"or leave the path flags out to run that stage"
                )
