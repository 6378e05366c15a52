from __future__ import annotations

import pytest

from mark.data_prep.references import Provisions, references, section_number
from tests.data_prep.passages import chunk


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the notice referred to in Article 5(1) is given", [("5", ("1",))]),
        ("as provided in section 12, the tenant", [("12", ())]),
        ("a fee payable under Section 1798.100(a) of this Act", [("1798.100", ("a",))]),
        ("the list referred to in paragraph 2 is kept", [("", ("2",))]),
        ("a notice given under subsection (b)", [("", ("b",))]),
        ("in accordance with clause 4.2", [("4.2", ())]),
        ("Articles 5 and 6 apply", []),
        ("Article 101 TFEU applies", []),
        ("Article 12 of Regulation (EU) No 1025/2012", []),
        ("paragraph 3 of Article 9", [("9", ())]),
    ],
)
def test_references(text: str, found: list[tuple[str, tuple[str, ...]]]) -> None:
    assert [(ref.number, ref.inner) for ref in references(text)] == found


def test_section_numbers() -> None:
    assert section_number("Article 17") == "17"
    assert section_number("Section 1798.100") == "1798.100"
    assert section_number("Annex 3") == "" and section_number("Preamble") == ""


ORIGIN = chunk("The supplier shall send the notice referred to in Article 2(1).", "Article 1")
TARGET = chunk(
    "1. The buyer may give a notice of defects. It is free. 2. The agency keeps a list.", "Article 2"
)


def test_a_reference_finds_the_whole_paragraph() -> None:
    same = {ORIGIN.chunk_id: "train", TARGET.chunk_id: "train"}
    [reference] = references(ORIGIN.text)
    found = Provisions([ORIGIN, TARGET], same).find(reference, ORIGIN)
    assert [statement.text for _, statement in found] == [
        "The buyer may give a notice of defects.",
        "It is free.",
    ]


def test_a_reference_does_not_leave_its_split() -> None:
    [reference] = references(ORIGIN.text)
    apart = {ORIGIN.chunk_id: "train", TARGET.chunk_id: "test"}
    assert Provisions([ORIGIN, TARGET], apart).find(reference, ORIGIN) == []
    assert Provisions([ORIGIN, TARGET]).find(reference, ORIGIN) == []


def test_a_number_that_two_sections_share_is_not_followed() -> None:
    twins = [
        chunk("A notice is given.", "Chapter I Section 2"),
        chunk("A notice is kept.", "Chapter II Section 2"),
    ]
    [reference] = references("the notice referred to in section 2")
    assert (
        Provisions([ORIGIN, *twins], {c.chunk_id: "train" for c in [ORIGIN, *twins]}).find(reference, ORIGIN)
        == []
    )
