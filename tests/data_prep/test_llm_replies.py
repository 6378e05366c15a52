"""A reply is read whatever stands around its JSON; what is no such JSON is known as that."""

from __future__ import annotations

import json
import time

import pytest

from mark.data_prep.llm.replies import Item, parse_reply

ONE = {"question": "How long?", "answer": "thirty days", "answerable": True}
TEXT = json.dumps({"questions": [ONE]})


@pytest.mark.parametrize(
    "reply",
    [
        TEXT,
        f"Sure! Here are {{some}} questions:\n{TEXT}",
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}\n```\nI hope that helps [let me know].",
        f'<think>The form is {{"questions": []}} and I [must] use it.</think>\n{TEXT}',
        json.dumps([ONE]),
        'The form {"questions": [{"question": "...", "answer": "...", "answerable": true}]} gives ' + TEXT,
        TEXT.replace("thirty days", "thirty\n days"),  # a bare line break inside a string
        json.dumps({"questions": [{"question": " How  long?", "answer": "thirty days"}]}),  # no flag
    ],
)
def test_the_question_is_found(reply: str) -> None:
    parsed = parse_reply(reply)
    assert parsed is not None and parsed.items == (Item("How long?", "thirty days"),)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot do that.",
        TEXT[:-20],
        '{"questions": "none"}',
        '{"answer": 1}',
        "[1, 2]",
        "[" * 50_000,
        "{" * 50_000,
    ],
)
def test_what_is_no_such_json_is_none(reply: str) -> None:
    started = time.monotonic()
    assert parse_reply(reply) is None
    assert time.monotonic() - started < 5


def test_no_questions_at_all_is_not_the_json_asked_for() -> None:
    assert parse_reply('{"questions": []}') is None


def test_entries_that_contradict_themselves_are_malformed() -> None:
    entries = [
        ONE,
        {"question": "Who pays?", "answer": None, "answerable": False, "missing": ["licence", "fee"]},
        {"question": "Who pays?", "answer": None, "answerable": True},
        {"question": "Who pays?", "answer": "the tenant", "answerable": False, "missing": ["fee"]},
        {"question": "Who pays?", "answer": None, "answerable": False},
        {"question": "Who pays?", "answer": "", "answerable": False, "missing": []},
        {"question": "", "answer": "x", "answerable": True},
        {"question": "Who?", "answer": ["a"], "answerable": True},
        {"question": "Who?", "answer": "a", "answerable": "yes"},
        "Who pays?",
        {"question": "How many?", "answer": 30, "answerable": True},
    ]
    parsed = parse_reply(json.dumps({"questions": entries}))
    assert parsed is not None
    assert parsed.items == (
        Item("How long?", "thirty days"), Item("Who pays?", None, ("licence", "fee")), Item("How many?", "30"),
    )  # fmt: skip
    assert parsed.malformed == 8
