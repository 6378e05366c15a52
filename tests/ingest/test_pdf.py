"""Each quarantine code from a file that really has that fault; the other files are read."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pikepdf
import psutil
import pytest

from mark.errors import ConfigError
from mark.ingest.backends import BACKENDS
from mark.ingest.layout import RawDocument
from mark.ingest.pdf import count_workers, read_pdf, read_pdfs, usable_cores
from mark.ingest.reading import Reading
from mark.ingest.report import REMEDIES, QuarantinedFile

LINES = ["Article 1 Scope", "This contract applies to all deliveries of bread."]


def image_pdf(path: Path, share: float, pages: int = 1) -> Path:
    """Pages with one grey image over a share of their height and no text."""
    from PIL import Image
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    picture = io.BytesIO()
    Image.new("L", (40, 40), 128).save(picture, "PNG")
    canvas = Canvas(str(path), pagesize=(595, 842), invariant=1)
    for _ in range(pages):
        canvas.drawImage(ImageReader(io.BytesIO(picture.getvalue())), 0, 0, 595, 842 * share)
        canvas.showPage()
    canvas.save()
    return path


def bomb_pdf(path: Path) -> Path:
    """One page whose content unpacks to 290 MB: pdfium ends the process when memory is out."""
    pdf = pikepdf.new()
    pdf.add_blank_page(page_size=(600, 800))
    font = pikepdf.Dictionary(
        Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica
    )
    pdf.pages[0].Contents = pdf.make_stream(b"BT /F1 12 Tf 100 100 Td (x) Tj ET\n" * 8_500_000)
    pdf.pages[0].Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=font))
    pdf.save(path)
    return path


def quarantined(path: Path, settings) -> QuarantinedFile:
    result = read_pdf(path, path.parent, settings)
    assert isinstance(result, QuarantinedFile)
    assert result.file == path.name
    assert result.remedy == REMEDIES[result.code]
    return result


def test_encrypted(tmp_path, text_pdf, settings):
    with pikepdf.open(text_pdf(tmp_path / "plain.pdf", LINES)) as pdf:
        pdf.save(tmp_path / "locked.pdf", encryption=pikepdf.Encryption(user="secret", owner="secret"))
    bad = quarantined(tmp_path / "locked.pdf", settings())
    assert (bad.code, bad.detail) == ("encrypted", "needs a password")
    assert "mark password" in bad.remedy
    wrong = read_pdf(tmp_path / "locked.pdf", tmp_path, settings(), "guess")
    assert isinstance(wrong, QuarantinedFile)
    assert (wrong.code, wrong.detail) == ("encrypted", "wrong password")
    opened = read_pdf(tmp_path / "locked.pdf", tmp_path, settings(), "secret")
    assert isinstance(opened, RawDocument)
    assert LINES[1] in opened.pages[0].text


def test_a_file_that_only_forbids_printing_is_read(tmp_path, text_pdf, settings):
    with pikepdf.open(text_pdf(tmp_path / "plain.pdf", LINES)) as pdf:
        pdf.save(tmp_path / "open.pdf", encryption=pikepdf.Encryption(user="", owner="secret"))
    assert isinstance(read_pdf(tmp_path / "open.pdf", tmp_path, settings()), RawDocument)


def test_corrupt(tmp_path, settings):
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.7\nnot a pdf at all")
    assert quarantined(tmp_path / "bad.pdf", settings()).code == "corrupt"


def test_empty_file(tmp_path, settings):
    (tmp_path / "zero.pdf").touch()
    assert quarantined(tmp_path / "zero.pdf", settings()).code == "empty"


def test_no_pages(tmp_path, settings):
    pikepdf.new().save(tmp_path / "pageless.pdf")
    bad = quarantined(tmp_path / "pageless.pdf", settings())
    assert (bad.code, bad.detail) == ("empty", "0 pages")


def test_no_text(tmp_path, text_pdf, settings):
    bad = quarantined(text_pdf(tmp_path / "blank.pdf", [], []), settings())
    assert (bad.code, bad.pages) == ("no_text", 2)


def test_too_little_text_everywhere(tmp_path, text_pdf, settings):
    path = text_pdf(tmp_path / "few.pdf", ["page one"], ["page two"])  # 7 characters each, 20 wanted
    assert quarantined(path, settings()).code == "no_text"
    assert isinstance(read_pdf(path, tmp_path, settings(min_page_chars=5)), RawDocument)


def test_needs_ocr(tmp_path, settings):
    bad = quarantined(image_pdf(tmp_path / "scan.pdf", share=0.9, pages=2), settings())
    assert (bad.code, bad.page, bad.pages) == ("needs_ocr", 1, 2)
    assert quarantined(image_pdf(tmp_path / "logo.pdf", share=0.3), settings()).code == "no_text"


def test_too_large(tmp_path, text_pdf, settings):
    path = text_pdf(tmp_path / "long.pdf", LINES, LINES, LINES)
    bad = quarantined(path, settings(max_pages=2))
    assert (bad.code, bad.detail, bad.pages) == ("too_large", "3 pages", 3)
    with path.open("ab") as handle:
        handle.write(b"\n" * (1 << 20))
    assert quarantined(path, settings(max_file_mb=1)).code == "too_large"


def test_timeout(tmp_path, text_pdf, settings):
    bad = quarantined(text_pdf(tmp_path / "slow.pdf", LINES), settings(timeout_s=0.01))
    assert (bad.code, bad.detail) == ("timeout", "more than 0.01 s")


def test_a_file_that_pdfium_refuses_is_read_by_pypdf(tmp_path, text_pdf, settings):
    whole = text_pdf(tmp_path / "whole.pdf", LINES, LINES).read_bytes()
    (tmp_path / "headless.pdf").write_bytes(whole[whole.index(b"\n") + 1 :])  # no %PDF-1.4
    result = read_pdf(tmp_path / "headless.pdf", tmp_path, settings())
    assert isinstance(result, RawDocument)
    assert (result.reader, result.page_count) == ("pypdf", 2)
    assert len(result.notes) == 1 and "pdfium could not read it: corrupt" in result.notes[0]
    for page in result.pages:
        assert [page.text[line.start : line.end] for line in page.lines] == LINES
    assert read_pdf(tmp_path / "whole.pdf", tmp_path, settings()).reader == "pdfium"


def test_a_crash_of_pdfium_has_a_second_try(tmp_path, text_pdf, settings, monkeypatch):
    """pdfium replaced by a backend whose process really dies on the first page."""
    (tmp_path / "dying.py").write_text(
        "import os\ndef read(job):\n    yield {'kind': 'document', 'pages': 2, 'title': ''}\n    os.abort()\n"
    )
    monkeypatch.setitem(BACKENDS, "pdfium", replace(BACKENDS["pdfium"], file=tmp_path / "dying.py"))
    result = read_pdf(text_pdf(tmp_path / "two.pdf", LINES, LINES), tmp_path, settings())
    assert isinstance(result, RawDocument)
    assert (result.reader, [page.page for page in result.pages]) == ("pypdf", [1, 2])
    assert "crashed (its process ended with SIGABRT)" in result.notes[0]
    bad = quarantined(text_pdf(tmp_path / "three.pdf", LINES, LINES, LINES), settings())
    assert (bad.code, bad.page, bad.pages) == ("crashed", 1, 2)
    assert bad.detail.endswith("second try with pypdf: 3 pages of 2")  # its page numbers cannot be trusted


def test_pypdf_as_the_reader(tmp_path, text_pdf, settings):
    made = text_pdf(tmp_path / "plain.pdf", LINES, [], title="Bread")
    with pikepdf.open(made) as pdf:
        pdf.save(tmp_path / "locked.pdf", encryption=pikepdf.Encryption(user="secret", owner="boss"))
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.7\nnot a pdf at all")
    wanted = settings(reader="pypdf")
    result = read_pdf(tmp_path / "locked.pdf", tmp_path, wanted, "secret")
    assert isinstance(result, RawDocument)
    assert (result.title, result.reader, result.dropped) == ("Bread", "pypdf", {2: "blank"})
    assert quarantined(tmp_path / "locked.pdf", wanted).detail == "needs a password"
    assert quarantined(tmp_path / "bad.pdf", wanted).code == "corrupt"
    assert quarantined(made, settings(reader="pypdf", max_pages=1)).code == "too_large"
    assert quarantined(image_pdf(tmp_path / "scan.pdf", share=0.9), wanted).code == "needs_ocr"
    assert quarantined(image_pdf(tmp_path / "logo.pdf", share=0.3), wanted).code == "no_text"


def test_a_damaged_page_costs_one_page(tmp_path, text_pdf, settings):
    with pikepdf.open(text_pdf(tmp_path / "three.pdf", LINES, LINES, LINES)) as pdf:
        pdf.pages[1].obj["/Type"] = pikepdf.Name("/Pagx")
        pdf.save(tmp_path / "damaged.pdf")
    result = read_pdf(tmp_path / "damaged.pdf", tmp_path, settings())
    assert isinstance(result, RawDocument)
    assert ([page.page for page in result.pages], result.dropped) == ([1, 3], {2: "damaged"})
    with pikepdf.open(tmp_path / "three.pdf") as pdf:
        for page in list(pdf.pages):
            page.obj["/Type"] = pikepdf.Name("/Pagx")
        pdf.save(tmp_path / "all.pdf")
    bad = quarantined(tmp_path / "all.pdf", settings())
    assert (bad.code, bad.page, bad.pages) == ("corrupt", 1, 3)


def test_crash_costs_one_file(tmp_path, text_pdf, settings):
    files = [bomb_pdf(tmp_path / "bomb.pdf"), text_pdf(tmp_path / "good.pdf", LINES, title="Bread")]
    results = dict(read_pdfs(files, tmp_path, settings(memory_mb=256)))
    bad, good = results[files[0]], results[files[1]]
    assert isinstance(bad, QuarantinedFile) and isinstance(good, RawDocument)
    assert (bad.code, bad.page, bad.pages) == ("crashed", 1, 1)
    assert "SIGABRT" in bad.detail or "SIGSEGV" in bad.detail or "memory" in bad.detail
    assert good.title == "Bread"


def test_pages_without_text_are_named(tmp_path, text_pdf, settings):
    image_pdf(tmp_path / "scan.pdf", share=0.9)
    with (
        pikepdf.open(text_pdf(tmp_path / "text.pdf", LINES, [], LINES)) as pdf,
        pikepdf.open(tmp_path / "scan.pdf") as scan,
    ):
        pdf.pages.append(scan.pages[0])
        pdf.save(tmp_path / "mixed.pdf")
    result = read_pdf(tmp_path / "mixed.pdf", tmp_path, settings())
    assert isinstance(result, RawDocument)
    assert [page.page for page in result.pages] == [1, 3]
    assert result.dropped == {2: "blank", 4: "needs_ocr"}
    assert result.page_count == 4


def test_order_names_and_titles(tmp_path, text_pdf, settings):
    (tmp_path / "sub").mkdir()
    files = [
        text_pdf(tmp_path / "b.pdf", LINES, title="Microsoft Word - final.doc"),
        text_pdf(tmp_path / "sub" / "a.pdf", LINES, title="Rules"),
    ]
    found = [result for _, result in read_pdfs(files, tmp_path, settings())]
    assert [(document.document, document.title) for document in found] == [("b", "b"), ("sub/a", "Rules")]


def test_lines_carry_their_print(tmp_path, settings):
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(tmp_path / "bold.pdf"), pagesize=(595, 842))
    canvas.setFont("Helvetica-Bold", 14)
    canvas.drawString(72, 700, "Article 1")
    canvas.setFont("Helvetica", 10)
    canvas.drawString(72, 680, "The seller shall deliver the bread.")
    canvas.save()
    document = read_pdf(tmp_path / "bold.pdf", tmp_path, settings())
    heading, body = document.pages[0].lines
    assert (heading.size, heading.bold, heading.baseline) == (14.0, True, 700.0)
    assert (body.size, body.bold, body.baseline) == (10.0, False, 680.0)
    assert heading.left == pytest.approx(72, abs=2)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_lines_of_a_turned_page_stand_where_they_are_shown(tmp_path, text_pdf, settings, turn):
    """The content lies on its side (or on its head) and /Rotate sets it upright again."""
    plain = text_pdf(tmp_path / "plain.pdf", LINES, LINES)
    turned = {  # moves the content of a 595 x 842 page onto the turned sheet
        90: ((0, 1, -1, 0, 842 + 10, 20), (10, 20, 852, 615)),
        180: ((-1, 0, 0, -1, 595 + 10, 842 + 20), (10, 20, 605, 862)),
        270: ((0, -1, 1, 0, 10, 595 + 20), (10, 20, 852, 615)),
    }
    matrix, box = turned[turn]
    with pikepdf.open(plain) as pdf:
        page = pdf.pages[0]
        page.contents_add(f"q {' '.join(map(str, matrix))} cm".encode(), prepend=True)
        page.contents_add(b"Q")
        page.MediaBox = [0, 0, 1000, 1000]
        page.CropBox = list(box)
        page.rotate(turn, relative=False)
        pdf.save(tmp_path / "turned.pdf")
    wanted, found = (read_pdf(path, tmp_path, settings()) for path in (plain, tmp_path / "turned.pdf"))
    assert isinstance(wanted, RawDocument) and isinstance(found, RawDocument)
    assert [page.text.split() for page in found.pages] == [page.text.split() for page in wanted.pages]
    for mine, line in zip(found.pages[0].lines, wanted.pages[0].lines, strict=True):
        assert (mine.left, mine.right, mine.baseline) == pytest.approx(
            (line.left, line.right, line.baseline), abs=0.2
        )
    assert found.pages[1] == wanted.pages[1]


def test_page_at_fault_is_the_one_being_read():
    output = b'{"kind": "document", "pages": 5, "title": ""}\n{"kind": "page", "page": 1, "text": ""}\n{"kin'
    reading = Reading.parse("pdfium", output)
    assert reading.page_at_fault == 2  # page 1 came through whole
    assert not reading.complete


def test_a_timeout_stops_the_process_and_its_children(tmp_path, text_pdf, settings, monkeypatch):
    (tmp_path / "slow.py").write_text(
        "import subprocess, sys, time\n"
        "def read(job):\n"
        "    yield {'kind': 'document', 'pages': 3, 'title': ''}\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"    open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "    time.sleep(60)\n"
    )
    monkeypatch.setitem(BACKENDS, "pdfium", replace(BACKENDS["pdfium"], file=tmp_path / "slow.py"))
    bad = quarantined(text_pdf(tmp_path / "a.pdf", LINES), settings(timeout_s=5.0))
    assert (bad.code, bad.page, bad.pages) == ("timeout", 1, 3)
    child = int((tmp_path / "child").read_text())
    _, alive = psutil.wait_procs([p for p in psutil.process_iter() if p.pid == child], timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_reader_that_is_not_installed_is_one_line(tmp_path, text_pdf, settings, monkeypatch):
    made = text_pdf(tmp_path / "a.pdf", LINES)
    monkeypatch.setenv("MARK_DOCLING_PYTHON", str(tmp_path / "no" / "python"))
    with pytest.raises(
        ConfigError, match=r"ingest\.reader is docling, but .* has no docling; install it"
    ) as fault:
        list(read_pdfs([made], tmp_path, settings(reader="docling")))
    assert "\n" not in str(fault.value)


def test_the_number_of_processes_follows_the_machine(settings):
    memory_mb = psutil.virtual_memory().total >> 20
    assert count_workers(settings(workers=7)) == 7
    assert count_workers(settings(workers=0, memory_mb=64)) == min(usable_cores(), memory_mb // 64)
    assert count_workers(settings(workers=0, memory_mb=memory_mb)) == 1
