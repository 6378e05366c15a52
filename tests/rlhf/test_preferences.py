"""Pairs only where the gap is clear; every question, answer and judgement is accounted for."""

from __future__ import annotations

from typing import Any

import pytest

from mark.config import Reward
from mark.prompting import REFUSAL, Passage
from mark.rlhf.feedback import AcceptedFeedback, TestQuestions
from mark.rlhf.people import Human, from_people
from mark.rlhf.preferences import FromSamples, Preferences, QuestionCounts, build_preferences
from mark.rlhf.ranking import best_and_worst, joined, rank
from mark.rlhf.sampling import Sampled, Task
from tests.train.small import chunk

WEIGHTS = Reward(token_f1=0.8, quote=0.2, refusal=1.0, length=0.3, free_words=4)
MIN_GAP = 0.3
CHUNKS = {c.chunk_id: c for c in (chunk(0), chunk(1))}


def task(name: str, *golds: str) -> Task:
    passage = Passage.from_chunk(chunk(0))  # "The rent is 3 euros. It is due on day 1."
    return Task(name, f"{name}?", golds, "answerable", (1, 2), (passage,))


def said(*texts: str, truncated: bool = False) -> list[Sampled]:
    return [Sampled((1,), text, truncated) for text in texts]


def feedback(number: int, **changes: Any) -> AcceptedFeedback:
    values = {
        "id": f"h{number}", "question": f"Why is it {number}?", "contexts": [chunk(1).chunk_id], "answer": "no",
        "thumb": None, "edited": None, "model": "m", "adapter_sha256": None,
    }  # fmt: skip
    return AcceptedFeedback.model_validate({**values, **changes})


def human(*rows: AcceptedFeedback) -> Human:
    return Human(
        rows, TestQuestions(["Why is it 9 o'clock in Rome?"]), CHUNKS, lambda _, a: max(map(len, a)) < 50
    )


def build(method: Any, sampled: Any = (), people: Human | None = None, limit: int = 10) -> Preferences:
    found = sampled if isinstance(sampled, FromSamples) else rank(sampled, WEIGHTS, MIN_GAP)
    return build_preferences(method, found, from_people(method, people or human()), limit, seed=1)


def test_best_over_worst_and_the_rest_is_left_over() -> None:
    # rewards with gold "3 euros": "3 euros" 1.0 (quoted); "3 dollars" 0.4; "no" 0
    pair, counts = best_and_worst(
        task("q", "3 euros"), said("no", "3 euros", "3 dollars", "no"), WEIGHTS, 0.3
    )
    assert pair is not None
    assert (pair.chosen, pair.rejected, pair.gap) == ("3 euros", "no", 1.0)
    assert counts.model_dump() == {
        "sampled": 4,
        "truncated": 0,
        "duplicate": 1,
        "in_pairs": 2,
        "left_over": 1,
    }


@pytest.mark.parametrize(
    ("answers", "min_gap"),
    [
        (said("no", "never"), 0.0),  # equal rewards tie whatever the gap
        (said("3 dollars", "no"), 0.5),  # 0.4 is not clear
        (said("3 euros"), 0.1),
        ([*said("3 euros"), *said("no", truncated=True)], 0.1),  # a truncated answer is not compared
        ([*said("3 euros"), *said("")], 0.1),
    ],
)
def test_no_pair(answers: list[Sampled], min_gap: float) -> None:
    pair, counts = best_and_worst(task("q", "3 euros"), answers, WEIGHTS, min_gap)
    assert pair is None
    assert counts.sampled == counts.truncated + counts.duplicate + counts.left_over


def test_a_right_refusal_beats_an_answer() -> None:
    pair, _ = best_and_worst(task("q", REFUSAL), said("3 euros", REFUSAL), WEIGHTS, 0.3)
    assert pair is not None and pair.chosen == REFUSAL


SAMPLED = [
    (task("a", "3 euros"), said("3 euros", "no", "no", "none")),
    (task("b", "3 euros"), said("no", "never", "none", "no")),
    (task("c", "3 euros"), [*said("3 euros", "3 euros"), *said("no", "x", truncated=True)]),
    (task("d", "3 euros"), said("3 dollars", "never", "3 euros", "The rent is 3 euros")),
]


def test_the_ledger_adds_up() -> None:
    found = build("dpo", SAMPLED).ledger
    assert found.questions.model_dump() == {
        "asked": 4,
        "left": 0,
        "paired": 2,
        "tied": 1,
        "no_two_answers": 1,
    }
    # a: no twice; b: no twice; c: 3 euros twice, 2 cut off; d: all different
    assert found.answers.model_dump() == {
        "sampled": 16, "truncated": 2, "duplicate": 3, "in_pairs": 4, "left_over": 7,
    }  # fmt: skip
    assert (found.sampled_pairs, found.pairs, found.rows) == (2, 2, 2)
    found.check()


def test_blocks_add_up_to_the_whole() -> None:
    blocks = [rank([row], WEIGHTS, MIN_GAP) for row in SAMPLED]
    assert joined(blocks) == rank(SAMPLED, WEIGHTS, MIN_GAP)
    assert blocks[0].questions.asked == 1  # adding them up changes none of them


PEOPLE = (
    feedback(1, edited="yes"),
    feedback(2, thumb="up"),
    feedback(3, thumb="down"),
    feedback(4, edited=" no "),
    feedback(5, thumb="up", contexts=["f" * 64]),
    feedback(6, edited="yes", question="Why is it 9 o'clock in Rome?"),
    feedback(7, edited="yes " * 30),
)


def test_edits_become_pairs_for_dpo_and_thumbs_wait() -> None:
    found = build("dpo", SAMPLED, human(*PEOPLE))
    assert [(p.id, p.chosen, p.rejected) for p in found.pairs if p.origin == "human"] == [("h1", "yes", "no")]
    assert found.ledger.human.model_dump() == {
        "accepted": 7, "test_question": 1, "unknown_passage": 1, "held_out": 0, "too_long": 1, "no_change": 1, "edits": 1,
        "thumbs": 0, "unused": 2, "fewer_passages": 0,
    }  # fmt: skip
    found.ledger.check()


def test_thumbs_become_ratings_for_kto() -> None:
    found = build("kto", SAMPLED, human(*PEOPLE))
    rated = {(r.id, r.answer): r.good for r in found.rated if r.origin == "human"}
    assert rated == {("h1", "yes"): True, ("h1", "no"): False, ("h2", "no"): True, ("h3", "no"): False}
    assert len(found.rated) == 2 * 3 + 2 == found.ledger.rows
    assert (found.ledger.human.thumbs, found.ledger.human.unused) == (2, 0)


def test_people_come_first_where_there_is_a_limit() -> None:
    found = build("dpo", SAMPLED, human(*PEOPLE), limit=2)
    assert [p.origin for p in found.pairs] == ["human", "sampled"]
    assert (found.ledger.beyond_limit, found.ledger.pairs) == (1, 2)


def test_online_methods_use_no_feedback_and_count_questions() -> None:
    found = build("grpo", FromSamples(questions=QuestionCounts(asked=4)), human(*PEOPLE))
    assert (found.pairs, found.ledger.rows, found.ledger.human.unused) == ([], 4, 3)
