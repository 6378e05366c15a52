"""Every relative link of the Markdown files leads somewhere, headings included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown.extensions.toc import slugify

from tests.conftest import ROOT

PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/*.md")]
    if ".venv" not in path.parts
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def dead_links(path: Path, root: Path) -> list[str]:
    """Links of a page whose file or heading is not there."""
    found = []
    for target in LINK.findall(_prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        inside = file.is_relative_to(root)
        if not inside or not file.exists() or (heading and heading not in _headings(file)):
            found.append(target)
    return found


def _prose(path: Path) -> str:
    return re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def _headings(path: Path) -> set[str]:
    lines = re.findall(r"^#+ (.*)$", _prose(path), flags=re.MULTILINE)
    return {slugify(re.sub(r"[`*]", "", line), "-") for line in lines}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert dead_links(path, ROOT) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`\n[a](#one-two) [b](page.md#three) [c](gone.md) [d](https://x.org/y) [e](../out.md)\n"
    )
    assert dead_links(page, tmp_path) == ["page.md#three", "gone.md", "../out.md"]


def test_every_page_stands_in_the_navigation() -> None:
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").glob("**/*.md")}
    assert listed == there
