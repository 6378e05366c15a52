"""Where a flattened text breaks, and where it must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mark.corpus.points import split_points


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "1. Data shall be: (a) kept; (b) deleted; and (c) counted. 2. See paragraph 1. 3. End.",
            ["1. Data shall be:", "(a) kept;", "(b) deleted; and", "(c) counted.", "2. See paragraph 1.", "3. End."],
        ),
        # cross references stay whole
        ("1. In accordance with Article 6(1), point (a), and (EU) No 910/2014. 2. Text.",
         ["1. In accordance with Article 6(1), point (a), and (EU) No 910/2014.", "2. Text."]),
        ("1. Cases: (a) one; (b) points (a), (b) and (c) of it. 2. Text.",
         ["1. Cases:", "(a) one;", "(b) points (a), (b) and (c) of it.", "2. Text."]),
        ("1. As said in paragraph 2. 4. is no next point. 2. Text.",
         ["1. As said in paragraph 2. 4. is no next point.", "2. Text."]),
        # (i) is Roman after a colon, a letter after (h)
        ("(g) x; (h) y", ["(g) x; (h) y"]),
        ("(a) p: (i) q; (ii) r; (b) s; (c) t", ["(a) p:", "(i) q;", "(ii) r;", "(b) s;", "(c) t"]),
        ("A: (a) 1; (b) 2; (c) 3; (d) 4; (e) 5; (f) 6; (g) 7; (h) 8; (i) 9; (j) 10.",
         ["A:", "(a) 1;", "(b) 2;", "(c) 3;", "(d) 4;", "(e) 5;", "(f) 6;", "(g) 7;", "(h) 8;", "(i) 9;", "(j) 10."]),
        # amendments quote points that start anywhere
        ("X is amended: (1) it reads: ‘3. New text.’; (2) point 4 is deleted.",
         ["X is amended:", "(1) it reads:", "‘3. New text.’;", "(2) point 4 is deleted."]),
        ("Means: (1) one; (2) two", ["Means:", "(1) one;", "(2) two"]),
        ("No point at all.", ["No point at all."]),
        ("", [""]),
    ],
)  # fmt: skip
def test_lines(text: str, lines: list[str]) -> None:
    assert split_points(text) == lines


@given(
    st.lists(st.sampled_from(["1.", "2.", "(a)", "(b)", "(i)", "(1)", "x;", "y.", "z:", "and", "‘3.", "p"]))
)
def test_nothing_is_lost(words: list[str]) -> None:
    text = " ".join(words)
    assert " ".join(split_points(text)) == text
