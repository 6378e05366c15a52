"""Feedback to an answer lands in the inbox exactly once, or a clear line says why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from mark.errors import DataError
from mark.pipeline.answer import Answer, Context, Seconds
from mark.pipeline.feedback import FeedbackRow, UnknownResponseError, add_feedback, newest_response_id
from mark.pipeline.journal import JOURNAL, Journal, find_entry
from mark.rlhf.feedback import INBOX, read_inbox
from tests.conftest import ROOT


def answer(number: int, **changes: Any) -> Answer:
    context = Context(chunk_id=f"{number:064x}", document="d", title="D", heading="", pages=[1], text="t")
    values: dict[str, Any] = {
        "question": f"What is the fee of club {number}?", "text": f"{number} euros", "quotes": [], "refused": False,
        "supported": False, "refusal_probability": 0.1, "refusal_calibrated": False, "contexts": [context],
        "model": "tiny_lora", "model_sha256": "a" * 64, "rule": "priority", "notes": [],
        "seconds": Seconds(retrieval=0, generation=0, checks=0, total=0),
    }  # fmt: skip
    return Answer.model_validate({**values, **changes})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def journalled(root: Path, *answers: Answer) -> list[str]:
    Journal(root, 100).write(answers)
    return [one.response_id for one in answers]


def rate(
    root: Path, response_id: str, rating: Any = "up", edited: str | None = None, **other: Any
) -> FeedbackRow:
    values: dict[str, Any] = {"comment": None, "source": "tester", **other}
    return add_feedback(root, response_id, rating, edited, values["comment"], values["source"])


def test_the_row_holds_what_was_answered_and_what_was_said(root: Path) -> None:
    (name,) = journalled(root, answer(3))
    found = rate(root, name, "down", "three\u2028euros", comment="article 3")
    assert found.placed == "added" and read_inbox(root).rows == [found.row]
    row = found.row.model_dump(exclude={"received"})
    assert row == {
        "schema_version": 1, "id": name, "question": "What is the fee of club 3?", "contexts": [f"{3:064x}"],
        "answer": "3 euros", "thumb": "down", "edited": "three\u2028euros", "model": "tiny_lora",
        "adapter_sha256": "a" * 64, "source": "tester", "comment": "article 3",
    }  # fmt: skip


def test_saying_it_again_adds_nothing_and_a_change_follows(root: Path) -> None:
    (name,) = journalled(root, answer(1))
    said = [
        rate(root, name), rate(root, name), rate(root, name, source="other"), rate(root, name, None, "one"),
        rate(root, name, None, "one"), rate(root, name),
    ]  # fmt: skip
    assert [one.placed for one in said] == [
        "added",
        "already there",
        "added",
        "changed",
        "already there",
        "changed",
    ]
    assert said[1].row == said[0].row
    assert len(read_inbox(root).rows) == 4


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"rating": None}, "neither a rating nor an edited answer was given"),
        ({"rating": "sideways"}, "rating: sideways found, up or down is allowed"),
        ({"edited": " \n"}, "the edited answer is empty"),
        ({"edited": " 1  euros "}, "the edited answer is the answer itself"),
        ({"edited": "x" * 8001}, "the edited answer has 8001 characters, feedback takes at most 8000"),
        ({"comment": "x" * 2001}, "the comment has 2001 characters, feedback takes at most 2000"),
        ({"edited": "one \x1b[31m"}, r"the edited answer holds the control character '\x1b'"),
        ({"comment": "\udcff"}, r"the comment holds the control character '\udcff'"),
        ({"source": "a b"}, "feedback: source: "),
    ],
)
def test_what_says_nothing_is_one_clear_line(root: Path, given: dict[str, Any], expected: str) -> None:
    (name,) = journalled(root, answer(1))
    with pytest.raises(DataError) as fault:
        rate(root, name, **given)
    assert expected in str(fault.value) and str(fault.value).replace("\n", " ").isprintable()
    assert not (root / INBOX).exists()


@pytest.mark.parametrize("name", ["ans-" + "0" * 24, "last", "", "../../x", "\x1b[2J", "\udcff", "x" * 9999])
def test_an_unknown_answer_is_one_clear_line(root: Path, name: str) -> None:
    journalled(root, answer(1))
    with pytest.raises(UnknownResponseError) as fault:
        rate(root, name)
    assert "among the newest 2000 (serve.journal)" in str(fault.value)
    assert str(fault.value).isprintable() and len(str(fault.value)) < 200


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"text": ""}, "the answer is empty"),
        ({"text": "x" * 8001}, "the answer has 8001 characters"),
        ({"question": "x" * 3000}, "the question has 3000 characters, feedback takes at most 2000"),
    ],
)
def test_an_answer_that_no_row_can_hold(root: Path, changes: dict[str, Any], expected: str) -> None:
    (name,) = journalled(root, answer(1, **changes))
    with pytest.raises(DataError, match=expected):
        rate(root, name)


def test_without_a_journal_it_says_how_to_keep_one(root: Path) -> None:
    with pytest.raises(UnknownResponseError, match="no answer among the newest 2000"):
        newest_response_id(root)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["serve"]["journal"] = 0
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    for ask in (lambda: newest_response_id(root), lambda: rate(root, "ans-" + "0" * 24)):
        with pytest.raises(UnknownResponseError, match=r"serve\.journal: 0\), so feedback is not possible"):
            ask()


def test_last_is_the_newest(root: Path) -> None:
    names = journalled(root, answer(1), answer(2))
    assert newest_response_id(root) == names[1]


_RATER = """
import sys
from pathlib import Path
from mark.pipeline.feedback import add_feedback
print(flush=True)
sys.stdin.readline()  # all at once
for name in sys.argv[2:]:
    for source in ("shared", sys.argv[1]):
        add_feedback(Path(), name, "up", None, "c" * 1500, source)
"""


def start_together(going: list[subprocess.Popen[str]]) -> None:
    """Let processes that have loaded everything go on."""
    for process in going:
        assert process.stdout is not None and process.stdout.readline() == "\n"
    for process in going:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def test_processes_at_once_lose_mix_and_double_nothing(root: Path) -> None:
    names = journalled(root, *(answer(i) for i in range(12)))
    going = [
        subprocess.Popen(
            [sys.executable, "-c", _RATER, f"rater{i}", *names], cwd=root,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for i in range(4)
    ]  # fmt: skip
    start_together(going)
    for late in range(12, 30):  # answers go on being journalled
        journalled(root, answer(late))
    assert [process.wait() for process in going] == [0] * 4
    inbox = read_inbox(root)
    assert inbox.unreadable == 0
    counts = Counter((row.id, row.source) for row in inbox.rows)
    sources = ["shared", *(f"rater{i}" for i in range(4))]
    assert counts == {(name, source): 1 for name in names for source in sources}
    assert all(find_entry(root, name) for name in names)
    assert len((root / JOURNAL).read_bytes().split(b"\n")) - 1 == 30
