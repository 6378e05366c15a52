"""PDFs that are small in the file and huge in memory, made byte by byte."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
PAGES = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
_BLOCK = 1 << 20


def zeros(megabytes: int) -> bytes:
    """That many MB of zero bytes, packed by deflate a thousand times smaller; quick to make.

    After a full flush a block names nothing before it, so one block can be repeated. Adler-32 of n zeros has
    1 in its lower half and n modulo 65521 in its upper.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = (megabytes * _BLOCK % 65521) << 16 | 1
    return b"\x78\x01" + block * megabytes + b"\x03\x00" + checksum.to_bytes(4, "big")


def stream(entries: bytes, data: bytes) -> bytes:
    """A stream object."""
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries, len(data), data)


def raw_pdf(objects: Sequence[bytes]) -> bytes:
    """A file of these objects, numbered from 1; the first is the catalogue."""
    made, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(places) + 1
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(made))
    return made + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + trailer


def page(contents: bytes = b"", box: bytes = b"0 0 595 842", more: bytes = b"") -> bytes:
    """The page that PAGES names; its font, where it has text, is object 5."""
    return b"<< /Type /Page /Parent 2 0 R /MediaBox [%s] /Resources << /Font << /F 5 0 R >> %s >> %s >>" % (
        box,
        more,
        contents,
    )


def content_bomb(megabytes: int) -> bytes:
    """A page whose drawing is white space without end."""
    content = stream(b"/Filter /FlateDecode", zeros(megabytes))
    return raw_pdf([CATALOG, PAGES, page(b"/Contents 4 0 R"), content, FONT])


def twice_packed_bomb(megabytes: int) -> bytes:
    """The same, packed twice: some kilobytes in the file."""
    content = stream(b"/Filter [/FlateDecode /FlateDecode]", zlib.compress(zeros(megabytes), 9))
    return raw_pdf([CATALOG, PAGES, page(b"/Contents 4 0 R"), content, FONT])


def page_bomb(pages: int) -> bytes:
    """That many pages, all of them the same object."""
    tree = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b"3 0 R " * pages, pages)
    return raw_pdf([CATALOG, tree, page()])


def object_stream_bomb(megabytes: int) -> bytes:
    """The page lies in an object stream that unpacks to gigabytes."""
    packed = stream(b"/Type /ObjStm /N 1 /First 8 /Filter /FlateDecode", zeros(megabytes))
    places = len(b"%PDF-1.7\n")
    made = b"%PDF-1.7\n1 0 obj\n" + CATALOG + b"\nendobj\n"
    second = len(made)
    made += b"2 0 obj\n" + PAGES + b"\nendobj\n"
    fourth = len(made)
    made += b"4 0 obj\n" + packed + b"\nendobj\n"
    fifth = len(made)
    rows = [(0, 0, 255), (1, places, 0), (1, second, 0), (2, 4, 0), (1, fourth, 0), (1, fifth, 0)]
    table = b"".join(bytes([kind]) + place.to_bytes(4, "big") + bytes([last]) for kind, place, last in rows)
    made += b"5 0 obj\n" + stream(b"/Type /XRef /Size 6 /W [1 4 1] /Root 1 0 R", table) + b"\nendobj\n"
    return made + b"startxref\n%d\n%%%%EOF\n" % fifth


def nesting_bomb(depth: int) -> bytes:
    """Arrays in arrays, to exhaust a parser's stack."""
    nested = b"/Annots " + b"[" * depth + b"]" * depth
    return raw_pdf([CATALOG, PAGES, page(nested), b"null", FONT])


def form_bomb(levels: int) -> bytes:
    """Drawings that draw the next one ten times: ten to the power of `levels` in the end."""
    forms = [
        stream(
            b"/Type /XObject /Subtype /Form /BBox [0 0 595 842] /Resources << /XObject << /X %d 0 R >> >>"
            % (7 + level), b"/X Do " * 10,
        )
        for level in range(levels)
    ]  # fmt: skip
    last = stream(b"/Type /XObject /Subtype /Form /BBox [0 0 595 842]", b"0 0 9 9 re f")
    content = stream(b"", b"/X Do")
    return raw_pdf(
        [
            CATALOG,
            PAGES,
            page(b"/Contents 4 0 R", more=b"/XObject << /X 6 0 R >>"),
            content,
            FONT,
            *forms,
            last,
        ]
    )


def huge_page(side: int) -> bytes:
    """A page of `side` by `side` points with a picture and no text."""
    picture = stream(
        b"/Type /XObject /Subtype /Image /Width 20000 /Height 20000 /ColorSpace /DeviceGray /BitsPerComponent 8 "
        b"/Filter /FlateDecode", zeros(382),
    )  # fmt: skip
    content = stream(b"", b"q %d 0 0 %d 0 0 cm /X Do Q" % (side, side))
    box = b"0 0 %d %d" % (side, side)
    return raw_pdf(
        [CATALOG, PAGES, page(b"/Contents 4 0 R", box, b"/XObject << /X 6 0 R >>"), content, FONT, picture]
    )
