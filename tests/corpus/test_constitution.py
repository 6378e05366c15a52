"""The Constitution of India against its source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mark.corpus.constitution import read_constitution
from mark.corpus.document import fold
from mark.errors import DataError


def test_every_article_but_370(sources: tuple[Path, Path]) -> None:
    document = read_constitution(sources[0])
    rows = [row for row in json.loads(sources[0].read_text(encoding="utf-8")) if row["article"] != 370]
    assert len(document.articles) == len(rows) == 464
    for article, row in zip(document.articles, rows, strict=True):
        source = fold(row["description"]).replace("―", "“").replace("‖", "”")
        assert " ".join(article.lines) == source
        assert all(line == fold(line) != "" for line in article.lines)
    labels = [article.label for article in document.articles]
    assert len(set(labels)) == 464
    assert labels[:3] == ["Preamble", "Article 1", "Article 2"]
    assert "Article 239AA" in labels  # "239 A A" in the source
    assert "Article 370" not in labels
    assert document.articles[0].heading == ""


def test_lines(tmp_path: Path) -> None:
    rows = [
        {"article": 0, "title": "Preamble", "description": "WE, THE PEOPLE\nEQUALITY"},
        {
            "article": "21A",
            "title": "A\u00a0title",
            "description": "(1) One.\n\n\u00a0\n\n (a) two; or (b) three.",
        },
        {"article": 370, "title": "Gone", "description": "Article 370 was abrogated."},
    ]
    (tmp_path / "c.json").write_text(json.dumps(rows))
    document = read_constitution(tmp_path / "c.json")
    assert [a.label for a in document.articles] == ["Preamble", "Article 21A"]
    assert document.articles[1].heading == "A title"
    assert document.articles[1].lines == ["(1) One.", "(a) two; or", "(b) three."]


@pytest.mark.parametrize("text", ["{", "{}", '[{"article": 1}]'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(DataError, match=r"c\.json is no list of articles .*; mend corpus\.constitution"):
        read_constitution(tmp_path / "c.json")
