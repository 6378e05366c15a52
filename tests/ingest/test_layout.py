"""Difficult PDFs read for real: columns, tables, stamps, line numbers, notes, other scripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from mark.ingest.chunk import Source, chunk
from mark.ingest.clean import CleanDocument, clean, normalise
from mark.ingest.pdf import read_pdf
from mark.ingest.sentences import learnt_sentence_ends, sentence_ends
from mark.ingest.structure import Paragraph, sections
from tests.ingest import difficult
from tests.ingest.conftest import raw_page
from tests.ingest.test_chunk import count_words


@pytest.fixture
def read(tmp_path, settings):
    def make(draw, *arguments) -> CleanDocument:
        raw = read_pdf(draw(tmp_path / "file.pdf", *arguments), tmp_path, settings())
        return clean(raw.pages)

    return make


@pytest.mark.parametrize("order", ["columns", "rows"])
@pytest.mark.parametrize("count", [2, 3])
def test_columns_are_read_one_after_the_other(read, order, count):
    texts = (difficult.LEFT_TEXT, difficult.RIGHT_TEXT, difficult.THIRD_TEXT)[:count]
    document = read(difficult.two_columns, order, texts)
    words = document.text.split()
    heading = [
        "COURT",
        "OF",
        "APPEAL",
        "FOR",
        "THE",
        "DISTRICT",
        "OF",
        "BREAD",
        "AND",
        "ROLLS,",
        "SECOND",
        "PANEL",
    ]
    assert words == heading + [word for text in texts for word in text.split()]


def test_stamps_line_numbers_and_page_numbers_go_and_the_body_stays(read):
    document = read(difficult.pleading)
    assert {kind: sum(f.kind == kind for f in document.furniture) for kind in ("line_number", "page_number")} == {
        "line_number": 84, "page_number": 3,
    }  # fmt: skip
    assert any(f.kind == "stamp" for f in document.furniture)
    assert "Filed" not in document.text
    for text in (difficult.LEFT_TEXT, difficult.RIGHT_TEXT, difficult.THIRD_TEXT):
        assert text in document.text.replace("\n", " ")
    assert "3. The plaintiff states in paragraph 3 that the oven cost 28 dollars in 1999" in document.text


def test_table_rows_stay_rows(read):
    rows = [paragraph.text for paragraph in read(difficult.annex).paragraphs]
    assert "Corn bread | 1200 | 12.00 | 2003" in rows
    assert "Type of bread | Weight (g) | Fee (EUR) | Year" in rows
    wrapped = "person named by the keeper in writing | Within two days"
    assert next(row for row in rows if row.endswith(wrapped)).startswith(
        "Report of stale bread to the authority of"
    )
    assert "The persons named in the table below shall do what it says." in rows


def test_notes_in_the_margin_stand_before_their_section(read):
    text = read(difficult.margin_notes).text
    places = [
        text.index(part)
        for part in ("Short title.", "1. The", "Duty to deliver fresh bread.", "2. On", "Dissent.", "3. A")
    ]
    assert places == sorted(places)


def test_a_contract_with_recitals_run_in_titles_and_a_schedule(read):
    keys = [section.key for section in sections(read(difficult.contract).paragraphs, "Supply Agreement")]
    assert keys == ["", "Recitals", "1", "2", "3", "4", "Schedule 1, 1", "Schedule 1, 2"]


def test_chinese_articles(read):
    found = sections(read(difficult.chinese).paragraphs, "面包法")
    assert [(section.key, section.path[0]) for section in found] == [
        ("第一条", "第一章 总则"), ("第二条", "第一章 总则"), ("第三条", "第二章 法律责任"),
    ]  # fmt: skip


def test_hebrew_is_in_reading_order(read):
    assert read(difficult.hebrew).text.split() == " ".join(difficult.HEBREW).split()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("应当交付！可以拒绝吗？依照规定。好", ["应当交付！", "可以拒绝吗？", "依照规定。", "好"]),
        ("他说：「好。」然后走了。完", ["他说：「好。」", "然后走了。", "完"]),
        ("هل يجوز؟ نعم يجوز. انتهى", ["هل يجوز؟", "نعم يجوز.", "انتهى"]),
        ("यह नियम है। वह नहीं।", ["यह नियम है।", "वह नहीं।"]),
        ("Nach § 5 Abs. 3 gilt das. Es bleibt.", ["Nach § 5 Abs. 3 gilt das.", "Es bleibt."]),
    ],
)
def test_sentences(text, sentences):
    ends = [*sentence_ends(text, 0, len(text)), len(text)]
    starts = [0, *ends]
    assert [p for a, b in zip(starts, ends, strict=False) if (p := text[a:b].strip())] == sentences


def test_punkt_learns_a_documents_own_abbreviations():
    ends = ["market", "morning", "bakery", "kitchen", "village", "evening"]
    text = " ".join(
        f"The claim of Pltf. Baker about the {ends[at % 6]} was heard near the {ends[(at + 1 + at // 6) % 6]}."
        for at in range(60)
    )
    learnt, plain = learnt_sentence_ends(text), sentence_ends
    assert len(plain(text, 0, len(text))) > len(learnt(text, 0, len(text))) >= 59


@pytest.mark.parametrize(
    "text",
    [
        "§ 12 Abs. 3 gilt entsprechend.",
        "§ 5 gilt nicht.",
        "Article 5 shall apply.",
        "Article L. 121-1 s'applique.",
    ],
)
def test_references_are_no_headings(text):
    found = sections([Paragraph(0, 1, "Article 1 Scope"), Paragraph(1, 2, text)], "")
    assert [(section.key, len(section.paragraphs)) for section in found] == [("Article 1", 1)]


@pytest.mark.parametrize(
    ("text", "key"),
    [("SECTION 2.01", "Section 2.01"), ("ARTICLE IV", "Article IV"), ("Article L. 121-1", "Article L. 121-1"),
     ("§ 2-201", "§ 2-201"), ("المادة 5", "المادة 5"), ("Статья 7", "Статья 7"), ("EXHIBIT B", "Exhibit B")],
)  # fmt: skip
def test_headings_of_many_countries(text, key):
    found = sections([Paragraph(0, 1, text), Paragraph(1, 2, "The text of it is here.")], "")
    assert [section.key for section in found] == [key]


def test_a_run_without_spaces_keeps_to_the_budget():
    def count(texts: list[str]) -> list[int]:
        return [len(text) + 2 for text in texts]

    document = clean([raw_page(1, "面" * 300)])
    found = chunk(Source("0" * 64, "d", "t"), document, 40, count)
    assert "".join(one.text for one in found) == "面" * 300
    assert all(count([f"{one.heading}\n{one.text}"])[0] <= 40 for one in found)


TEXT = st.text(alphabet="abAB .;-\u00a0\ufb01\u00ad面。١אé\u0301\u200f（", min_size=1, max_size=40)


@given(TEXT)
def test_normalising_twice_changes_nothing(text: str):
    once, _ = normalise(text, 0, len(text))
    assert normalise(once, 0, len(once))[0] == once


WORD_LINES = st.lists(
    st.lists(st.sampled_from(["Bread", "rolls,", "cake.", "(a)", "12", "面包。"]), min_size=1, max_size=8),
    min_size=1,
    max_size=8,
)


@bounded(deadline=None)
@given(WORD_LINES)
def test_every_character_of_the_body_is_in_one_chunk(lines):
    document = clean([raw_page(1, "Article 1 Scope", "Bread is food.", *(" ".join(line) for line in lines))])
    covered = [0] * len(document.text)
    for one in chunk(Source("0" * 64, "d", "t"), document, 30, count_words):
        for at in range(one.start, one.end):
            covered[at] += 1
    body = document.text.index("Bread is food.")
    assert max(covered) == 1
    assert all(covered[at] == 1 for at in range(body, len(covered)) if not document.text[at].isspace())
    assert document.furniture == []
