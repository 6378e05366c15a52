"""The pages of docs/reference say what the code says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from mark import __version__
from mark.cli import app
from mark.commands import installed
from mark.commands.installed import installed_version
from mark.commands.reference import FOLDER, check_reference, write_reference
from mark.errors import ConfigError
from tests.conftest import ROOT


def test_every_setting_of_params_has_a_row() -> None:
    page = (ROOT / FOLDER / "settings.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", page, flags=re.MULTILINE))
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

    def keys(tree: object, prefix: str) -> set[str]:
        if not isinstance(tree, dict):
            return {prefix}
        return {key for name, value in tree.items() for key in keys(value, f"{prefix}.{name}".strip("."))}

    assert keys(params, "") <= rows
    assert (
        "| `ingest.chunk_tokens` | whole number >= 16, <= 250 | embedder tokens, heading prefix included |"
        in page
    )


def test_every_command_has_its_help() -> None:
    page = (ROOT / FOLDER / "commands.md").read_text(encoding="utf-8")
    assert "## `mark ask`" in page and "### `mark models promote`" in page and "mark ask [OPTIONS]" in page


def test_an_old_page_is_told(tmp_path: Path) -> None:
    write_reference(tmp_path, app)
    assert check_reference(tmp_path, app) == f"{FOLDER} is up to date"
    page = tmp_path / FOLDER / "settings.md"
    page.write_text(page.read_text(encoding="utf-8").replace("seed", "sead"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"settings\.md is not what the code says; run `mark reference`"):
        check_reference(tmp_path, app)


def test_the_version_names_the_commit_and_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "CODE", tmp_path)
    assert installed_version() == f"mark {__version__}"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "mark").mkdir()
    (tmp_path / "mark/one.py").write_text("1\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    assert re.fullmatch(rf"mark {re.escape(__version__)} \([0-9a-f]{{12}}\)", installed_version())
    (tmp_path / "mark/one.py").write_text("2\n")
    assert installed_version().endswith("+changes)")
