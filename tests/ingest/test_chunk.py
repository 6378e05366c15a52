"""Chunks: inside one article, inside the budget, verbatim, and cut at the best places."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mark.ingest.chunk import Source, chunk
from mark.ingest.clean import clean
from mark.records import Chunk
from tests.ingest.conftest import cleaned, raw_page

SOURCE = Source("0" * 64, "bread", "Bread")


def count_words(texts: list[str]) -> list[int]:
    """A tokenizer by hand: a word is a token, plus two special tokens."""
    return [len(text.split()) + 2 for text in texts]


def chunks_of(budget: int, *lines: str) -> list[Chunk]:
    return chunk(SOURCE, cleaned(*lines), budget, count_words)


def test_small_points_are_packed_and_articles_kept_apart():
    found = chunks_of(
        30,
        "Article 1",
        "Scope",
        "1. Bread is food.",
        "2. Rolls are food.",
        "Article 2",
        "Rest",
        "Cake is food.",
    )
    assert [(c.section, c.heading_path, c.text) for c in found] == [
        ("Article 1", ["Article 1 Scope"], "1. Bread is food.\n2. Rolls are food."),
        ("Article 2", ["Article 2 Rest"], "Cake is food."),
    ]
    assert found[0].heading == "Bread > Article 1 Scope"


def test_a_lead_in_stays_with_its_first_point():
    # heading "Bread > Article 1 Scope" = 5 words + 2 special; 17 - 7 leaves 10 words.
    found = chunks_of(
        17,
        "Article 1",
        "Scope",
        "1. One two three four five six.",
        "2. Bread shall be:",
        "(a) fresh;",
        "(b) good and warm.",
    )
    assert [c.text for c in found] == [
        "1. One two three four five six.",
        "2. Bread shall be:\n(a) fresh;\n(b) good and warm.",
    ]


def test_long_points_are_cut_after_sentences_then_clauses_then_words():
    # heading 7, 8 words left: the sentences of 4 and 6 words do not fit together.
    found = chunks_of(15, "Article 1", "Scope", "Bread is fresh food. Rolls are small and round too.")
    assert [c.text for c in found] == ["Bread is fresh food.", "Rolls are small and round too."]
    # 6 words left: a cut after `;` leaves 8 words, so a comma it is, and then the fewest chunks.
    found = chunks_of(13, "Article 1", "Scope", "Bread is fresh; rolls are, if small, round or even flat")
    assert [c.text for c in found] == ["Bread is fresh; rolls are,", "if small, round or even flat"]
    found = chunks_of(11, "Article 1", "Scope", "One two three four five six")
    assert [len(c.text.split()) for c in found] in ([4, 2], [3, 3], [2, 4])


def test_abbreviations_do_not_end_a_sentence():
    found = chunks_of(
        16, "Article 1", "Scope", "See No. 5 of Art. 7 first. Then Mr. Baker and the U.S. Rule apply here."
    )
    assert [c.text for c in found] == [
        "See No. 5 of Art. 7 first.",
        "Then Mr. Baker and the U.S. Rule apply here.",
    ]


def test_headings_without_text_make_no_chunk():
    found = chunks_of(30, "CHAPTER I", "General", "Article 1", "Article 2", "Scope", "Bread is food.")
    assert [(c.section, c.text) for c in found] == [("Article 2", "Bread is food.")]


def test_long_heading_paths_lose_their_outer_titles():
    outer = "Rules on the delivery of bread to shops and to persons"  # 11 words
    found = chunks_of(30, "CHAPTER I", outer, "Article 1", "Scope", "Bread is food.")
    assert found[0].heading_path == ["Chapter I", "Article 1 Scope"]  # half of 30 tokens for the heading
    found = chunks_of(60, "CHAPTER I", outer, "Article 1", "Scope", "Bread is food.")
    assert found[0].heading_path == [f"Chapter I {outer}", "Article 1 Scope"]


def test_pages_of_a_chunk():
    document = clean(
        [raw_page(4, "Article 1", "Scope", "The bread of the"), raw_page(7, "baker is fresh.", "Yes.")]
    )
    (found,) = chunk(SOURCE, document, 40, count_words)
    assert found.pages == [4, 7]
    assert found.text == "The bread of the baker is fresh.\nYes."


def test_ids_are_stable_and_distinct():
    lines = ["Article 1", "Scope", "Bread is food.", "Article 2", "Scope", "Bread is food."]
    first, second = chunks_of(30, *lines), chunks_of(30, *lines)
    assert first == second
    assert len({c.chunk_id for c in first}) == 2


LINE = st.sampled_from(
    ["Article 1", "Article 2 Scope", "CHAPTER I", "1. Bread shall be:", "(a) fresh, warm and good;", "(i) or not",
     "Provided that it is so.", "The seller delivers. The buyer pays; he may also, if he likes, wait and see.",
     "word " * 60, "x", "SHOUTED HEADING", "- ", "§ 5 Brot", "1.1 Rent means 900 euros a month."]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(LINE, max_size=8), min_size=1, max_size=4), st.integers(16, 60))
def test_chunks_are_verbatim_ordered_and_inside_the_budget(pages: list[list[str]], budget: int):
    document = clean([raw_page(n, *lines) for n, lines in enumerate(pages, start=1)])
    joined = document.text
    end = 0
    for found in chunk(SOURCE, document, budget, count_words):
        assert found.text == joined[found.start : found.end]
        assert found.text.strip() == found.text != ""
        assert found.start >= end  # no overlap
        end = found.end
        assert count_words([f"{found.heading}\n{found.text}"])[0] <= budget
        spans = {page.page: (page.offset, page.offset + len(page.text)) for page in document.pages}
        assert found.pages == [n for n, (a, b) in spans.items() if a < found.end and found.start < b]
