"""The user's own PDFs: added, linked into the corpus, taken away, with the real DVC."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mark.config import Corpus
from mark.corpus import make_corpus
from mark.corpus.user_files import add_pdfs, remove_pdfs
from mark.errors import ConfigError, DataError

PDF = b"%PDF-1.4 one"


def pdf(path: Path, content: bytes = PDF) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    return root


def test_add_and_remove_with_dvc(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    pdf(folder / "a.pdf")
    pdf(folder / "deep" / "b.PDF", b"%PDF-1.4 two")
    (folder / "notes.txt").write_text("no PDF")
    assert add_pdfs([folder], project) == ["a.pdf", "b.pdf"]
    kept = project / "data/pdfs"
    assert sorted(p.name for p in kept.iterdir()) == [
        ".gitignore",
        "a.pdf",
        "a.pdf.dvc",
        "b.pdf",
        "b.pdf.dvc",
    ]
    assert (kept / ".gitignore").read_text().split() == ["/a.pdf", "/b.pdf"]
    before = (kept / "a.pdf.dvc").read_bytes()
    assert add_pdfs([folder / "a.pdf"], project) == ["a.pdf"]  # the same content again: nothing to do
    assert (kept / "a.pdf.dvc").read_bytes() == before
    with pytest.raises(DataError, match=r"holds no 'aa'; did you mean a\.pdf\?"):
        remove_pdfs(["b", "aa"], project)
    assert (kept / "b.pdf").exists()  # nothing is removed when one name is wrong
    remove_pdfs(["a.pdf", "b"], project)
    assert [p.name for p in kept.iterdir() if p.suffix != ".gitignore" and p.name != ".gitignore"] == []


def test_without_dvc(tmp_path: Path) -> None:
    assert add_pdfs([pdf(tmp_path / "a.pdf")], tmp_path, dvc=False) == ["a.pdf"]
    assert [p.name for p in (tmp_path / "data/pdfs").iterdir()] == ["a.pdf"]
    remove_pdfs(["a"], tmp_path)
    assert list((tmp_path / "data/pdfs").iterdir()) == []


def test_mistakes_of_add(tmp_path: Path) -> None:
    pdf(tmp_path / "x" / "a.pdf")
    pdf(tmp_path / "y" / "a.pdf", b"%PDF-1.4 other")
    (tmp_path / "empty").mkdir()
    pdf(tmp_path / "word.pdf", b"PK\x03\x04 a zip")
    cases = [
        ([tmp_path / "x", tmp_path / "y"], "differ but would share the name a.pdf; rename one"),
        ([tmp_path / "wort.pdf"], r"wort.pdf does not exist; did you mean .*word.pdf\?"),
        ([tmp_path / "empty"], "empty holds no PDF; name a folder"),
        ([tmp_path / "word.pdf"], "word.pdf is no PDF"),
    ]
    for paths, message in cases:
        with pytest.raises(DataError, match=message):
            add_pdfs(paths, tmp_path, dvc=False)
    assert not (tmp_path / "data").exists()
    add_pdfs([tmp_path / "x"], tmp_path, dvc=False)
    with pytest.raises(DataError, match=r"share the name a\.pdf; rename one, or `mark remove a\.pdf` first"):
        add_pdfs([tmp_path / "y"], tmp_path, dvc=False)
    with pytest.raises(DataError, match=r"`dvc add` failed: .*; mend that"):
        add_pdfs([tmp_path / "x"], tmp_path)  # no DVC project here
    with pytest.raises(DataError, match=r"holds no 'zzz\.doc'; it holds a\.pdf"):
        remove_pdfs(["zzz.doc"], tmp_path)


def test_folder_corpus(sample_section: Corpus, tmp_path: Path) -> None:
    section = sample_section.model_copy(update={"source": "folder", "documents": []})
    pdfs, out = tmp_path / "data/pdfs", tmp_path / "raw"
    with pytest.raises(DataError, match=r"data/pdfs holds no PDF; add some with `mark add FILE`"):
        make_corpus(section, pdfs, out)
    assert not out.exists()
    pdf(pdfs / "b.pdf")
    pdf(pdfs / "a.pdf", b"%PDF-1.4 two")
    (pdfs / "a.pdf.dvc").write_text("")
    assert make_corpus(section, pdfs, out) == [out / "a.pdf", out / "b.pdf"]
    assert (out / "a.pdf").read_bytes() == b"%PDF-1.4 two"
    chosen = section.model_copy(update={"documents": ["b"]})
    assert make_corpus(chosen, pdfs, out) == [out / "b.pdf"]
    assert [p.name for p in out.iterdir()] == ["b.pdf"]
    assert sorted(p.name for p in pdfs.iterdir()) == ["a.pdf", "a.pdf.dvc", "b.pdf"]
    with pytest.raises(ConfigError, match=r"'bb' is no document; did you mean b\?"):
        make_corpus(section.model_copy(update={"documents": ["bb"]}), pdfs, out)


def test_folder_corpus_copies_across_file_systems(
    sample_section: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    pdf(tmp_path / "pdfs" / "a.pdf")
    monkeypatch.setattr("os.link", no_links)
    section = sample_section.model_copy(update={"source": "folder", "documents": []})
    made = make_corpus(section, tmp_path / "pdfs", tmp_path / "raw")
    assert made[0].read_bytes() == PDF
    assert made[0].stat().st_nlink == 1
