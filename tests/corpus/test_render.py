"""What a reader of the rendered PDFs finds in them."""

from __future__ import annotations

from pathlib import Path

import pypdfium2
import pytest

from mark.config import Corpus
from mark.corpus import make_corpus
from mark.corpus.document import CUT_NOTE, Article, Document, fold
from mark.corpus.regulations import ACTS
from mark.corpus.render import indents, render_pdf
from mark.corpus.sample import STEMS, read_sample
from mark.errors import ConfigError, DataError

TITLES = {
    "constitution-of-india": "Constitution of India",
    "gdpr": "General Data Protection Regulation (GDPR)",
    "ai-act": "Artificial Intelligence Act",
    "nis2": "NIS 2 Directive",
    "dora": "Digital Operational Resilience Act (DORA)",
    "cra": "Cyber Resilience Act",
}


@pytest.fixture(scope="module")
def rendered(
    sample_section: Corpus, sources: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("sample") / "raw"
    made = make_corpus(sample_section, out / "none", out)
    assert [path.stem for path in made] == list(STEMS)
    return out


def page_lines(path: Path) -> list[list[str]]:
    with pypdfium2.PdfDocument(path) as pdf:
        return [page.get_textpage().get_text_range().replace("\r", "").split("\n") for page in pdf]


def printed(document: Document) -> str:
    parts = [document.full_title]
    for article in document.articles:
        parts += [*article.divisions, article.label, article.heading, *article.lines]
        parts += [CUT_NOTE] if article.cut else []
    return fold(" ".join(parts))


def test_round_trip(rendered: Path, sample_section: Corpus, tmp_path: Path) -> None:
    """Every character of every document comes back from its PDF, with head and page number on each page."""
    pages = 0
    for document in read_sample(sample_section, STEMS, tmp_path):
        found = []
        for number, lines in enumerate(page_lines(rendered / f"{document.stem}.pdf"), start=1):
            assert lines[0] == document.title == TITLES[document.stem]
            assert lines[-1] == str(number)
            found += lines[1:-1]
            pages += 1
        assert fold(" ".join(found)) == printed(document)
    assert pages > 250


def test_metadata_and_outline(rendered: Path) -> None:
    for stem, title in TITLES.items():
        with pypdfium2.PdfDocument(rendered / f"{stem}.pdf") as pdf:
            metadata = pdf.get_metadata_dict()
            assert metadata["Title"] == title
            assert metadata["CreationDate"] == "D:20000101000000+00'00'"
    with pypdfium2.PdfDocument(rendered / "gdpr.pdf") as pdf:
        entries = [(entry.level, entry.get_title()) for entry in pdf.get_toc()]
    assert entries[:2] == [
        (0, "CHAPTER I General provisions"),
        (1, "Article 1 Subject-matter and objectives"),
    ]
    assert len([1 for level, _ in entries if level == 1]) == 99


def test_same_bytes(rendered: Path, sample_section: Corpus, tmp_path: Path) -> None:
    chosen = sample_section.model_copy(update={"documents": ["nis2", "constitution-of-india"]})
    made = make_corpus(chosen, tmp_path, tmp_path / "raw")
    assert [path.name for path in made] == ["nis2.pdf", "constitution-of-india.pdf"]
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == ["constitution-of-india.pdf", "nis2.pdf"]
    for path in made:
        assert path.read_bytes() == (rendered / path.name).read_bytes()


def test_unknown_document(sample_section: Corpus, tmp_path: Path) -> None:
    wrong = sample_section.model_copy(update={"documents": ["gpdr"]})
    with pytest.raises(ConfigError, match=r"corpus\.documents: 'gpdr' is no document; did you mean gdpr\?"):
        make_corpus(wrong, tmp_path, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    twice = sample_section.model_copy(update={"documents": ["gdpr", "gdpr"]})
    with pytest.raises(ConfigError, match="named twice"):
        make_corpus(twice, tmp_path, tmp_path / "raw")


def test_former_files_are_gone_only_after_success(sample_section: Corpus, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "old.pdf").write_text("old")
    wrong = sample_section.model_copy(update={"documents": ["x"]})
    with pytest.raises(ConfigError):
        make_corpus(wrong, tmp_path, tmp_path / "raw")
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]
    assert (tmp_path / "raw" / "old.pdf").is_file()


def test_unprintable_character(tmp_path: Path) -> None:
    document = Document("x", "X", "X", [Article("Article 1", "", ["\u0915"])])
    with pytest.raises(DataError, match=r"U\+0915"):
        render_pdf(document, tmp_path / "x.pdf")


def test_markup_in_the_text(tmp_path: Path) -> None:
    document = Document("x", "A & B", "A & B", [Article("Article 1", "a < b", ["<b>x</b> & “y” — €"])])
    render_pdf(document, tmp_path / "x.pdf")
    assert page_lines(tmp_path / "x.pdf") == [
        ["A & B", "A & B", "Article 1", "a < b", "<b>x</b> & “y” — €", "1"]
    ]


def test_indents() -> None:
    assert indents(["1. x:", "(a) y:", "(i) z;", "(ii) z;", "(b) y"]) == [0, 1, 2, 2, 1]
    assert indents(["(g) x;", "(h) y;", "(i) z;", "(j) z"]) == [1, 1, 1, 1]  # (i) is the letter after (h)
    assert indents(["(1) x:", "(i) y"]) == [0, 2]


def test_sample_has_six_documents() -> None:
    assert len(STEMS) == 6
    assert set(TITLES) == set(STEMS) == {"constitution-of-india", *ACTS}
