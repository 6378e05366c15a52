"""The smoke profile, run once for all tests that start from its results."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.stages.running import smoke_project


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory, three_pdfs: Path) -> Path:
    """A clone in which the smoke profile ran once, on the user's own PDFs; left as it is."""
    return smoke_project(tmp_path_factory.mktemp("smoke") / "clone", three_pdfs)


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory, smoke: Path) -> Path:
    """A copy of it in which the run is committed."""
    folder = Path(shutil.copytree(smoke, tmp_path_factory.mktemp("committed") / "clone", symlinks=True))
    for command in (["add", "-A"], ["commit", "-qm", "smoke run"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, smoke: Path) -> Path:
    """A copy of it to work in."""
    return Path(shutil.copytree(smoke, tmp_path_factory.mktemp("project") / "clone", symlinks=True))
