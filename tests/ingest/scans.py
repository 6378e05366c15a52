"""Scanned pages for the tests: print turned into a picture, with what real files add to it."""

from __future__ import annotations

import io
from pathlib import Path

import pikepdf
import pypdfium2
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

WIDTH, HEIGHT = 595, 842
BODY = [
    f"{number}. The seller shall deliver the bread to the buyer before noon on each working day."
    for number in range(1, 26)
]
STAMP = "Case 1:24-cv-00123-ABC   Document 17-2   Filed 01/02/2024   Page 3 of 9"


def print_pdf(path: Path, lines: list[str]) -> Path:
    """A page of real text."""
    canvas = Canvas(str(path), pagesize=(WIDTH, HEIGHT), invariant=1)
    for at, line in enumerate(lines):
        canvas.drawString(72, 770 - 24 * at, line)
    canvas.showPage()
    canvas.save()
    return path


def picture_of(lines: list[str], folder: Path, scale: float = 2.0) -> Image.Image:
    """The page as a scanner sees it."""
    with pypdfium2.PdfDocument(print_pdf(folder / "print.pdf", lines)) as pdf:
        return pdf[0].render(scale=scale, grayscale=True).to_pil()


def scan_pdf(path: Path, picture: Image.Image, stamp: str = "", strips: int = 1, pages: int = 1) -> Path:
    """The picture over the whole page, cut in horizontal strips, a line of real text at the top."""
    width, height = (WIDTH, HEIGHT) if picture.width < picture.height else (HEIGHT, WIDTH)
    canvas = Canvas(str(path), pagesize=(width, height), invariant=1)
    tall = picture.height // strips
    for _ in range(pages):
        for strip in range(strips):
            part = io.BytesIO()
            bottom = picture.height if strip == strips - 1 else (strip + 1) * tall
            picture.crop((0, strip * tall, picture.width, bottom)).save(part, "PNG")
            low, high = (height * (1 - edge / picture.height) for edge in (bottom, strip * tall))
            canvas.drawImage(ImageReader(io.BytesIO(part.getvalue())), 0, low, width, high - low)
        if stamp:
            canvas.drawString(60, height - 20, stamp)
        canvas.showPage()
    canvas.save()
    return path


def turned(path: Path, source: Path, degrees: int) -> Path:
    """The same pages with a /Rotate, as scanners of landscape sheets write it."""
    with pikepdf.open(source) as pdf:
        for page in pdf.pages:
            page.rotate(degrees, relative=False)
        pdf.save(path)
    return path


def wrapped_in_form(path: Path, source: Path) -> Path:
    """The same page with all its content inside a form drawn at half size and doubled again."""
    with pikepdf.open(source) as pdf:
        page = pdf.pages[0]
        content = b"".join(stream.read_bytes() for stream in page.Contents.as_list()) if isinstance(
            page.Contents, pikepdf.Array
        ) else page.Contents.read_bytes()  # fmt: skip
        inner = pdf.make_stream(
            b"0.5 0 0 0.5 0 0 cm\n" + content,
            Type=pikepdf.Name.XObject,
            Subtype=pikepdf.Name.Form,
            BBox=[0, 0, WIDTH, HEIGHT],
            Matrix=[2, 0, 0, 2, 0, 0],
            Resources=page.Resources,
        )
        page.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Whole=inner))
        page.Contents = pdf.make_stream(b"/Whole Do")
        pdf.save(path)
    return path


def outlined_pdf(path: Path, letters: int) -> Path:
    """Letters drawn as paths, no text object and no image, as some print shops deliver."""
    canvas = Canvas(str(path), pagesize=(WIDTH, HEIGHT), invariant=1)
    for at in range(letters):
        x, y = 72 + 6 * (at % 75), 770 - 14 * (at // 75)
        canvas.rect(x, y, 3, 8, stroke=0, fill=1)
    canvas.showPage()
    canvas.save()
    return path
