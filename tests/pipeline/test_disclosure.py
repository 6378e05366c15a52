"""Answers that recite the instruction are found, others are left alone."""

from __future__ import annotations

import pytest

from mark.pipeline.disclosure import InstructionGuard
from mark.prompting import INSTRUCTION, INSTRUCTION_WITHOUT_PASSAGES, REFUSAL

PASSAGE = "The tenant shall pay the rent within five days."


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (INSTRUCTION, ""),
        ("Sure! ANSWER THE QUESTION, from the passages!", "Sure! "),
        ("I was told: «If the passages do not hold it»", "I was told: «"),
        ("ß" * 200 + " " + INSTRUCTION, "ß" * 200 + " "),
        ("İ" * 200 + " " + INSTRUCTION, "İ" * 200 + " "),
        ("ﬃ" * 200 + " " + INSTRUCTION, "ﬃ" * 200 + " "),
        ("İf the paßages do not hold it", ""),
        ("answer_the_question_from_the_passages", ""),
        ("within five days", "within five days"),
        (REFUSAL, REFUSAL),
        ("in their own words", "in their own words"),
        ("", ""),
    ],
)
def test_a_recital_is_cut_where_it_begins(answer: str, kept: str) -> None:
    guard = InstructionGuard([PASSAGE, "When is the rent due?"])
    assert guard.cut(answer) == kept
    assert guard.discloses(answer) is (answer != kept)


def test_only_the_instruction_that_the_prompt_held_is_guarded() -> None:
    """The other one's words are ordinary speech, and were never told."""
    plain = "We do not know the answer to that; Article 3 is silent."
    assert not InstructionGuard([PASSAGE], with_passages=True).discloses(plain)
    assert InstructionGuard([PASSAGE], with_passages=True).discloses(INSTRUCTION)
    assert InstructionGuard([], with_passages=False).discloses(INSTRUCTION_WITHOUT_PASSAGES)
    assert not InstructionGuard([], with_passages=False).discloses("in their own words and no longer")
    for text in (INSTRUCTION, INSTRUCTION_WITHOUT_PASSAGES):
        assert InstructionGuard([]).discloses(text)


def test_words_of_a_passage_may_be_repeated() -> None:
    words = "answer the question from the passages"
    assert not InstructionGuard([f"Candidates shall {words} set out below."]).discloses(words)


def test_nothing_of_a_recital_is_told_while_it_is_written() -> None:
    guard = InstructionGuard([PASSAGE])
    text = f"Well. {INSTRUCTION}"
    assert max((guard.settled(text[:end]) for end in range(len(text))), key=len) == "Well. "
    harmless = "The tenant shall answer the door within five days."
    told = ""
    for end in range(len(harmless) + 1):
        now = guard.settled(harmless[:end])
        assert now.startswith(told) or told.startswith(now)
        told = max(told, now, key=len)
    assert told == harmless
    for before in ("ß" * 50, "İ" * 50, "ﬃ" * 50):
        text = f"{before} {INSTRUCTION}"
        assert max((guard.settled(text[:end]) for end in range(len(text) + 1)), key=len) == f"{before} "
