from __future__ import annotations

import pytest

from mark.data_prep.candidates import cheap_fault
from mark.data_prep.overlap import longest_run, overlap
from tests.data_prep.passages import settings
from tests.data_prep.test_candidates import candidate


def test_longest_run_by_hand() -> None:
    assert longest_run(["a", "b", "c", "d"], ["x", "b", "c", "y", "c", "d"]) == 2
    assert longest_run(["a", "b", "a", "b"], ["b", "a", "b", "a"]) == 3
    assert longest_run([], ["a"]) == 0


def test_overlap_counts_content_words_and_the_run() -> None:
    # supplier, repair, defective, goods stand in the sentence, quickly does not: 4 of 5.
    found = overlap(
        "How quickly must the supplier repair defective goods?",
        "The supplier shall repair defective goods in May.",
    )
    assert found.share == pytest.approx(4 / 5)
    assert found.run == 3  # repair defective goods


def test_a_defined_term_is_no_repetition() -> None:
    assert (
        overlap(
            "What is 'the night supplier of goods'?",
            "‘night supplier of goods’ means a person",
            "the night supplier of goods",
        ).run
        == 0
    )


def test_a_question_that_copies_its_source_is_dropped() -> None:
    copied = candidate("When must the supplier repair defective goods?", "within thirty days")
    assert cheap_fault(copied, settings(max_overlap_run=2)) == "repeats_source"
    assert cheap_fault(copied, settings(max_overlap_run=3)) is None
    assert cheap_fault(candidate("When is the supplier bound to repair defective goods?", "within thirty days"),
                       settings(max_overlap_share=0.5)) == "repeats_source"  # fmt: skip
