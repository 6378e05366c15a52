"""Poisoned feedback stays out: duplicates, test questions, floods, unreviewed rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mark.cli import app
from mark.config import Feedback
from mark.errors import DataError
from mark.files import write_jsonl
from mark.records import HandwrittenQuestion
from mark.rlhf.feedback import (
    ACCEPTED,
    INBOX,
    InboxFeedback,
    TestQuestions,
    accept,
    append_feedback,
    read_accepted,
    read_inbox,
    screen,
)
from tests.conftest import ROOT

LIMITS = Feedback(max_per_source=3, max_accepted=100)
ASKED = "How soon must a breach be reported to the director?"
NONE = TestQuestions([])


def row(number: int, **changes: Any) -> InboxFeedback:
    values: dict[str, Any] = {
        "id": f"r{number:03}", "question": f"What is the fee of club number {number}?", "contexts": [],
        "answer": f"{number} euros", "thumb": "up", "edited": None, "model": "transformer_lora",
        "adapter_sha256": "0" * 64, "source": f"s{number}", "received": "2026-01-02T10:00:00Z",
    }  # fmt: skip
    return InboxFeedback.model_validate({**values, **changes})


def reasons(
    rows: list[InboxFeedback], test: TestQuestions = NONE, limits: Feedback = LIMITS
) -> list[str | None]:
    return [item.reason for item in screen(rows, [], [], test, limits)]


def test_duplicates_stay_out_by_id_and_by_content_whoever_sends_them() -> None:
    again = row(2, question=row(1).question.upper(), answer=" 1  euros ", source="other")
    assert reasons([row(1), row(1, answer="2 euros"), again, row(3)]) == [
        None,
        "duplicate",
        "duplicate",
        None,
    ]


def test_accepted_and_rejected_rows_do_not_come_back() -> None:
    found = screen([row(1), row(2)], [row(1).accepted()], ["r002"], NONE, LIMITS)
    assert [item.reason for item in found] == ["duplicate", "rejected"]


@pytest.mark.parametrize(
    "question",
    [
        ASKED,
        ASKED.upper().rstrip("?"),
        "How soon must the breach be reported to the director?",
        "Please tell me: how soon must a breach be reported to the director?",
    ],
)
def test_test_questions_stay_out(question: str) -> None:
    assert reasons([row(1, question=question), row(2)], TestQuestions([ASKED])) == ["test question", None]


def test_a_reworded_test_question_is_known_by_its_meaning() -> None:
    import numpy as np

    def alike(texts: Any) -> Any:
        return np.tile(np.float32([1.0, 0.0]), (len(texts), 1))

    reworded = "To the director, within which time must people report a breach?"
    assert not TestQuestions([ASKED]).near([reworded])[0]
    assert TestQuestions([ASKED], alike).near([reworded])[0]


def test_a_flood_stays_out_and_leaves_others_their_share() -> None:
    flood = [row(i, source="loud") for i in range(10)]
    later = row(50, source="loud", received="2026-01-03T00:00:00Z")
    found = reasons([*flood, row(60), later])
    assert found == [None] * 3 + ["flood"] * 7 + [None, None]


def test_duplicates_count_as_a_flood_too() -> None:
    found = reasons([row(1, source="loud")] * 3 + [row(2, source="loud")])
    assert found == [None, "duplicate", "duplicate", "flood"]


def test_the_accepted_file_has_an_end() -> None:
    assert reasons([row(i) for i in range(3)], limits=Feedback(max_per_source=9, max_accepted=2))[2] == "full"


def test_nothing_is_accepted_before_a_review_and_only_what_passes(tmp_path: Path) -> None:
    for item in (row(2), row(1, thumb=None, edited="one euro"), row(3, question=ASKED)):
        append_feedback(item, tmp_path)
    assert not (tmp_path / ACCEPTED).exists()
    found = screen(read_inbox(tmp_path).rows, [], [], TestQuestions([ASKED]), LIMITS)
    with pytest.raises(DataError, match="r003 stays out: test question"):
        accept(found, ["r003"], tmp_path)
    with pytest.raises(DataError, match="r009 is not in the inbox"):
        accept(found, ["r009"], tmp_path)
    assert accept(found, None, tmp_path) == ["r002", "r001"]
    kept = read_accepted(tmp_path / ACCEPTED)
    assert [item.id for item in kept] == ["r001", "r002"]
    text = (tmp_path / ACCEPTED).read_text()
    assert "received" not in text and "source" not in text and "2026" not in text


def test_a_damaged_inbox_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    append_feedback(row(1), tmp_path)
    with (tmp_path / INBOX).open("a") as stream:
        stream.write(
            '{"id": "../../etc"}\nnot json\n'
            + json.dumps({**row(2).model_dump(), "answer": "x" * 9000})
            + "\n"
        )
    assert ([item.id for item in read_inbox(tmp_path).rows], read_inbox(tmp_path).unreadable) == (["r001"], 3)


def test_an_accepted_file_edited_by_hand_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "f.jsonl", [row(2).accepted(), row(1).accepted()])
    with pytest.raises(DataError, match="not sorted"):
        read_accepted(tmp_path / "f.jsonl")


def test_the_committed_file_is_empty() -> None:
    assert read_accepted(ROOT / ACCEPTED) == []


def test_the_command_reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    hand = HandwrittenQuestion(
        id="t1", question=ASKED, answers=["24 hours"], kind="answerable", style="short", document="policy",
        article="3", quote="24 hours",
    )  # fmt: skip
    write_jsonl(tmp_path / "data/handwritten_test.jsonl", [hand])
    for item in (row(1), row(2, question=ASKED), row(3), row(4, answer="\x1b[31mred")):
        append_feedback(item, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    call = CliRunner().invoke
    listed = call(app, ["feedback", "list"]).output
    assert "3 wait for review; stay out: 1 test question" in listed
    shown = call(app, ["feedback", "review"]).output
    assert "answer:   '1 euros'" in shown and "\x1b" not in shown
    done = call(app, ["feedback", "review", "--accept", "r001", "--reject", "r003"]).output
    assert done.startswith("1 accepted into data/feedback_accepted.jsonl, 1 rejected")
    assert [item.id for item in read_accepted(tmp_path / ACCEPTED)] == ["r001"]
    assert "1 duplicate, 1 rejected, 1 test question" in call(app, ["feedback", "list"]).output
    assert isinstance(call(app, ["feedback", "review", "--accept", "r002"]).exception, DataError)
