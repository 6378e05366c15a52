"""Which pages are pictures of text, and reading them with the real OCRmyPDF."""

from __future__ import annotations

import pikepdf
import pytest
from PIL import Image, ImageDraw

from mark.errors import ConfigError
from mark.ingest.layout import RawDocument
from mark.ingest.pdf import read_pdf, read_pdfs
from mark.ingest.report import QuarantinedFile
from mark.ingest.scans import missing_for_ocr
from tests.ingest.scans import (
    BODY,
    STAMP,
    outlined_pdf,
    picture_of,
    print_pdf,
    scan_pdf,
    turned,
    wrapped_in_form,
)

needs_programs = pytest.mark.skipif(
    bool(missing_for_ocr("eng")), reason=f"text recognition lacks {missing_for_ocr('eng')}"
)


@pytest.fixture
def picture(tmp_path):
    return picture_of(BODY, tmp_path)


def code_of(path, settings, **changes) -> str:
    result = read_pdf(path, path.parent, settings(**changes))
    return result.code if isinstance(result, QuarantinedFile) else "read"


@pytest.mark.parametrize("stamp", ["", STAMP, f"{STAMP} RECEIVED 2024-01-03 CLERK OF COURT DISTRICT No. 5"])
@pytest.mark.parametrize("strips", [1, 9])
def test_a_stamp_over_a_scan_is_no_text(tmp_path, picture, settings, stamp, strips):
    path = scan_pdf(tmp_path / "scan.pdf", picture, stamp, strips)
    assert code_of(path, settings) == "needs_ocr"


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_and_nested_scans_are_seen(tmp_path, picture, settings, degrees):
    scan = scan_pdf(tmp_path / "scan.pdf", picture, STAMP)
    path = turned(tmp_path / "turned.pdf", scan, degrees)
    assert code_of(path, settings) == "needs_ocr"
    assert code_of(wrapped_in_form(tmp_path / "form.pdf", path), settings) == "needs_ocr"


def test_a_cropped_page_is_measured_by_what_shows(tmp_path, picture, settings):
    with pikepdf.open(scan_pdf(tmp_path / "scan.pdf", picture, STAMP)) as pdf:
        pdf.pages[0].MediaBox = [0, 0, 2000, 2000]  # the scan covers 13 % of it
        pdf.save(tmp_path / "large.pdf")
        pdf.pages[0].CropBox = [0, 0, 595, 842]
        pdf.save(tmp_path / "cropped.pdf")
    assert code_of(tmp_path / "large.pdf", settings) == "read"
    assert code_of(tmp_path / "cropped.pdf", settings) == "needs_ocr"


def test_layers_of_one_image_do_not_add_up(tmp_path, settings):
    from reportlab.pdfgen.canvas import Canvas

    Image.new("L", (10, 10), 90).save(tmp_path / "grey.png")
    canvas = Canvas(str(tmp_path / "layers.pdf"), pagesize=(595, 842))
    for _ in range(4):  # each covers 30 % of the page, all the same 30 %
        canvas.drawImage(str(tmp_path / "grey.png"), 0, 0, 595, 842 * 0.3)
    canvas.save()
    assert code_of(tmp_path / "layers.pdf", settings) == "no_text"


def test_text_over_a_background_is_text(tmp_path, settings):
    """A short last page on tinted paper, and over a watermark: few characters, images everywhere."""
    tinted = Image.effect_noise((595, 842), 6).point(lambda value: min(value + 90, 255))
    watermark = Image.new("L", (1190, 1684), 255)
    ImageDraw.Draw(watermark).polygon([(200, 1400), (300, 1500), (1000, 300), (900, 200)], fill=200)
    for at, image in enumerate((tinted, watermark)):
        path = scan_pdf(tmp_path / f"{at}.pdf", image, "Signed at Delhi by both parties on the first of May.")
        assert code_of(path, settings) == "read"


def test_a_full_text_page_over_an_image_is_text(tmp_path, picture, settings):
    """A scan that was recognised before carries its text: thousands of characters."""
    scan = scan_pdf(tmp_path / "scan.pdf", picture)
    with pikepdf.open(scan) as pdf, pikepdf.open(print_pdf(tmp_path / "text.pdf", BODY)) as text:
        pdf.pages[0].add_overlay(text.pages[0])
        pdf.save(tmp_path / "searchable.pdf")
    assert code_of(tmp_path / "searchable.pdf", settings) == "read"


def test_outlines_are_print_without_characters(tmp_path, settings):
    assert code_of(outlined_pdf(tmp_path / "outlined.pdf", letters=75 * 30), settings) == "needs_ocr"
    assert code_of(outlined_pdf(tmp_path / "frame.pdf", letters=10), settings) == "no_text"


