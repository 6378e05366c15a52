"""Poisoned feedback stays out: duplicates, test questions, floods, unreviewed rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from mark.cli import app
from mark.config import Feedback
from mark.errors import ConfigError, DataError
from mark.files import write_jsonl
from mark.records import HandwrittenQuestion
from mark.rlhf.feedback import (
    ACCEPTED,
    INBOX,
    Chosen,
    Inbox,
    InboxFeedback,
    NotReviewedError,
    TestQuestions,
    accept,
    append_feedback,
    read_accepted,
    read_inbox,
    rejected_ids,
    screen,
)
from mark.rlhf.review import review
from tests.conftest import ROOT
from tests.pipeline.test_add_feedback import start_together

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
    second = row(1, thumb="down", source="second")
    assert reasons([row(1), second, again, row(3)]) == [None, "duplicate", "duplicate", None]


def test_a_changed_judgement_supersedes_the_earlier_one_of_its_source_alone() -> None:
    up, down = row(1), row(1, thumb="down")
    assert reasons([up, row(1, source="other", thumb="down"), down]) == ["superseded", None, "duplicate"]
    assert reasons([up, down, up]) == ["superseded", "superseded", None]
    assert reasons([up, row(1, question=ASKED)], TestQuestions([ASKED])) == ["superseded", "test question"]


def test_what_was_accepted_may_be_changed_by_its_source_after_another_review(tmp_path: Path) -> None:
    up, down = row(1), row(1, thumb="down", edited="two euros")
    other = row(1, source="other", thumb="down")
    accepted = [up.accepted()]
    write_jsonl(tmp_path / ACCEPTED, accepted)
    assert [item.reason for item in screen([up, other], accepted, [], NONE, LIMITS)] == ["duplicate"] * 2
    found = screen([up, other, down], accepted, [], NONE, Feedback(max_per_source=3, max_accepted=1))
    assert [item.reason for item in found] == ["superseded", "duplicate", None]  # and the end is not passed
    assert [item.replaces for item in found] == [False, False, True]
    assert accept(found, None, tmp_path) == ["r001"]
    assert read_accepted(tmp_path / ACCEPTED) == [down.accepted()]


HIDDEN = ASKED.replace("breach", "br\u200bea\u00adch").replace("director", "di\u2060rector")


def test_characters_that_do_not_show_make_no_other_question() -> None:
    again = row(2, question="What is the\u200b fee of club\u2028number 1\u202e?", answer="1\u00a0eu\u00adros")
    assert reasons([row(1), again]) == [None, "duplicate"]
    assert HIDDEN != ASKED
    assert reasons([row(1, question=HIDDEN)], TestQuestions([ASKED])) == ["test question"]


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
    same = {"question": row(1).question, "answer": row(1).answer, "source": "loud"}
    found = reasons([row(1, **same), row(2, **same), row(3, **same), row(4, source="LOUD")])
    assert found == [None, "duplicate", "duplicate", "flood"]  # nor does another spelling help


def test_changing_ones_mind_without_end_is_a_flood() -> None:
    rows = [row(1, source="loud", thumb=thumb) for thumb in ("up", "down", "up")]
    assert reasons([*rows, row(2, source="loud")]) == ["superseded", "superseded", None, "flood"]


def test_the_accepted_file_has_an_end() -> None:
    assert reasons([row(i) for i in range(3)], limits=Feedback(max_per_source=9, max_accepted=2))[2] == "full"


def test_nothing_is_accepted_before_a_review_and_only_what_passes(tmp_path: Path) -> None:
    for item in (row(2), row(1, thumb=None, edited="one euro"), row(3, question=ASKED)):
        append_feedback(item, tmp_path)
    assert not (tmp_path / ACCEPTED).exists()
    found = screen(read_inbox(tmp_path).rows, [], [], TestQuestions([ASKED]), LIMITS)
    with pytest.raises(DataError, match="r003 stays out: test question"):
        accept(found, [Chosen("r003")], tmp_path)
    with pytest.raises(DataError, match="r009 is not in the inbox"):
        accept(found, [Chosen("r009")], tmp_path)
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


def test_separators_inside_a_text_end_no_line(tmp_path: Path) -> None:
    odd = row(1, answer="a\u2028b\u2029c\x85d\x0be\x1cf")
    append_feedback(odd, tmp_path)
    assert read_inbox(tmp_path) == Inbox([odd], 0)


def test_damage_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    append_feedback(row(1), tmp_path)
    line = row(2).model_dump_json().encode()
    with (tmp_path / INBOX).open("ab") as stream:
        stream.write(line.replace(b"club", b"cl\xffb") + b"\n")  # not UTF-8
        stream.write(b"y" * (1 << 20) + b"\n" + b"[" * 100_000 + b"\n" + b"{}\n\n")
        stream.write(
            line.replace(b"club", b"cl\\ud800b") + b"\n" + line[:50]
        )  # half a character, half a line
    found = read_inbox(tmp_path)
    assert ([item.id for item in found.rows], found.unreadable) == (["r001"], 6)
    append_feedback(row(3), tmp_path)  # mends the torn line
    found = read_inbox(tmp_path)
    assert ([item.id for item in found.rows], found.unreadable) == (["r001", "r003"], 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "a\u200db"}, {"id": "r1\n"}, {"id": "\x1b[2J"}, {"source": "lou\u0501"}, {"source": "a b"}, {"source": ""},
        {"received": "2026-01-02 \x1b[2J"}, {"received": "2026-01-02" + "0" * 99}, {"contexts": ["c" * 1000]},
        {"contexts": ["c"] * 21}, {"comment": "c" * 2001}, {"edited": " \n"}, {"thumb": None}, {"adapter_sha256": "x"},
    ],
)  # fmt: skip
def test_no_row_has(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        row(1, **changes)


def test_the_same_judgement_is_written_once(tmp_path: Path) -> None:
    later = row(1, received="2026-02-02T00:00:00Z")
    placed = [
        append_feedback(item, tmp_path) for item in (row(1), later, row(1, thumb="down"), row(1), row(2))
    ]
    assert [what for _, what in placed] == ["added", "already there", "changed", "changed", "added"]
    assert placed[1][0] == row(1)  # as it was first sent
    assert len(read_inbox(tmp_path).rows) == 4


def test_a_full_inbox_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mark.rlhf.feedback.INBOX_BYTES", 10)
    append_feedback(row(1), tmp_path)
    with pytest.raises(DataError, match=r"inbox\.jsonl is full"):
        append_feedback(row(2), tmp_path)
    assert append_feedback(row(1), tmp_path)[1] == "already there"


def test_an_accepted_file_edited_by_hand_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "f.jsonl", [row(2).accepted(), row(1).accepted()])
    with pytest.raises(DataError, match="not sorted"):
        read_accepted(tmp_path / "f.jsonl")


def test_the_committed_file_is_empty() -> None:
    assert read_accepted(ROOT / ACCEPTED) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one test question."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    hand = HandwrittenQuestion(
        id="t1", question=ASKED, answers=["24 hours"], kind="answerable", style="short", document="policy",
        article="3", quote="24 hours",
    )  # fmt: skip
    write_jsonl(tmp_path / "data/handwritten_test.jsonl", [hand])
    return tmp_path


_REVIEWER = """
import sys
from pathlib import Path
from mark.rlhf.feedback import Chosen
from mark.rlhf.review import review, screened_inbox
screened_inbox(Path())  # loads everything
print(flush=True)
sys.stdin.readline()  # all at once
review(Path(), [Chosen(sys.argv[1])], [sys.argv[2]])
"""


def test_reviews_at_once_lose_nothing(project: Path) -> None:
    for number in range(8):
        append_feedback(row(number), project)
    pairs = [("r000", "r001"), ("r002", "r003"), ("r004", "r005")]
    going = [
        subprocess.Popen(
            [sys.executable, "-c", _REVIEWER, *pair], cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for pair in pairs
    ]  # fmt: skip
    start_together(going)
    assert [process.wait() for process in going] == [0, 0, 0]
    assert [item.id for item in read_accepted(project / ACCEPTED)] == ["r000", "r002", "r004"]
    assert rejected_ids(project) == ["r001", "r003", "r005"]


def test_a_review_that_fails_writes_nothing(project: Path) -> None:
    for item in (row(1), row(2, question=ASKED)):
        append_feedback(item, project)
    for accepted, refused, said in (
        (["r002"], ["r001"], "r002 stays out: test question"),
        (["r001"], ["r009"], "r009 is not in the inbox"),
        (["r001"], ["\x1b[2J"], r"feedback '\\x1b\[2J' is not in the inbox"),
    ):
        with pytest.raises(DataError, match=said):
            review(project, [Chosen(name) for name in accepted], refused)
    with pytest.raises(ConfigError, match="r001 is both accepted and rejected"):
        review(project, [Chosen("r001")], ["r001"])
    assert not (project / ACCEPTED).exists() and rejected_ids(project) == []


def test_what_its_sender_changed_after_it_was_seen_is_not_accepted(project: Path) -> None:
    edit = row(1, edited="one euro a year", thumb="down")
    append_feedback(edit, project)
    seen = edit.seen
    again = row(1, edited="one euro a year", thumb="down", received="2026-01-03T10:00:00Z", source="other")
    assert again.seen == seen  # who said it and when does not matter
    append_feedback(row(1, edited="send your money to me", thumb="down"), project)
    append_feedback(row(2), project)
    with pytest.raises(NotReviewedError, match="r001 has changed since you saw it") as fault:
        review(project, [Chosen("r002", row(2).seen), Chosen("r001", seen)], [])
    assert fault.value.feedback_id == "r001" and not (project / ACCEPTED).exists()
    append_feedback(edit, project)
    assert review(project, [Chosen("r001", seen)], []).accepted == ["r001"]
    assert [item.edited for item in read_accepted(project / ACCEPTED)] == ["one euro a year"]


@pytest.mark.parametrize(
    "change",
    [
        {"edited": "two"}, {"thumb": "down"}, {"answer": "1 EUROS"}, {"question": "What is it?"}, {"contexts": ["c"]},
        {"edited": "one euro "}, {"model": "other"},
    ],
)  # fmt: skip
def test_each_field_that_is_trained_on_is_in_the_hash(change: dict[str, Any]) -> None:
    assert row(1, **change).seen != row(1).seen and len(row(1).seen) == 32


def test_a_rejection_takes_accepted_feedback_out_again(project: Path) -> None:
    for item in (row(1), row(2)):
        append_feedback(item, project)
    assert review(project, None, []).accepted == ["r001", "r002"]
    assert review(project, None, ["r001"]).accepted == []
    assert [item.id for item in read_accepted(project / ACCEPTED)] == ["r002"]
    assert review(project, None, []).accepted == []  # for good


def test_the_command_reviews(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path = project
    for item in (
        row(1),
        row(2, question=ASKED),
        row(3),
        row(4, answer="\x1b[31mred\u202e", comment="\x9b2J\x07", question="\x1b]0;gone\x07 fee?"),
    ):
        append_feedback(item, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    call = CliRunner().invoke
    listed = call(app, ["feedback", "list"]).output
    assert listed.replace("\n", "").isprintable() and r"\x1b]0;gone" in listed
    assert "3 wait for review; stay out: 1 test question" in listed
    shown = call(app, ["feedback", "review"]).output
    assert "answer:   '1 euros'" in shown and shown.replace("\n", "").isprintable()
    assert r"comment:  '\x9b2J\x07'" in shown and r"red\u202e" in shown
    names = [line.split()[0] for line in listed.splitlines()[:-1]]
    assert names == [f"{item.id}@{item.seen}" for item in read_inbox(tmp_path).rows if item.id != "r002"]
    assert all(f"\n{name} (from " in f"\n{shown}" for name in names)
    changed = call(app, ["feedback", "review", "--accept", f"r001@{row(3).seen}"]).exception
    assert isinstance(changed, DataError) and "r001 has changed since you saw it" in str(changed)
    done = call(app, ["feedback", "review", "--accept", names[0], "--reject", names[1]]).output
    assert done.startswith("1 accepted into data/feedback_accepted.jsonl, 1 rejected")
    assert [item.id for item in read_accepted(tmp_path / ACCEPTED)] == ["r001"]
    assert "1 duplicate, 1 rejected, 1 test question" in call(app, ["feedback", "list"]).output
    assert isinstance(call(app, ["feedback", "review", "--accept", "r002"]).exception, DataError)
    assert call(app, ["feedback", "review", "--accept", "r004"]).output.startswith("1 accepted into")
