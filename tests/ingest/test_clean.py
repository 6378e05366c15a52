"""Running heads, hyphens, wrapped lines, and the way back to the raw characters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mark.ingest.clean import CleanDocument, clean, normalise
from mark.ingest.pdf import read_pdf
from tests.ingest.conftest import cleaned, printed_page, raw_page


def paragraphs(document: CleanDocument) -> list[str]:
    return [paragraph.text for paragraph in document.paragraphs]


def raw_index(document: CleanDocument, page: int, at: int) -> int:
    """What raw_map says about a cleaned character."""
    start, raw = max(run for run in document.pages[page].raw_map if run[0] <= at)
    return raw + at - start


def test_ligatures_spaces_and_marks_become_plain():
    text = "\ufb01ne\u00a0 \u2009print\u200b cafe\u0301 10\u00b2"
    # the ligature gives two characters of raw 0; three odd spaces become one; e + acute become é;
    # the superscript stays, because 102 would be another number
    plain, raw = normalise(text, 0, len(text))
    assert plain == "fine print café 10²"
    assert raw[:4] == [0, 0, 1, 2]
    assert len(raw) == len(plain)


def test_running_heads_and_page_numbers_go():
    body = [
        "The seller shall deliver the bread.",
        "The buyer shall pay for it.",
        "The bread shall be fresh.",
        "The buyer may refuse stale bread.",
    ]
    pages = [
        raw_page(n, f"Bread Act, edition {n}", f"Page {n} of 4", text, str(n + 10))
        for n, text in enumerate(body, start=1)
    ]
    assert paragraphs(clean(pages)) == body


def test_list_numbers_and_article_headings_at_the_edge_stay():
    # 7, 3, 12 are no page numbers: their distance to the page changes. Headings differ in digits only.
    pages = [
        raw_page(n, f"Article {n}", f"Text number {'abc'[n - 1]}.", str(m))
        for n, m in ((1, 7), (2, 3), (3, 12))
    ]
    joined = clean(pages).text
    assert all(f"Article {n}" in joined for n in (1, 2, 3))
    assert all(f"\n{m}" in joined for m in (7, 3, 12))


def test_a_page_of_running_heads_only_is_named():
    pages = [
        raw_page(n, "Bread Act", *([] if n == 2 else [f"Clause text {'xyz'[n - 1]}."])) for n in (1, 2, 3)
    ]
    document = clean(pages)
    assert document.emptied == [2]
    assert [page.page for page in document.pages] == [1, 3]


def test_hyphens_at_line_ends():
    document = clean(
        [
            printed_page(
                1,
                ("The deliveries of exam-", 500, 700),
                ("ple bread and of self-", 500, 688),
                ("raising flour are an example of pre- or post-", 500, 676),
                ("and mid-season work under ISO-", 500, 664),
                ("9001.", 100, 652),
            )
        ]
    )
    # "example" stands whole in line 3, "selfraising" nowhere; "post- and" keeps its hyphen and a space
    assert document.text == (
        "The deliveries of example bread and of self-raising flour are an example of pre- or post- and "
        "mid-season work under ISO-9001."
    )


def test_pdfium_marks_of_broken_words(tmp_path, text_pdf, settings):
    path = text_pdf(
        tmp_path / "hyphen.pdf",
        ["The deliveries of exam-", "ple bread are self-", "evident; they are an example of fresh bread."],
    )
    document = clean(read_pdf(path, tmp_path, settings()).pages)
    assert (
        document.text
        == "The deliveries of example bread are self-evident; they are an example of fresh bread."
    )


def test_wrapped_lines_join_points_do_not():
    document = clean(
        [
            printed_page(
                1,
                ("1. The seller shall deliver the bread that is described in", 500, 700),
                ("paragraph 2 and in point", 498, 688),
                ("(a) of Article 3.", 200, 676),
                ("2. The bread shall be:", 180, 664),
                ("(a) fresh;", 120, 652),
                ("(b) baked on the day on which it is delivered, unless the parties", 500, 640),
                ("agree otherwise.", 150, 628),
            )
        ]
    )
    assert paragraphs(document) == [
        "1. The seller shall deliver the bread that is described in paragraph 2 and in point (a) of Article 3.",
        "2. The bread shall be:",
        "(a) fresh;",
        "(b) baked on the day on which it is delivered, unless the parties agree otherwise.",
    ]


def test_bold_lines_and_gaps_end_a_paragraph():
    document = clean(
        [
            printed_page(
                1,
                ("Article 4", 120, 740, True),
                ("Delivery of bread and rolls to the", 500, 728, True),
                ("buyer", 110, 716, True),
                ("The seller shall deliver on each working day of the week and", 500, 704),
                ("on Saturdays as well as before all the public holidays of May", 500, 692),
                ("New paragraph after a gap that starts a new line of the page x", 500, 668),
            )
        ]
    )
    assert paragraphs(document)[:2] == ["Article 4", "Delivery of bread and rolls to the buyer"]
    assert len(document.paragraphs) == 4


def test_a_paragraph_runs_on_over_the_page():
    first = printed_page(
        1, ("The seller shall deliver the bread to the", 500, 700), ("door of the", 500, 688)
    )
    second = printed_page(2, ("buyer on each day.", 200, 700), ("The buyer pays.", 150, 688))
    document = clean([first, second])
    assert (
        paragraphs(document)[0] == "The seller shall deliver the bread to the door of the buyer on each day."
    )
    # the separator belongs to the page before it, so that page texts join without loss
    assert document.pages[0].text.endswith("of the ")
    assert document.pages[1].offset == len(document.pages[0].text)


def test_text_without_geometry_keeps_its_own_breaks():
    document = cleaned(
        "The seller shall deliver", "the bread.", "The buyer shall pay.", "1. First point", "goes on;"
    )
    assert paragraphs(document) == [
        "The seller shall deliver the bread.",
        "The buyer shall pay.",
        "1. First point goes on;",
    ]


WORDS = st.text(alphabet="abcdeAB ,.;-\u00a0\ufb01\u00ad123(é\u0301", min_size=1, max_size=30)


@given(st.lists(st.lists(WORDS, min_size=1, max_size=6), min_size=1, max_size=4))
def test_texts_join_and_every_character_has_its_source(lines: list[list[str]]):
    pages = [raw_page(n, *texts) for n, texts in enumerate(lines, start=1)]
    document = clean(pages)
    joined = document.text
    for paragraph in document.paragraphs:
        assert joined[paragraph.start : paragraph.end] == paragraph.text
        assert paragraph.text == paragraph.text.strip()
    by_number = {page.page: page.text for page in pages}
    for number, page in enumerate(document.pages):
        assert joined[page.offset : page.offset + len(page.text)] == page.text
        raw = by_number[page.page]
        for at, char in enumerate(page.text):
            if char.isascii() and char.isalnum() and raw[raw_index(document, number, at)] != "\ufb01":
                assert raw[raw_index(document, number, at)] == char
