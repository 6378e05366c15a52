"""The documentation's site is built without a network, and asks for nothing elsewhere when it is read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def test_the_site_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs-material is not installed: make extras")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        check=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    pages = sorted(tmp_path.glob("**/*.html"))
    assert {"index.html", "tutorial.html", "commands.html"} <= {page.name for page in pages}
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]*\bsrc=\"?https?:|<link[^>]*\brel=\"?stylesheet[^>]*https?:"
    )
    assert [page.name for page in pages if loaded.search(page.read_text(encoding="utf-8"))] == []
