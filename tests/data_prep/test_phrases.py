from __future__ import annotations

import pytest

from mark.data_prep.phrases import Casing, brief, dangles, singular_role, without_references


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("the measures referred to in points (a) and (b) of Article 9(1)", "the measures"),
        (
            "the report, pursuant to Article 12 of Regulation (EU) No 1025/2012, to the board",
            "the report to the board",
        ),
        ("the conditions laid down in paragraph 2 of this Article", "the conditions"),
        ("the list (hereinafter the register) of names", "the list of names"),
        ("the rules of Regulation (EU) 2016/679", "the rules"),
    ],
)
def test_references_go(text: str, short: str) -> None:
    assert without_references(text) == short


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("the goods which the buyer has refused", "the goods"),
        ("the goods and shall inform the buyer", "the goods"),
        ("guidance on the matters that concern the market", "guidance"),
        ("all measures to restrict", None),
        ("procedures ensuring", None),
    ],
)
def test_brief_ends_where_a_phrase_ends(text: str, short: str | None) -> None:
    assert brief(text) == short


def test_first_word_is_lowered_only_where_the_corpus_writes_it_small() -> None:
    casing = Casing(["the providers pay", "the providers of Parliament", "and Parliament sits"])
    assert casing.lower_first("Providers of tools") == "providers of tools"
    assert casing.lower_first("Parliament of the land") == "Parliament of the land"
    assert casing.lower_first("The Board") == "the Board"


@pytest.mark.parametrize(
    ("question", "leans"),
    [
        ("Who must sign this agreement?", True),
        ("When does paragraph 2 apply?", True),
        ("What must it contain?", True),
        ("Who must ensure that the gate is shut?", False),
        ("Whose job is it to shut the gate?", False),
        ("What does Article 5 of the Supply Code say?", False),
    ],
)
def test_dangling_references(question: str, leans: bool) -> None:
    assert dangles(question) is leans


def test_roles() -> None:
    assert singular_role("providers of AI systems") == "a provider of AI systems"
    assert singular_role("the importer") == "an importer"
    assert singular_role("the report") is None