def test_a_long_stamped_scan_is_not_rendered_for_ever(tmp_path, settings):
    path = scan_pdf(tmp_path / "long.pdf", picture_of(BODY, tmp_path, scale=0.5), STAMP, pages=60)
    result = read_pdf(path, tmp_path, settings())
    assert isinstance(result, QuarantinedFile)
    assert (result.code, result.page, result.pages) == ("needs_ocr", 1, 60)


@needs_programs
def test_recognition_reads_scans_and_stamped_scans(tmp_path, picture, text_pdf, settings):
    scan_pdf(tmp_path / "stamped.pdf", picture, STAMP)
    with (
        pikepdf.open(text_pdf(tmp_path / "text.pdf", ["A page of real text, never touched."])) as pdf,
        pikepdf.open(tmp_path / "stamped.pdf") as stamped,
        pikepdf.open(scan_pdf(tmp_path / "plain.pdf", picture)) as plain,
    ):
        pdf.pages.extend([stamped.pages[0], plain.pages[0]])
        pdf.save(tmp_path / "mixed.pdf")
    before = (tmp_path / "mixed.pdf").read_bytes()
    off = read_pdf(tmp_path / "mixed.pdf", tmp_path, settings())
    result = read_pdf(tmp_path / "mixed.pdf", tmp_path, settings(ocr="always"))
    assert isinstance(off, RawDocument) and isinstance(result, RawDocument)
    assert off.dropped == {2: "needs_ocr", 3: "needs_ocr"}
    assert (result.dropped, result.recognised, result.notes) == ({}, (2, 3), ())
    assert result.pages[0] == off.pages[0]
    assert result.doc_id == off.doc_id
    for page in result.pages[1:]:
        assert "seller shall deliver the bread to the buyer" in page.text
        assert len(page.lines) >= 20 and page.lines[0].baseline > page.lines[-1].baseline
    assert "Document 17-2" in result.pages[1].text
    assert (tmp_path / "mixed.pdf").read_bytes() == before


@needs_programs
def test_recognition_turns_pages_and_opens_locked_files(tmp_path, picture, settings):
    with pikepdf.open(scan_pdf(tmp_path / "scan.pdf", picture.rotate(90, expand=True))) as pdf:
        pdf.save(tmp_path / "locked.pdf", encryption=pikepdf.Encryption(user="pässword", owner="boss"))
    result = read_pdf(tmp_path / "locked.pdf", tmp_path, settings(ocr="always"), "pässword")
    assert isinstance(result, RawDocument)
    assert "seller shall deliver the bread" in result.pages[0].text
    baselines = [line.baseline for line in result.pages[0].lines]
    assert len(baselines) >= 20 and baselines == sorted(baselines, reverse=True)


@needs_programs
def test_images_without_print_are_named_so(tmp_path, text_pdf, settings):
    grey = Image.new("L", (200, 283), 128)
    path = scan_pdf(tmp_path / "grey.pdf", grey)
    bad = read_pdf(path, tmp_path, settings(ocr="always"))
    assert isinstance(bad, QuarantinedFile)
    assert (bad.code, bad.detail) == (
        "no_text",
        "no text on 1 page, 1 of them images in which no text was recognised",
    )


@needs_programs
def test_pages_that_take_too_long_are_not_called_empty(tmp_path, picture, settings):
    path = scan_pdf(tmp_path / "scan.pdf", picture, STAMP)  # its stamp must not pass as its text
    bad = read_pdf(path, tmp_path, settings(ocr="always", ocr_page_timeout_s=0.02, timeout_s=240.0))
    assert isinstance(bad, QuarantinedFile)
    assert bad.code == "needs_ocr"
    assert bad.detail == "1 page of images; text recognition took more than 0.02 s on 1 page"


@needs_programs
def test_a_recognition_that_fails_says_why(tmp_path, picture, settings):
    path = scan_pdf(tmp_path / "scan.pdf", picture)
    bad = read_pdf(path, tmp_path, settings(ocr="always", memory_mb=64, reader="pypdf"))
    assert isinstance(bad, QuarantinedFile)
    assert bad.code == "needs_ocr" and "text recognition failed: " in bad.detail
    assert str(tmp_path) not in bad.detail and "mark-ocr-" not in bad.detail


def test_without_the_programs_auto_goes_on_and_always_stops(tmp_path, picture, settings, monkeypatch):
    path = scan_pdf(tmp_path / "scan.pdf", picture)
    monkeypatch.setenv("PATH", str(tmp_path))  # no tesseract, no ghostscript
    assert code_of(path, settings, ocr="auto") == "needs_ocr"
    with pytest.raises(
        ConfigError, match=r"ingest\.ocr is always, but .*program tesseract \(`apt-get install"
    ):
        list(read_pdfs([path], tmp_path, settings(ocr="always")))


@needs_programs
def test_a_missing_language_pack_is_named(tmp_path):
    assert missing_for_ocr("eng+xyz") == [("language xyz", "`apt-get install tesseract-ocr-xyz`")]
