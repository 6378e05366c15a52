"""Verbatim means equal after NFKC and white-space folding; offsets lead back to the passage as written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mark.answering.quotes import find_quote, fold, fold_with_map
from mark.prompting import Passage


def passage(text: str, chunk_id: str = "c1") -> Passage:
    return Passage(chunk_id, "Heading", text)


def test_fold_keeps_case_and_makes_white_space_single() -> None:
    assert fold(" The\u00a0 \ufb01ne\n\tis  \u2460 ") == "The fine is 1"


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
@settings(max_examples=300, deadline=None)
def test_the_map_folds_like_fold(text: str) -> None:
    folded, starts, ends = fold_with_map(text)
    assert folded == fold(text)
    assert len(starts) == len(ends) == len(folded)
    assert all(0 <= start < end <= len(text) for start, end in zip(starts, ends, strict=True))


@given(
    st.lists(
        st.sampled_from(["e", "\u0301", "\u1100", "\u1161", "\u11a8", " ", "\u00a0", "\ufb01", "A"]),
        max_size=12,
    )
)
@settings(max_examples=300, deadline=None)
def test_the_map_folds_like_fold_where_characters_combine(parts: list[str]) -> None:
    text = "".join(parts)
    assert fold_with_map(text)[0] == fold(text)


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("within five days", "It is due within five days of May.", "within five days"),
        ("within five days.", "due within\n five\u00a0days of", "within\n five\u00a0days"),
        ("\u201c4 per cent\u201d", "interest of 4 per cent a year", "4 per cent"),
        ("the fine", "the \ufb01ne is due", "the \ufb01ne"),
        ("caf\u00e9", "a cafe\u0301 here", "cafe\u0301"),
    ],
)
def test_a_quote_is_returned_as_the_passage_writes_it(answer: str, text: str, expected: str) -> None:
    quote = find_quote(answer, [passage("nothing here", "c0"), passage(text)])
    assert quote is not None
    assert (quote.chunk_id, quote.text) == ("c1", expected)
    assert text[quote.start : quote.end] == expected


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("art", "an article"),  # inside a word
        ("The rent", "the rent"),  # case is kept
        ("five days of", "five day of"),
        ("", "anything"),
        (" . ", "anything."),
    ],
)
def test_no_quote(answer: str, text: str) -> None:
    assert find_quote(answer, [passage(text)]) is None


def test_a_later_whole_word_is_found() -> None:
    quote = find_quote("art", [passage("The article on art.")])
    assert quote is not None and (quote.start, quote.end) == (15, 18)
