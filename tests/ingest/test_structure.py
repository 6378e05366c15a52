"""Headings, section keys and numbered points of several kinds of documents."""

from __future__ import annotations

import pytest

from mark.ingest.structure import Paragraph, Section, is_bare_heading, is_point, point_style, sections


def document(*lines: str | tuple[str, float, bool]) -> list[Paragraph]:
    """Paragraphs from texts, or (text, size, bold)."""
    made = []
    for line in lines:
        text, size, bold = line if isinstance(line, tuple) else (line, 10.0, False)
        made.append(Paragraph(0, len(text), text, size, bold))
    return made


def outline(found: list[Section]) -> list[tuple[str, tuple[str, ...], int]]:
    return [(section.key, section.path, len(section.paragraphs)) for section in found]


def test_regulation():
    found = sections(
        document(
            ("Bread Regulation", 16.0, True),
            ("CHAPTER III", 12.0, True),
            ("Rights of the buyer", 12.0, True),
            ("SECTION 1", 12.0, True),
            ("Quality", 12.0, True),
            ("Article 17", 11.0, True),
            ("Right to fresh bread", 11.0, True),
            "1. The buyer shall have the right to fresh bread.",
            "2. Article 5 shall apply.",
            ("Article 18", 11.0, True),
            ("Right to rolls", 11.0, True),
            "Paragraph 1 of Article 17 shall apply.",
            ("CHAPTER IV", 12.0, True),
            ("Final provisions", 12.0, True),
            ("Article 243ZO", 11.0, True),
            "Entry into force at once.",
        ),
        "Bread Regulation",
    )
    chapter, section = "Chapter III Rights of the buyer", "Section 1 Quality"
    assert outline(found) == [
        ("Article 17", (chapter, section, "Article 17 Right to fresh bread"), 2),
        ("Article 18", (chapter, section, "Article 18 Right to rolls"), 1),
        ("Article 243ZO", ("Chapter IV Final provisions", "Article 243ZO"), 1),
    ]


def test_headings_on_one_line_without_bold_print():
    found = sections(
        document(
            "Article 1 Scope",
            "This law applies to bread.",
            "Article 1 shall not apply to rolls.",
            "Article 2 – Definitions",
            "Bread means bread.",
        ),
        "",
    )
    assert outline(found) == [
        ("Article 1", ("Article 1 Scope",), 2),
        ("Article 2", ("Article 2 Definitions",), 1),
    ]


def test_preamble_encloses_nothing():
    found = sections(document("Preamble", "We, the bakers.", "Article 1", "Name", "The guild."), "")
    assert outline(found) == [("Preamble", ("Preamble",), 1), ("Article 1", ("Article 1 Name",), 1)]


def test_contract_with_sections_inside_articles():
    found = sections(
        document(
            ("ARTICLE V", 12.0, True),
            ("PAYMENT", 12.0, True),
            "Section 5.1 Price. The buyer shall pay 3 euros.",
            "Section 5.2 Delay. Interest is 4 per cent.",
        ),
        "",
    )
    assert [(section.key, section.path[0]) for section in found] == [
        ("Section 5.1", "Article V PAYMENT"),
        ("Section 5.2", "Article V PAYMENT"),
    ]
    assert found[0].path[1] == "Section 5.1 Price"
    assert found[0].paragraphs[0].text.startswith("Section 5.1 Price. The buyer")


def test_contract_with_plain_numbers():
    found = sections(
        document(
            "This lease is made today.",
            "1. Definitions",
            "1.1 Rent means 900 euros.",
            "1.2 Tenant means the person who signs.",
            "2. Payment",
            "2.1 The tenant shall pay on the first day.",
            "(a) by transfer, or",
            "(b) in cash.",
        ),
        "",
    )
    assert outline(found) == [("", (), 1), ("1", ("1 Definitions",), 2), ("2", ("2 Payment",), 3)]


def test_paragraph_signs():
    found = sections(
        document("§ 1 Anwendungsbereich", "Dieses Gesetz gilt.", "§ 2 Begriffe", "Brot ist Brot."), ""
    )
    assert [section.key for section in found] == ["§ 1", "§ 2"]


def test_unnumbered_headings_keep_the_article_as_section():
    found = sections(
        document(
            ("GENERAL RULES", 14.0, True),
            ("Article 1", 11.0, True),
            ("Scope", 11.0, True),
            "Text of the first part which is long.",
            ("Exceptions", 10.0, True),
            "Text of the exceptions which is long.",
        ),
        "Title",
    )
    assert [(section.key, section.path) for section in found][1] == (
        "Article 1",
        ("Article 1 Scope", "Exceptions"),
    )


def test_the_printed_title_is_no_level():
    lines = [
        ("The Bread Law", 18.0, True),
        ("Article 1", 11.0, True),
        "This law applies to bread of all kinds.",
    ]
    found = sections(document(*lines), "Bread Law")
    assert found[0].path == ("Article 1",)


def test_text_before_the_first_heading_has_no_section():
    found = sections(document("Introductory words without any heading at all."), "")
    assert outline(found) == [("", (), 1)]


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("1. The seller shall", True), ("(a) fresh;", True), ("(iv) rolls", True), ("1.2 Rent", True),
        ("(17) ‘bread’ means", True), ("a) frisch", True), ("Provided that no", True), ("• bread", True),
        ("(a), and (b)", False), ("(1) of Article 3", False), ("2016 was a year", False), ("The (a)", False),
    ],
)  # fmt: skip
def test_points(text: str, point: bool):
    assert is_point(text) is point


def test_roman_and_letter_i():
    assert point_style("(i) first", ["letter"], "b") == "roman"
    assert point_style("(i) ninth", ["letter"], "h") == "letter"
    assert point_style("(v) fifth", ["letter", "roman"], "a") == "roman"
    assert point_style("(v) letter", ["letter"], "u") == "letter"


@pytest.mark.parametrize("text", ["Article 17", "CHAPTER III", "§ 5", "Article 243ZO", "Annex", "Section 2."])
def test_bare_headings(text: str):
    assert is_bare_heading(text)


@pytest.mark.parametrize("text", ["Article 17 shall", "Article", "Part of it", "Section", "Annex to this"])
def test_not_bare_headings(text: str):
    assert not is_bare_heading(text)
