from __future__ import annotations

import random
import re

import numpy as np
import pytest

from mark.data_prep.leak import check_leaks
from mark.data_prep.passage_copies import near_copies
from mark.data_prep.question_index import QuestionIndex
from mark.data_prep.similarity import shingles
from mark.data_prep.split import Splits
from mark.data_prep.versions import document_clusters
from mark.errors import LeakError
from mark.records import Example, Split
from tests.data_prep import corpora
from tests.data_prep.passages import chunk, example
from tests.data_prep.planted import KINDS

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
    assert len(shingles(" ".join("abcdefghij"))) == 8  # 10 words, windows of 3
    assert len(shingles("Two words")) == 1 and np.array_equal(shingles("TWO,  words!"), shingles("Two words"))
    assert len(shingles("当事人应当")) == 3  # 5 characters, each a word
    # 20 words give 18 windows; a change of the last word alone spoils one: 17/18 > 0.75.
    assert near_copies([chunk(LONG[:-8] + "demand.", "Article 9")], [TEST])
    assert not near_copies([TRAIN], [TEST])


def test_a_short_text_says_little_inside_a_long_one() -> None:
    short = chunk("keep every record of each delivery", "Article 8")
    assert not near_copies([TEST], [short])
    assert near_copies([chunk("Keep every record of each delivery.", "Article 9")], [short])


def test_a_rewording_keeps_the_numbers() -> None:
    held = chunk(
        "The supplier shall notify the agency of any defective delivery not later than 45 days after it has "
        "received a written complaint of the buyer concerned.", "Article 8")  # fmt: skip
    told = (
        "The supplier must notify the agency of every defective delivery within 45 days after a buyer sent it"
    )
    assert near_copies([chunk(told + " a written complaint.", "Article 9")], [held])
    assert not near_copies([chunk(told.replace("45", "60") + " a written complaint.", "Article 9")], [held])


def test_blocks_of_held_out_passages_find_what_one_index_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [
        chunk(f"{LONG} Case {number} stays open until {number + 100} days.", f"A {number}")
        for number in range(7)
    ]
    looked = [chunk(c.text.upper(), "copy") for c in held] + [TRAIN]
    whole = near_copies(looked, held)
    monkeypatch.setattr("mark.data_prep.passage_copies.BLOCK", 2)
    assert near_copies(looked, held).keys() == whole.keys() and len(whole) == 7


@pytest.mark.parametrize(
    ("question", "near"),
    [
        ("Who must pay the full price today now?", True),  # 7 of 8 words: 0.875
        ("Who must pay the full fee now?", True),  # one word differs
        ("Who must pay the full price", True),  # a part
        ("Where must Ireland pay a fee?", False),
        ("Who may reduce the price?", False),
    ],
)
def test_near_wording(question: str, near: bool) -> None:
    index = QuestionIndex()
    index.add("who must pay the full price now")
    assert (question in index) == near


def test_another_name_or_number_makes_another_question() -> None:
    index = QuestionIndex()
    index.add("Who elects the President of the chamber?")
    assert "Who elects the Governor of the chamber?" not in index
    assert "Who removes the President of the chamber?" in index
    assert "WHO ELECTS THE PRESIDENT OF THE CHAMBER" in index
    index.add("Under the Act, what must the Assembly of the State of Goa consist of?")
    assert "Under the Act, what must the Assembly of the State of Sikkim consist of?" not in index


@pytest.mark.parametrize("name", ["NIS2", "Web2.0", "Regulation 2016/679", "COVID-19", "ISO27001"])
def test_a_number_inside_a_name_is_part_of_it(name: str) -> None:
    asked = f"Under {name}, who has to report an incident?"
    index = QuestionIndex()
    index.add(asked)
    assert asked in index and f"{asked[:-1]} at once?" in index
    assert asked.replace(name, "HIPAA") not in index
    assert asked.replace(name, "ISO9001") not in index
    index.add(asked, np.array([1, 0], dtype=np.float32))
    meant = f"Who must report an incident under {name}?"
    assert index.near(meant, np.array([1, 0], dtype=np.float32)) == asked


def test_meaning_counts_where_vectors_are_given() -> None:
    index = QuestionIndex()
    one, far = np.array([1, 0], dtype=np.float32), np.array([0, 1], dtype=np.float32)
    index.add("How soon must the tenant pay the rent?", one)
    asked = "Within which time does a tenant have to settle rent?"
    assert index.near(asked, far) is None
    assert index.near(asked, one) == "How soon must the tenant pay the rent?"
    assert index.near(asked.replace("which", "7 or 8 days"), one) is None  # another number


def test_versions_of_a_document_form_a_cluster() -> None:
    rng = random.Random(4)
    first = [chunk(corpora.provision(rng), f"Article {n}", "contract") for n in range(12)]
    # The second version renumbers its articles, drops two and changes the amounts in three.
    second = [
        chunk(re.sub(r"\d+ days", "5 days", c.text) if n < 3 else c.text, f"Clause {n + 1}", "contract-v2")
        for n, c in enumerate(first[2:])
    ]
    third = [chunk(corpora.provision(rng), f"Article {n}", "lease") for n in range(12)]
    assert document_clusters([*first, *second, *third]) == [["contract", "contract-v2"]]
    reworded = [chunk(KINDS["reworded"](c.text, rng), c.section, "contract-v3") for c in first]
    assert document_clusters([*first, *reworded, *third]) == [["contract", "contract-v3"]]
