"""The page account: whatever happens to the files, every page is read or dropped with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pikepdf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mark.errors import DataError
from mark.files import write_json
from mark.ingest import ingest_pdfs
from mark.ingest.report import (
    DropReason,
    DuplicateFile,
    FileReport,
    IngestReport,
    QuarantinedFile,
    make_report,
    page_ranges,
    read_report,
    report_table,
)
from mark.records import Quarantine
from tests.ingest.scans import BODY, STAMP, picture_of, scan_pdf

REASONS = get_args(DropReason)


@st.composite
def reports(draw) -> IngestReport:
    """Any outcome of any number of files."""
    files = []
    for at in range(draw(st.integers(0, 5))):
        fates = draw(st.lists(st.sampled_from(["read", "recognised", *REASONS]), min_size=1, max_size=30))
        dropped: dict[str, list[int]] = {}
        for page, fate in enumerate(fates, start=1):
            if fate in REASONS:
                dropped.setdefault(fate, []).append(page)
        files.append(
            FileReport(
                file=f"{at}.pdf",
                doc_id=str(at),
                document=str(at),
                title="T",
                pages=len(fates),
                pages_read=sum(fate not in REASONS for fate in fates),
                dropped=dropped,
                chunks=draw(st.integers(0, 9)),
                reader="pdfium",
                recognised=[page for page, fate in enumerate(fates, start=1) if fate == "recognised"],
            )
        )
    bad = [
        QuarantinedFile(file=f"bad{at}.pdf", code=code, page=None, pages=pages, detail="d", remedy="r")
        for at, (code, pages) in enumerate(
            draw(
                st.lists(
                    st.tuples(st.sampled_from(get_args(Quarantine)), st.none() | st.integers(0, 50)),
                    max_size=4,
                )
            )
        )
    ]
    doubles = [
        DuplicateFile(file=f"double{at}.pdf", same_as=draw(st.sampled_from(files)).file)
        for at in range(draw(st.integers(0, 3)) if files else 0)
    ]
    return make_report("pdf", files, bad, doubles)


@given(reports())
def test_every_page_is_accounted_for(report):
    sums = report.totals
    kinds = (sums.pages_read, sums.pages_dropped, sums.pages_quarantined, sums.pages_duplicate)
    assert sums.pages == sum(kinds)
    length = {file.file: file.pages for file in report.files}
    assert sums.pages == (
        sum(length.values())
        + sum(bad.pages or 0 for bad in report.quarantined)
        + sum(length[double.same_as] for double in report.duplicates)
    )
    for file in report.files:
        gone = {page for pages in file.dropped.values() for page in pages}
        kept = set(range(1, file.pages + 1)) - gone
        assert (len(kept), len(kept) + len(gone)) == (file.pages_read, file.pages)
    assert IngestReport.model_validate(json.loads(report.model_dump_json())) == report


@given(report=reports())
def test_the_table_adds_up_as_printed(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "ingest_report.json"
    write_json(path, report.model_dump())
    head, *rows = report_table(path).split("\n\n")[0].splitlines()
    names = head.split()
    counts = [at for at, name in enumerate(names) if name in {"read", "quarantined", *REASONS}]
    for row in rows:
        cells = row.split()
        parts = [0 if cells[at] == "?" else int(cells[at]) for at in counts]
        assert sum(parts) == (0 if cells[1] == "?" else int(cells[1]))
    for bad in report.quarantined:
        assert f"{bad.file}: {bad.code} (d); r" in report_table(path)


def test_an_account_that_does_not_add_up_is_refused(tmp_path):
    file = FileReport(
        file="a.pdf", doc_id="1", document="a", title="A", pages=3, pages_read=2, dropped={"blank": [2]}, chunks=1
    )  # fmt: skip
    good = make_report("pdf", [file], [], []).model_dump()
    cases = [
        ("files", "pages_read", 3, "a.pdf: 3 pages read and 1 dropped make no 3"),
        ("files", "dropped", {"blank": [2], "damaged": [2]}, r"a.pdf: dropped pages \[2, 2\] of 3"),
        ("files", "dropped", {"blank": [4]}, r"a.pdf: dropped pages \[4\] of 3"),
        ("files", "recognised", [2], "recognised pages"),
        ("totals", "pages", 4, "the totals are not the sums of the files"),
    ]
    for part, key, value, message in cases:
        bad = json.loads(json.dumps(good))
        (bad[part][0] if part == "files" else bad[part])[key] = value
        write_json(tmp_path / "ingest_report.json", bad)
        with pytest.raises(DataError, match=message):
            read_report(tmp_path / "ingest_report.json")
    write_json(tmp_path / "ingest_report.json", good | {"files": good["files"] * 2})
    with pytest.raises(DataError, match=r"a\.pdf stands twice"):
        read_report(tmp_path / "ingest_report.json")


def test_ranges():
    assert page_ranges([7, 1, 3, 2]) == "1-3, 7"
    assert page_ranges([]) == ""


def test_the_table_of_a_real_run(tmp_path: Path, text_pdf, tiny_bert_dir, settings):
    """One file of each kind, read by the real stage, printed as people see it."""
    raw = tmp_path / "raw"
    raw.mkdir()
    scope = ["Article 1 Scope", "This contract applies to all deliveries of bread to the buyer."]
    price = ["Article 2 Price", "A loaf costs three euros until the parties agree on something else."]
    text_pdf(raw / "good.pdf", scope, [], price)
    scan_pdf(tmp_path / "scan.pdf", picture_of(BODY, tmp_path), STAMP)
    with pikepdf.open(raw / "good.pdf") as pdf, pikepdf.open(tmp_path / "scan.pdf") as scan:
        pdf.pages.append(scan.pages[0])
        pdf.save(raw / "mixed.pdf")
    with pikepdf.open(raw / "good.pdf") as pdf:
        pdf.save(raw / "locked.pdf", encryption=pikepdf.Encryption(user="secret", owner="secret"))
    (raw / "scan.pdf").write_bytes((tmp_path / "scan.pdf").read_bytes())
    (raw / "twin.pdf").write_bytes((raw / "good.pdf").read_bytes())
    ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "data")
    table = report_table(tmp_path / "data/ingest_report.json")
    rows = [line.split() for line in table.splitlines()]
    assert rows[0] == ["file", "pages", "read", "blank", "needs_ocr", "quarantined", "chunks", "reader"]
    assert rows[1][:6] == ["good.pdf", "3", "2", "1", "0", "0"] and rows[1][-1] == "pdfium"
    assert rows[2][:6] == ["mixed.pdf", "4", "2", "1", "1", "0"]
    assert rows[3][:6] == ["locked.pdf", "?", "0", "0", "0", "?"]
    assert rows[4][:6] == ["scan.pdf", "1", "0", "0", "0", "1"]
    assert rows[5][:6] == ["all", "8", "4", "2", "1", "1"]
    assert "locked.pdf: encrypted (needs a password); give its password with `mark password FILE`" in table
    assert "scan.pdf, page 1: needs_ocr (1 page of images); it is a scan: `mark doctor` says" in table
    assert "mixed.pdf, page 4: needs_ocr; it is a scan" in table
    assert "twin.pdf: the same bytes as good.pdf, read once" in table
    assert (
        "2 of 5 files read, 2 left out; 4 of 11 pages read, 3 dropped, 1 in files left out, 3 in duplicates"
        in table
    )
