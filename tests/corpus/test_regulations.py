"""The EU acts against their source, article by article."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from mark.corpus.document import CUT_NOTE, Document, fold
from mark.corpus.regulations import (
    _FOOTNOTES,
    _LOST_DIVISIONS,
    ACTS,
    drop_incomplete,
    read_act,
    split_divisions,
    split_heading,
)
from mark.errors import DataError

CUT = {"ai-act": [3, 5], "nis2": [6, 32], "dora": [3], "cra": [3, 13]}


@pytest.fixture(scope="module")
def acts(sources: tuple[Path, Path]) -> dict[str, Document]:
    return {stem: read_act(sources[1], stem) for stem in ACTS}


def test_headings_are_the_reviewed_ones(acts: dict[str, Document]) -> None:
    reviewed = (Path(__file__).parent / "headings.tsv").read_text(encoding="utf-8").splitlines()
    found = [
        "\t".join([stem, article.label, article.heading, " / ".join(article.divisions)])
        for stem, document in acts.items()
        for article in document.articles
    ]
    assert found == reviewed


def test_no_word_is_added_or_lost(acts: dict[str, Document], sources: tuple[Path, Path]) -> None:
    """heading + body + the divisions moved below it equal the source, for every uncut article."""
    connection = sqlite3.connect(sources[1])
    checked = 0
    for stem, document in acts.items():
        rows = connection.execute(
            "SELECT article_number, content FROM articles WHERE celex = ? ORDER BY 1", (ACTS[stem].celex,)
        ).fetchall()
        for index, (number, content) in enumerate(rows):
            article = document.articles[index]
            following = document.articles[index + 1].divisions if index + 1 < len(rows) else []
            lost = _LOST_DIVISIONS.get((stem, number + 1), [])
            moved = [division for division in following if division not in lost]
            text = " ".join([article.heading, *article.lines, *moved])
            source = _FOOTNOTES.sub("", fold(content)).replace("Subject matter` ", "Subject matter ")
            if article.cut:
                assert moved == []
                assert source.startswith(text)
            else:
                assert text == source, (stem, number)
                checked += 1
    connection.close()
    assert checked == 393 - 7


def test_cut_articles(acts: dict[str, Document]) -> None:
    cut = {s: [int(a.label.split()[1]) for a in d.articles if a.cut] for s, d in acts.items()}
    assert {stem: numbers for stem, numbers in cut.items() if numbers} == CUT
    for document in acts.values():
        for article in document.articles:
            assert CUT_NOTE not in article.lines
            if article.cut:
                assert re.search(r"[.;]( or| and)?$", article.lines[-1]), article.lines[-1]


def test_points_stand_on_their_own_lines(acts: dict[str, Document]) -> None:
    """No line holds the end of one point and the start of the next."""
    inside = re.compile(r"[.;:] (?:(?:and|or) )?(?:\d{1,2}\.|\(\d{1,2}\)|\((?:[a-z]|[ivx]{2,4})\)) [A-Za-z]")
    for document in acts.values():
        for article in document.articles:
            for line in article.lines:
                assert not inside.search(line), (document.stem, article.label, line)


def test_divisions_in_order(acts: dict[str, Document]) -> None:
    """Chapters count up from I without a gap."""
    roman = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII"]
    for document in acts.values():
        names = [d for article in document.articles for d in article.divisions if d.startswith("CHAPTER")]
        assert [name.split()[1] for name in names] == roman[: len(names)]


def test_definitions(acts: dict[str, Document]) -> None:
    article = acts["gdpr"].articles[3]
    assert article.heading == "Definitions"
    assert article.lines[0] == "For the purposes of this Regulation:"
    assert article.lines[1].startswith("(1) ‘personal data’ means any information")


@pytest.mark.parametrize(
    ("text", "kept", "divisions"),
    [
        ("1. End. CHAPTER II Principles", "1. End.", ["CHAPTER II Principles"]),
        (
            "End. CHAPTER III Rights Section 1 Modalities",
            "End.",
            ["CHAPTER III Rights", "Section 1 Modalities"],
        ),
        ("End. Section II", "End.", ["Section II"]),
        ("See: (a) Chapter V on transfers.", "See: (a) Chapter V on transfers.", []),
        ("Under Section 2 of Chapter III.", "Under Section 2 of Chapter III.", []),
    ],
)
def test_split_divisions(text: str, kept: str, divisions: list[str]) -> None:
    assert split_divisions(text) == (kept, divisions)


@pytest.mark.parametrize(
    ("text", "heading"),
    [
        ("Scope 1. This Regulation", "Scope"),
        ("Definitions For the purposes of", "Definitions"),
        ("Tasks of the Board The Board shall", "Tasks of the Board"),
        (
            "Amendment to Regulation (EC) No 300/2008 In Article 4(3)",
            "Amendment to Regulation (EC) No 300/2008",
        ),
    ],
)
def test_split_heading(text: str, heading: str) -> None:
    assert split_heading("other", 1, text) == (heading, text[len(heading) + 1 :])


def test_heading_without_body() -> None:
    with pytest.raises(DataError, match="no end of the heading"):
        split_heading("other", 1, "all lower case and no body")


def test_drop_incomplete() -> None:
    assert drop_incomplete(["1. A.", "2. B and"]) == ["1. A."]
    assert drop_incomplete(["1. A.", "2. B."]) == ["1. A.", "2. B."]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database at all, but long enough to be read as one" * 10)
    with pytest.raises(DataError, match=r"x\.db is no database of EU acts"):
        read_act(tmp_path / "x.db", "gdpr")
    connection = sqlite3.connect(tmp_path / "y.db")
    connection.execute("CREATE TABLE regulations (celex, title)")
    connection.execute("CREATE TABLE articles (celex, article_number, content, content_length)")
    connection.commit()
    connection.close()
    with pytest.raises(DataError, match="holds no 32016R0679"):
        read_act(tmp_path / "y.db", "gdpr")
