"""Projects whose pages are drawn, and asking for pictures of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from mark.config import PARAMS, Ingest, load_section
from mark.files import read_jsonl
from mark.ingest import ingest_pdfs
from mark.records import Page
from tests.ingest.difficult import canvas_at
from tests.serve.conftest import Live

SIZE, STEP, LEFT, TOP = 12, 18, 72, 770  # of the drawn pages, points
WIDTH, HEIGHT = 595, 842
LINES = [
    "The keeper of the oven shall sweep it each evening before",
    "the doors are closed, and shall write down the hour of the",
    "sweeping. For a forgotten evening he owes the compen-",
    "sation of two loaves. The compensation is due at once.",
]
Shelve = Callable[..., Path]


@pytest.fixture
def shelve(make_root: Any, tiny_bert_dir: Path) -> Shelve:
    """A project of these PDFs, read by the real ingest."""

    def make(*pdfs: Path) -> Path:
        root: Path = make_root([])
        (root / "data/raw").mkdir()
        for path in pdfs:
            shutil.copy(path, root / "data/raw")
        ingest_pdfs(
            load_section(Ingest, "ingest", root / PARAMS), root / "data/raw", tiny_bert_dir, root / "data"
        )
        return root

    return make


@pytest.fixture
def oven(tmp_path: Path) -> Path:
    """A page of LINES whose letters stand at known places."""
    canvas = canvas_at(tmp_path / "oven.pdf")
    canvas.setFont("Times-Roman", SIZE)
    for row, line in enumerate(LINES):
        canvas.drawString(LEFT, TOP - STEP * row, line)
    canvas.save()
    return tmp_path / "oven.pdf"


def page_of(root: Path, document: str, number: int = 1) -> Page:
    (row,) = [
        p for p in read_jsonl(root / "data/pages.jsonl", Page) if (p.document, p.page) == (document, number)
    ]
    return row


def get(live: Live, document: str, start: Any, end: Any, page: Any = 1, **more: Any) -> httpx.Response:
    with live.client() as client:
        return client.get(
            f"/v1/documents/{document}/pages/{page}.png", params={"start": start, "end": end, **more}
        )
