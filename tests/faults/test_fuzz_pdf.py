"""Damaged PDFs through the readers' processes: a report line or text, never a fault of ours; the others are read."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pikepdf
import pytest
from hypothesis import given, settings
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from mark.config import PARAMS
from mark.files import CHUNKS, PAGES, RAW, iter_jsonl, read_jsonl
from mark.ingest import ingest_pdfs
from mark.ingest.report import REMEDIES
from mark.records import Chunk, Page
from mark.serve.errors import ApiError
from mark.serve.page_images import Wanted, draw
from tests.conftest import LEASE, ROOT, write_pdf
from tests.faults.mutations import examples, mutated
from tests.ingest.conftest import SettingsFactory
from tests.ingest.conftest import settings as ingest_settings

__all__ = ["ingest_settings"]

TOKENS = [
    b"%PDF-1.7\n", b"endobj\n", b"1 0 obj\n", b"stream\n", b"endstream\n", b"xref\n", b"trailer\n", b"startxref\n",
    b"<<", b">>", b"[", b"]", b"(", b")", b"null", b"-1", b"99999999999", b"/Length 99999999", b"/Kids [2 0 R]",
    b"/Parent 1 0 R", b"/Filter /FlateDecode", b"/Filter /Crypt", b"/Count 1000000", b"/MediaBox [0 0 1e9 1e9]",
    b"/Rotate 91", b"0 R", b"/Type /Page", b"BT", b"Tj", b"q " * 64, b"\x00", b"\xff\xfe",
]  # fmt: skip


def drawn() -> bytes:
    """Two pages without compression: text, a picture, a rotated page, a label."""
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=(200, 200), invariant=1, pageCompression=0)
    canvas.drawString(20, 150, "Article 1 The fee is 60 euros a year and is due in May.")
    canvas.drawImage(ImageReader(Image.new("RGB", (4, 4), "red")), 20, 20, 40, 40)
    canvas.showPage()
    canvas.setPageRotation(90)
    canvas.drawString(20, 150, "Article 2 The board is elected for three years.")
    canvas.showPage()
    canvas.save()
    return file.getvalue()


def locked(content: bytes) -> bytes:
    """With an owner's password alone, so that it opens."""
    file = io.BytesIO()
    with pikepdf.open(io.BytesIO(content)) as pdf:
        pdf.save(file, encryption=pikepdf.Encryption(user="", owner="boss"))
    return file.getvalue()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three small files of different make."""
    lease = tmp_path_factory.mktemp("lease") / "lease.pdf"
    write_pdf(lease, "Lease", LEASE)
    return [drawn(), locked(drawn()), lease.read_bytes()]


@examples(few=8, many=400)
def test_a_damaged_file_is_read_or_reported_and_the_others_are_read(
    limits: settings,
    originals: list[bytes],
    ingest_settings: SettingsFactory,
    tiny_bert_dir: Path,
    tmp_path: Path,
) -> None:
    raw = tmp_path / "data/raw"
    raw.mkdir(parents=True)
    shutil.copy(ROOT / PARAMS, tmp_path)
    write_pdf(raw / "whole.pdf", "Lease", LEASE)
    wanted = ingest_settings(workers=2, timeout_s=20.0, memory_mb=1024, min_page_chars=5)

    @limits
    @given(content=mutated(originals, TOKENS))
    def check(content: bytes) -> None:
        (raw / "damaged.pdf").write_bytes(content)
        out = tmp_path / "data"
        report = ingest_pdfs(wanted, raw, tiny_bert_dir, out, tmp_path / "cache")
        for bad in report.quarantined:
            assert bad.file == "damaged.pdf" and bad.code in REMEDIES and bad.remedy
            assert (
                "\n" not in bad.detail and "Traceback" not in bad.detail and str(tmp_path) not in bad.detail
            )
        accounted = [file.file for file in [*report.files, *report.quarantined, *report.duplicates]]
        assert sorted(accounted) == ["damaged.pdf", "whole.pdf"]
        draw_first_page(tmp_path)
        assert "lease" in {chunk.title.lower() for chunk in read_jsonl(out / CHUNKS.name, Chunk)}

    check()


def draw_first_page(root: Path) -> None:
    """As the web page shows it: a picture, or one line."""
    for page in iter_jsonl(root / PAGES, Page):
        if page.document == "damaged":
            try:
                picture = draw(
                    root / RAW / "damaged.pdf", Wanted(page, 0, min(20, len(page.text)), 200), root
                )
                assert picture.png.startswith(b"\x89PNG")
            except ApiError as fault:
                assert fault.status_code == 422 and "\n" not in str(fault.detail), fault.detail
            return
