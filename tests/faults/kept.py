"""The finished smoke project, kept in tmp/faults for as long as the code is the same."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from mark.files import sha256_file, sha256_text
from tests.conftest import ROOT, write_three_pdfs
from tests.stages.running import smoke_project

# All that the outcome of a fault can depend on.
_CODE = ("mark", "stages", "conf", "dvc.yaml", "requirements.lock", ".dvcignore", ".gitignore")


def code_sha256() -> str:
    """Hash of the working tree's code."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *_CODE], cwd=ROOT, capture_output=True, text=True,
        check=True,
    ).stdout.splitlines()  # fmt: skip
    named = sorted(name for name in set(listed) if (ROOT / name).is_file())
    return sha256_text("\n".join(f"{name} {sha256_file(ROOT / name)}" for name in named))[:16]


def kept_template(folder: Path, code: str) -> Path:
    """The finished project of this code, made on first use (minutes)."""
    template, stamp = folder / "template", folder / "template.code"
    if not (stamp.is_file() and stamp.read_text() == code):
        stamp.unlink(missing_ok=True)
        for left in (template, folder / "pdfs"):
            shutil.rmtree(left, ignore_errors=True)
        (folder / "pdfs").mkdir(parents=True)
        smoke_project(template, write_three_pdfs(folder / "pdfs"))
        stamp.write_text(code)
    return template
