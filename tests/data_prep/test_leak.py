from __future__ import annotations

import pytest

from mark.data_prep.leak import check_leaks
from mark.data_prep.similarity import QuestionIndex, near_copies, shingles
from mark.data_prep.split import Splits
from mark.errors import LeakError
from mark.records import Example, Split
from tests.data_prep.passages import chunk, example

LONG = "The supplier shall keep every record of each delivery for ten years and show it to the agency on request."
TRAIN = chunk("The buyer shall pay the price on delivery of the goods to the door.", "Article 1")
VAL = chunk("The agency may inspect the warehouse of any supplier at any time.", "Article 2")
TEST = chunk(LONG, "Article 3")
SPLITS = Splits(
    {("code", "Article 1"): "train", ("code", "Article 2"): "val", ("code", "Article 3"): "test"}, "section"
)
CHUNKS = {c.chunk_id: c for c in (TRAIN, VAL, TEST)}


def check(train: list[Example], val: list[Example], test: list[Example]) -> None:
    rows: dict[Split, list[Example]] = {"train": train, "val": val, "test": test}
    check_leaks(rows, SPLITS, CHUNKS)


def test_clean_rows_pass() -> None:
    check(
        [example("train", "When must the buyer pay?", [TRAIN.chunk_id])],
        [example("val", "Who may inspect a warehouse?", [VAL.chunk_id, TRAIN.chunk_id], "Article 2")],
        [example("test", "How long are records kept?", [TEST.chunk_id, TRAIN.chunk_id], "Article 3")],
    )


@pytest.mark.parametrize("chunk_id", [VAL.chunk_id, TEST.chunk_id])
def test_training_must_not_show_held_out_passages(chunk_id: str) -> None:
    with pytest.raises(LeakError, match=r"\(train\) shows code, Article [23] of the (?:val|test) split"):
        check([example("train", "When must the buyer pay?", [chunk_id])], [], [])


def test_validation_must_not_show_test_passages() -> None:
    with pytest.raises(LeakError, match="of the test split"):
        check([], [example("val", "Who may inspect?", [TEST.chunk_id], "Article 2")], [])


def test_a_section_belongs_to_one_split() -> None:
    with pytest.raises(LeakError, match="Article 3 is asked about in train but belongs to test"):
        check([example("train", "How long are records kept?", [TRAIN.chunk_id], "Article 3")], [], [])


def test_questions_must_differ_across_splits() -> None:
    with pytest.raises(LeakError, match="asks almost what a held-out question asks"):
        check(
            [example("train", "How long must the old records be kept safe?", [TRAIN.chunk_id])],
            [],
            [example("test", "how long must old records be kept safe", [TEST.chunk_id], "Article 3")],
        )


def test_a_near_copy_of_a_test_passage_is_found() -> None:
    copy = chunk(LONG.replace("on request.", "if asked."), "Article 1", "other")
    splits = Splits(SPLITS.of_section | {("other", "Article 1"): "train"}, "section")
    rows: dict[Split, list[Example]] = {
        "train": [example("train", "Who pays?", [copy.chunk_id])],
        "val": [],
        "test": [],
    }
    with pytest.raises(LeakError, match="is almost the text of code, Article 3"):
        check_leaks(rows, splits, CHUNKS | {copy.chunk_id: copy})


def test_shingles_and_near_copies() -> None:
    assert len(shingles(" ".join("abcdefghij"))) == 3  # 10 words, windows of 8
    assert shingles("Two words") == frozenset([("two", "words")])
    # 20 words give 13 windows; a change in the last word alone spoils one: 12/13 > 0.8.
    assert near_copies([chunk(LONG[:-8] + "demand.", "Article 9")], [TEST])
    assert not near_copies([TRAIN], [TEST])


def test_question_index_uses_the_jaccard_index() -> None:
    index = QuestionIndex()
    index.add("who must pay the full price now")  # 7 words
    assert "Who must pay the full price today now?" in index  # 7 of 8 = 0.875
    assert "Who must pay the full fee now?" not in index  # 6 of 8 = 0.75
