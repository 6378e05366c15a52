from __future__ import annotations

from mark.data_prep.sentences import list_blocks, statements
from tests.data_prep.passages import chunk


def test_abbreviations_and_numbers_do_not_end_a_sentence() -> None:
    text = "Regulation (EC) No. 765/2008 applies, cf. Art. 3. The fee is 2.5 euros, e.g. for copies. Dr. Roe signs."
    assert [s.text for s in statements(chunk(text))] == [
        "Regulation (EC) No. 765/2008 applies, cf. Art. 3.",
        "The fee is 2.5 euros, e.g. for copies.",
        "Dr. Roe signs.",
    ]


def test_points_know_the_clause_that_leads_into_them() -> None:
    text = "1. The supplier shall:\n(a) keep the books;\n(b) pay the fee. The fee is small.\n2. Nobody else pays."
    found = [(s.marker, s.lead, s.text) for s in statements(chunk(text))]
    assert found == [
        ("1.", "", "The supplier shall:"),
        ("(a)", "The supplier shall:", "keep the books;"),
        ("(b)", "The supplier shall:", "pay the fee."),
        ("(b)", "", "The fee is small."),
        ("2.", "", "Nobody else pays."),
    ]


def test_a_reference_to_a_point_is_no_point() -> None:
    text = "The grounds in points (a) and (b) of Article 6(1) apply."
    assert [s.marker for s in statements(chunk(text))] == [""]


def test_letter_i_after_h_is_a_point_and_a_lone_i_a_subpoint() -> None:
    text = "It covers: (h) boats; (i) planes; (j) cars: (i) old ones; (ii) new ones."
    found = [(s.marker, s.level) for s in statements(chunk(text))]
    assert found[1:] == [("(h)", 1), ("(i)", 1), ("(j)", 1), ("(i)", 2), ("(ii)", 2)]


def test_a_sentence_that_the_passage_cuts_is_marked() -> None:
    found = statements(chunk("of the two bodies. The chair shall call the"))
    assert [s.cut for s in found] == [True, True]
    assert [s.cut for s in statements(chunk("The chair shall call the meeting."))] == [False]


def test_list_block_holds_all_items_verbatim() -> None:
    text = "The file shall contain: (a) the name; (b) the date; and (c) the sum. It is kept safe."
    [block] = list_blocks(chunk(text))
    assert block.items == ("the name", "the date", "the sum.")
    assert block.text == "(a) the name; (b) the date; and (c) the sum."
    assert block.text in text
