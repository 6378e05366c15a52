"""The loop: forty ratings through the journal, the inbox and a review change what the rlhf stage trains on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mark.commands.feedback import list_feedback, review_feedback
from mark.config import Paths
from mark.files import write_jsonl
from mark.pipeline.answer import Answer, Context, Seconds
from mark.pipeline.feedback import add_feedback
from mark.pipeline.journal import Journal
from mark.records import Chunk
from mark.rlhf.feedback import ACCEPTED, read_accepted
from mark.rlhf.inputs import RlhfInputs, held_out_questions
from mark.rlhf.people import Human, from_people
from mark.rlhf.preferences import FromSamples, Preferences, QuestionCounts, build_preferences
from tests.conftest import ROOT
from tests.rlhf.small import rlhf_settings
from tests.train.small import chunk, example

_CHUNKS = [chunk(i) for i in range(20)]
_THINGS = [
    "boat",
    "club",
    "dam",
    "elm",
    "fox",
    "gate",
    "hut",
    "inn",
    "jar",
    "kiln",
    "lamp",
    "mill",
    "net",
    "oak",
    "pump",
    "quay",
    "raft",
    "shed",
    "tent",
    "urn",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with passages and one test question."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_jsonl(tmp_path / "data/chunks.jsonl", _CHUNKS)
    tested = example(1, "test", _CHUNKS).model_copy(
        update={"question": "Who paints the harbour wall in spring?"}
    )
    write_jsonl(tmp_path / "data/test_sft.jsonl", [tested])
    write_jsonl(tmp_path / ACCEPTED, [])
    return tmp_path


def answered(question: str, text: str, passage: Chunk) -> Answer:
    context = Context(
        chunk_id=passage.chunk_id, document=passage.document, title=passage.title, heading="",
        pages=passage.pages, text=passage.text,
    )  # fmt: skip
    return Answer(
        question=question, text=text, quotes=[], refused=False, supported=False, refusal_probability=0.1,
        refusal_calibrated=True, contexts=[context], model="tiny_lora", model_sha256="a" * 64, rule="priority",
        notes=[], seconds=Seconds(retrieval=0, generation=0, checks=0, total=0),
    )  # fmt: skip


def forty_ratings(root: Path) -> list[str]:
    """16 up, 8 down, 14 edits and 2 about the test question, from four people; returns the ids."""
    names = []
    for number in range(40):
        if number < 38:
            question = f"What is due for the {_THINGS[number % 20]} in year {1900 + number}?"
        else:
            question = (
                "Who paints the harbour wall in spring, please?"
                if number == 38
                else "Who paints the harbour wall in spring?"
            )
        answer = answered(question, f"{number} euros", _CHUNKS[number % 20])
        Journal(root, 2000).write([answer])
        rating: Any = "up" if number < 16 else "down"
        edited = f"{number} euros a year" if 24 <= number < 38 else None
        placed = add_feedback(root, answer.response_id, rating, edited, None, f"person{number % 4}")
        assert placed.placed == "added"
        names.append(answer.response_id)
    return names


def trained_on(root: Path, method: Any) -> Preferences:
    """What the rlhf stage would read, without answers of a model."""
    inputs = _inputs(root)
    people = Human(
        inputs.accepted(), held_out_questions(inputs.data, inputs.handwritten_test, None), inputs.passages(),
        lambda *_: True,
    )  # fmt: skip
    return build_preferences(
        method, FromSamples(questions=QuestionCounts()), from_people(method, people), 100, 7
    )


def _inputs(root: Path) -> RlhfInputs:
    chosen = rlhf_settings()
    return RlhfInputs.of_project(chosen.entry, Paths(checkpoints=".ckpt", logs="logs"), root)


def test_forty_ratings_change_what_the_stage_trains_on_and_the_ledger_says_so(root: Path) -> None:
    names = forty_ratings(root)
    assert trained_on(root, "kto").ledger.rows == 0  # before a review nothing counts
    assert list_feedback(root).endswith("38 wait for review; stay out: 2 test question")
    said = review_feedback([], [names[0], names[37]], True, root)
    assert said.startswith("36 accepted into data/feedback_accepted.jsonl, 2 rejected")
    assert {row.id for row in read_accepted(root / ACCEPTED)} == set(names[1:37])

    dpo, kto = trained_on(root, "dpo"), trained_on(root, "kto")
    # of 36: 15 up, 8 down, 13 edits; dpo has no use for thumbs
    assert (dpo.ledger.human.accepted, dpo.ledger.human.edits, dpo.ledger.human.unused) == (36, 13, 23)
    assert (dpo.ledger.human_pairs, dpo.ledger.rows) == (13, 13)
    assert {(p.rejected, p.chosen) for p in dpo.pairs} == {
        (f"{i} euros", f"{i} euros a year") for i in range(24, 37)
    }
    assert (kto.ledger.human.thumbs, kto.ledger.human.edits, kto.ledger.rows) == (23, 13, 23 + 2 * 13)
    thumbs = [r for r in kto.rated if r.id in names[1:24]]
    assert sorted(r.good for r in thumbs) == [False] * 8 + [True] * 15
    assert list_feedback(root) == "0 wait for review; stay out: 36 duplicate, 2 rejected, 2 test question"


def test_the_key_of_a_run_changes_with_the_review_alone(root: Path) -> None:
    before = _inputs(root).data_sha256()
    names = forty_ratings(root)
    assert _inputs(root).data_sha256() == before
    review_feedback([names[5]], [], False, root)
    assert _inputs(root).data_sha256() != before


def test_a_changed_mind_changes_the_pair_after_another_review(root: Path) -> None:
    names = forty_ratings(root)
    review_feedback([names[30]], [], False, root)
    add_feedback(root, names[30], None, "nothing at all", None, "person2")
    assert [p.chosen for p in trained_on(root, "dpo").pairs] == ["30 euros a year"]
    assert "(changes what was accepted)" in list_feedback(root)
    review_feedback([names[30]], [], False, root)
    assert [p.chosen for p in trained_on(root, "dpo").pairs] == ["nothing at all"]
