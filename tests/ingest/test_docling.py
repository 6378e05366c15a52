"""Docling's documents -> rows. Its models cannot be fetched without a hub, so no page is converted here."""

from __future__ import annotations

import json
import subprocess

import pytest

from mark.errors import ConfigError
from mark.ingest.backends import BACKENDS
from mark.ingest.pdf import read_pdf
from mark.ingest.report import QuarantinedFile

pytestmark = pytest.mark.skipif(
    not BACKENDS["docling"].installed(),
    reason="Docling is not installed; MARK_DOCLING_PYTHON names an environment that has it",
)

# Run by Docling's own Python: a real DoclingDocument as the models would leave it.
MADE = """
import importlib.util, json, sys
from docling_core.types.doc import BoundingBox, DocItemLabel, DoclingDocument, ProvenanceItem, Size
from docling_core.types.doc import TableCell, TableData
spec = importlib.util.spec_from_file_location("backend", sys.argv[1])
backend = importlib.util.module_from_spec(spec)
spec.loader.exec_module(backend)
def at(page, span=(0, 1), box=(50, 100, 500, 120)):
    left, top, right, bottom = box
    return ProvenanceItem(
        page_no=page, charspan=span, bbox=BoundingBox(l=left, t=top, r=right, b=bottom)
    )
document = DoclingDocument(name="lease")
for page in (1, 2):
    document.add_page(page_no=page, size=Size(width=600, height=800))
document.add_heading("Article 1 Scope", prov=at(1))
text = document.add_text(
    label=DocItemLabel.TEXT, text="The seller delivers.  Before noon.", prov=at(1, (0, 21))
)
text.prov.append(at(2, (21, 34)))
document.add_list_item("fresh bread", marker="(a)", parent=document.add_list_group(), prov=at(2))
cells = [("Prices", 0, 0, 2), ("rye", 1, 0, 1), ("3 EUR", 1, 1, 1)]
document.add_table(TableData(num_rows=2, num_cols=2, table_cells=[
    TableCell(text=text, start_row_offset_idx=row, end_row_offset_idx=row + 1,
              start_col_offset_idx=column, end_col_offset_idx=column + span, col_span=span)
    for text, row, column, span in cells
]), prov=at(2))
document.add_picture(prov=at(2, box=(0, 0, 600, 400)))
print(json.dumps(list(backend.page_rows(document, 3))))
"""


def test_items_become_lines_of_their_pages():
    backend = BACKENDS["docling"]
    done = subprocess.run(
        [backend.python, "-P", "-c", MADE, str(backend.file)], capture_output=True, text=True, check=True
    )
    first, second, third = json.loads(done.stdout.splitlines()[-1])
    assert first["text"] == "Article 1 Scope\nThe seller delivers.\n"
    assert [line[-1] for line in first["lines"]] == [True, False]  # a heading counts as bold
    assert second["text"] == "Before noon.\n(a) fresh bread\nPrices\nrye | 3 EUR\n"
    assert [second["text"][line[0] : line[1]] for line in second["lines"]] == second["text"].splitlines()
    assert (first["images"], second["images"]) == (0.0, 0.5)
    assert (third["kind"], third["page"]) == ("damaged", 3)


def test_missing_models_stop_the_run_in_one_line(tmp_path, text_pdf, settings, monkeypatch):
    monkeypatch.setenv("DOCLING_ARTIFACTS_PATH", str(tmp_path))  # an empty folder
    path = text_pdf(tmp_path / "a.pdf", ["Article 1 Scope"])
    with pytest.raises(
        ConfigError, match=r"Docling's models are not in .*docling-tools models download"
    ) as fault:
        read_pdf(path, tmp_path, settings(reader="docling", memory_mb=16000, timeout_s=300.0))
    assert "\n" not in str(fault.value)


def test_files_that_no_model_can_help(tmp_path, settings):
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.7\nnot a pdf at all")
    bad = read_pdf(tmp_path / "bad.pdf", tmp_path, settings(reader="docling"))
    assert isinstance(bad, QuarantinedFile) and bad.code == "corrupt"
