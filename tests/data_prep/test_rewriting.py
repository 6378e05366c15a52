from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mark.data_prep.candidates import Candidate
from mark.data_prep.rewriting import fault, reworded, rewriter_of
from mark.errors import ModelError
from tests.data_prep.passages import settings
from tests.data_prep.test_candidates import candidate

QUESTION = "Within 30 days, must the supplier repair goods under the Supply Code?"


@pytest.mark.parametrize(
    ("rewritten", "why"),
    [
        ("Does the supplier have to repair goods within 30 days under the Supply Code?", None),
        ("Does the supplier have to repair goods within 60 days under the Supply Code?", "numbers"),
        ("Does the supplier have to repair goods within 30 days under the Trade Code?", "names"),
        ("May the supplier repair goods within 30 days under the Supply Code?", "modality"),
        ("Must the supplier not repair goods within 30 days under the Supply Code?", "modality"),
        ("Why must the supplier repair goods within 30 days under the Supply Code?", "what_is_asked"),
        ("Must the ship sail within 30 days under the Supply Code?", "meaning"),
        ("Sure! Must the supplier repair goods within 30 days under the Supply Code?", "no_single_question"),
        ("The supplier must repair goods within 30 days under the Supply Code.", "no_single_question"),
        (QUESTION, "no_single_question"),
    ],
)
def test_what_survives(rewritten: str, why: str | None) -> None:
    assert fault(QUESTION, rewritten) == why


def test_a_kept_part_must_stay() -> None:
    assert (
        fault("What is a night supplier of goods?", "What is a nightly supplier of goods?", "night supplier")
        == "names"
    )


def _script(answers: dict[str, str]) -> tuple[list[str], object]:
    seen: list[str] = []

    def rewrite(questions: Sequence[str]) -> list[str]:
        seen.extend(questions)
        return [answers[question] for question in questions]

    return seen, rewrite


def test_only_believable_rewritings_replace_their_question() -> None:
    first = candidate("How quickly must the supplier repair goods?", "within thirty days")
    second = candidate("When must the supplier repair the goods?", "within thirty days")
    third = candidate("By when must the supplier mend goods?", "within thirty days")
    seen, rewrite = _script(
        {
            first.question: "How soon does the supplier have to mend goods?",
            second.question: "May the supplier repair the goods?",
        }
    )
    done: list[Candidate] = reworded([first, second, third], rewrite, 2, settings())  # type: ignore[arg-type]
    assert [c.question for c in done] == [
        "How soon does the supplier have to mend goods?",
        second.question,
        third.question,
    ]
    assert seen == [first.question, second.question]
    assert [c.answer for c in done] == ["within thirty days"] * 3


def test_a_rewriting_passes_the_cheap_filters_too() -> None:
    asked = candidate("How quickly must the supplier repair goods?", "within thirty days")
    _, rewrite = _script({asked.question: "How quickly must it repair goods of the supplier?"})
    assert reworded([asked], rewrite, 1, settings()) == [asked]  # type: ignore[arg-type]


def test_too_few_rewritings_are_refused() -> None:
    asked = candidate("How quickly must the supplier repair goods?", "within thirty days")
    with pytest.raises(ValueError, match="shorter"):
        reworded([asked], lambda questions: [], 1, settings())


def test_the_model_is_loaded_only_where_wanted(tmp_path: Path) -> None:
    assert rewriter_of(settings(), tmp_path) is None
    with pytest.raises(ModelError, match="nowhere"):
        rewriter_of(settings(paraphrase=True, paraphrase_model="nowhere"), tmp_path)
