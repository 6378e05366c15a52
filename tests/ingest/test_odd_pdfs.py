"""PDFs that a law office has and that are drawn in odd ways: what is read of them, line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pikepdf
import pytest
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont

from mark.ingest.clean import clean
from mark.ingest.layout import RawDocument
from mark.ingest.pdf import read_pdf
from mark.ingest.report import QuarantinedFile
from mark.ingest.scans import missing_for_ocr
from tests.ingest.difficult import LEFT_TEXT, canvas_at, lines_of
from tests.ingest.scans import turned


@pytest.fixture
def paragraphs(settings):
    """The clean text of a file, a paragraph an item."""

    def read(path: Path, password: str | None = None) -> list[str]:
        result = read_pdf(path, path.parent, settings(), password)
        assert isinstance(result, RawDocument), result
        return [paragraph.text for paragraph in clean(result.pages).paragraphs]

    return read


def _fees(canvas: Any, top: float) -> None:
    for row, cells in enumerate(
        [("Bread", "Weight", "Fee"), ("Rye", "500", "1.50"), ("Corn", "750", "2.50")]
    ):
        for x, cell in zip((72, 260, 400), cells, strict=True):
            canvas.drawString(x, top - 16 * row, cell)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_page_that_lies_on_its_side_is_read_as_upright(tmp_path, paragraphs, degrees):
    """Drawn sideways (not by /Rotate), as a landscape table in a portrait file."""
    canvas = canvas_at(tmp_path / "side.pdf")
    canvas.translate(297, 421)
    canvas.rotate(degrees)
    canvas.translate(-297, -297)
    canvas.drawString(72, 540, "The fees of the bakers are these.")
    _fees(canvas, 510)
    canvas.save()
    expected = [
        "The fees of the bakers are these.",
        "Bread | Weight | Fee",
        "Rye | 500 | 1.50",
        "Corn | 750 | 2.50",
    ]
    assert paragraphs(tmp_path / "side.pdf") == expected
    assert paragraphs(turned(tmp_path / "turned.pdf", tmp_path / "side.pdf", 90)) == expected


def _form(path: Path) -> Path:
    canvas = canvas_at(path)
    canvas.drawString(72, 790, "Application for a licence to sell bread")
    for at, (label, value) in enumerate(
        [("Name:", "Anna Baker"), ("Reason:", "To sell fresh bread\nat the market"), ("Place:", "Leeds")]
    ):
        canvas.drawString(72, 740 - 40 * at, label)
        flags = "multiline" if "\n" in value else ""
        canvas.acroForm.textfield(
            name=f"f{at}", value=value, x=250, y=734 - 40 * at - (16 if flags else 0), width=280,
            height=36 if flags else 20, fontSize=12, fieldFlags=flags, borderWidth=0,
        )  # fmt: skip
    canvas.drawString(72, 520, "The applicant shall pay a fee of 20 pounds.")
    canvas.save()
    return path


def test_what_was_typed_into_a_form_stands_beside_its_label(tmp_path, paragraphs):
    path = _form(tmp_path / "form.pdf")
    found = " ".join(paragraphs(path))
    places = [found.index(word) for word in ("Name:", "Anna Baker", "Reason:", "fresh bread", "market", "Place:", "Leeds")]  # fmt: skip
    assert places == sorted(places)
    assert found.endswith("The applicant shall pay a fee of 20 pounds.")


def test_a_form_that_leaves_the_drawing_to_the_viewer_is_read_too(tmp_path, paragraphs):
    with pikepdf.open(_form(tmp_path / "form.pdf")) as pdf:
        for field in pdf.pages[0].Annots:
            del field.AP
        pdf.Root.AcroForm.NeedAppearances = True
        pdf.save(tmp_path / "bare.pdf")
    assert "Anna Baker" in " ".join(paragraphs(tmp_path / "bare.pdf"))


def test_a_heading_in_wide_letters_is_no_table(tmp_path, paragraphs):
    canvas = canvas_at(tmp_path / "spaced.pdf")
    text = canvas.beginText(72, 780)
    text.setCharSpace(5)
    text.textLine("TENANCY CONTRACT FOR A BAKERY")
    text.setCharSpace(0)
    for line in lines_of(LEFT_TEXT, 80):
        text.textLine(line)
    canvas.drawText(text)
    canvas.save()
    assert paragraphs(tmp_path / "spaced.pdf")[0] == "TENANCY CONTRACT FOR A BAKERY"


def test_equal_east_asian_lines_are_all_read(tmp_path, settings):
    """pdfium takes the second of two equal lines for a second print where a font has no height, as where no
    installed font stands in for this one."""
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    fine = "五百元以上二千元以下的罚款；情节严重的，吊销许可证。"
    lines = ["第一条 面包应当新鲜，出卖人应当每天交付面包。", fine, fine, fine, "第二条 完", fine, fine]
    canvas = canvas_at(tmp_path / "same.pdf")
    canvas.setFont("STSong-Light", 10)
    for at, line in enumerate(lines):
        canvas.drawString(72, 780 - 14 * at, line)
    canvas.save()
    result = read_pdf(tmp_path / "same.pdf", tmp_path, settings())
    assert isinstance(result, RawDocument)
    (page,) = result.pages
    assert [page.text[line.start : line.end] for line in page.lines] == lines
    assert [line.baseline for line in page.lines] == [780 - 14 * at for at in range(len(lines))]


def test_bold_by_printing_twice_is_read_once(tmp_path, paragraphs):
    canvas = canvas_at(tmp_path / "twice.pdf")
    for shift in (0, 0.3):
        canvas.drawString(72 + shift, 780, "The seller shall deliver the bread.")
    canvas.save()
    assert paragraphs(tmp_path / "twice.pdf") == ["The seller shall deliver the bread."]


def _without_unicode(path: Path) -> Path:
    """Letters of an embedded font numbered 1, 2, 3 ..., and no table that says what they are."""
    import matplotlib

    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    pdfmetrics.registerFont(TTFont("DejaVu", str(font)))
    canvas = canvas_at(path)
    canvas.setFont("DejaVu", 12)
    for at, line in enumerate(lines_of(LEFT_TEXT, 60)):
        canvas.drawString(72, 780 - 18 * at, line)
    canvas.save()
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        for name, made in list(pdf.pages[0].Resources.Font.items()):
            if "/ToUnicode" in made:
                pdf.pages[0].Resources.Font[name] = _numbered(pdf, made)
        pdf.save(path)
    return path


def _numbered(pdf: pikepdf.Pdf, made: Any) -> Any:
    """A TrueType font as one whose codes are glyph numbers."""
    cid = pikepdf.Dictionary(
        Type=pikepdf.Name.Font, Subtype=pikepdf.Name.CIDFontType2, BaseFont=made.BaseFont,
        CIDSystemInfo=pikepdf.Dictionary(Registry="Adobe", Ordering="Identity", Supplement=0),
        FontDescriptor=made.FontDescriptor, DW=600, CIDToGIDMap=pikepdf.Name.Identity,
    )  # fmt: skip
    return pdf.make_indirect(
        pikepdf.Dictionary(
            Type=pikepdf.Name.Font,
            Subtype=pikepdf.Name.Type0,
            BaseFont=made.BaseFont,
            Encoding=pikepdf.Name("/Identity-H"),
            DescendantFonts=[pdf.make_indirect(cid)],
        )
    )


def test_letters_of_unknown_meaning_are_no_text(tmp_path, settings):
    path = _without_unicode(tmp_path / "numbered.pdf")
    bad = read_pdf(path, tmp_path, settings())
    assert isinstance(bad, QuarantinedFile)
    assert (bad.code, bad.page, bad.pages) == ("needs_ocr", 1, 1)


@pytest.mark.skipif(bool(missing_for_ocr("eng")), reason="text recognition is not installed; `make extras`")
def test_letters_of_unknown_meaning_are_recognised(tmp_path, settings):
    import matplotlib
    from fpdf import FPDF  # comes with OCRmyPDF; numbers its letters 1, 2, 3 ...

    made = FPDF()
    made.add_page()
    made.add_font("DejaVu", fname=str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"))
    made.set_font("DejaVu", size=12)
    made.multi_cell(0, 7, LEFT_TEXT)
    made.output(str(tmp_path / "made.pdf"))
    with pikepdf.open(tmp_path / "made.pdf") as pdf:
        for font in pdf.pages[0].Resources.Font.values():
            del font.ToUnicode
        pdf.save(tmp_path / "numbered.pdf")
    result = read_pdf(tmp_path / "numbered.pdf", tmp_path, settings(ocr="always", timeout_s=240.0))
    assert isinstance(result, RawDocument)
    assert result.recognised == (1,)
    assert "loaves were stale" in result.pages[0].text


def test_an_owner_password_alone_locks_nothing(tmp_path, text_pdf, paragraphs):
    with pikepdf.open(text_pdf(tmp_path / "open.pdf", ["The seller shall deliver the bread."])) as pdf:
        pdf.save(tmp_path / "owned.pdf", encryption=pikepdf.Encryption(user="", owner="boss"))
    assert paragraphs(tmp_path / "owned.pdf") == ["The seller shall deliver the bread."]
