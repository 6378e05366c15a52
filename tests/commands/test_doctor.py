"""What `mark doctor` says of reading PDFs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from mark.commands.doctor import Check, _answer_servers, _reading
from mark.corpus.passwords import store_password
from mark.files import INGEST_REPORT, write_json
from mark.ingest.report import REMEDIES, QuarantinedFile, make_report
from mark.ingest.scans import missing_for_ocr
from tests.answering.completions_server import CompletionsServer, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def said(project: Path, **ingest: object) -> dict[str, Check]:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["ingest"] |= ingest
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    return {check.name: check for check in _reading(project)}


def test_without_programs_it_is_optional_until_a_scan_was_dropped(project, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = said(project)["text recognition"]
    assert found.found.startswith("none (optional, for scans): lacks ") and "program tesseract" in found.found
    assert "`apt-get install tesseract-ocr`" in found.found and not found.remedy
    assert "apt-get install ghostscript" in said(project, ocr="always")["text recognition"].remedy
    scan = QuarantinedFile(
        file="a.pdf", code="needs_ocr", page=1, pages=2, detail="", remedy=REMEDIES["needs_ocr"]
    )
    write_json(project / INGEST_REPORT, make_report("pdf", [], [scan], []).model_dump())
    assert said(project, ocr="auto")["text recognition"].remedy.endswith("then `mark ingest --force`")
    assert said(project, ocr="never")["text recognition"].found == "off (ingest.ocr=never)"


@pytest.mark.skipif(bool(missing_for_ocr("eng")), reason=f"text recognition lacks {missing_for_ocr('eng')}")
def test_with_programs_it_names_version_and_languages(project):
    found = said(project)["text recognition"]
    assert found.found.startswith("OCRmyPDF 1") and "eng" in found.found and not found.remedy
    assert "language xyz" in said(project, ocr_languages="eng+xyz")["text recognition"].found


def test_reader_docling_and_passwords(project, monkeypatch, tmp_path):
    monkeypatch.setenv("MARK_DOCLING_PYTHON", str(tmp_path / "nothing"))
    store_password(["a.pdf"], "secret", project)
    found = said(project)
    assert found["PDF reader"] == Check("PDF reader", "pdfium; passwords of 1 files")
    assert found["Docling"] == Check("Docling", "none (optional)")
    chosen = said(project, reader="docling")["PDF reader"]
    assert chosen.found == "docling is not installed" and "MARK_DOCLING_PYTHON" in chosen.remedy


def test_servers_that_are_to_answer(project):
    assert list(_answer_servers(project)) == []
    with serving(CompletionsServer({"base": (None, 0), "tuned_lora": (None, 0)})) as server:
        params = yaml.safe_load((project / "params.yaml").read_text())
        for name, url in (("eval", server.url), ("serve", "http://127.0.0.1:9/v1")):
            params[name]["engine"] = "openai"
            params[name]["server"] |= {"url": url, "max_tries": 1}
        (project / "params.yaml").write_text(yaml.safe_dump(params))
        there, gone = _answer_servers(project)
    assert there == Check("eval.server", "serves base, tuned_lora", "")
    assert (gone.name, gone.found) == (
        "serve.server",
        "cannot answer",
    ) and "serve.server.url runs" in gone.remedy
