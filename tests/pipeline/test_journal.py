"""Every answer has an id and is journalled; the journal is private, bounded and survives damage."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from mark import AutoPipeline
from mark.pipeline.answer import Answer, Seconds
from mark.pipeline.journal import JOURNAL, Journal, find_entry, newest_entry
from tests.pipeline.conftest import MakeRoot

QUESTION = "Who shall repair the roof, and when?"


def answer(number: int, question: str = QUESTION) -> Answer:
    return Answer(
        question=question, text=f"answer\u2028{number}", quotes=[], refused=False, supported=False,
        refusal_probability=0.1, refusal_calibrated=False, contexts=[], model="m", model_sha256="0" * 64,
        rule="priority", notes=[], seconds=Seconds(retrieval=0, generation=0, checks=0, total=0),
    )  # fmt: skip


def test_each_answer_of_the_pipeline_is_journalled(make_root: MakeRoot) -> None:
    root = make_root([])
    pipeline = AutoPipeline(root)
    answers = [
        *pipeline.process_queries([QUESTION, "Which colour has the flag?"]),
        pipeline.process_query(QUESTION),
    ]
    ids = [a.response_id for a in answers]
    assert len(set(ids)) == 3 and all(re.fullmatch(r"ans-[0-9a-f]{24}", i) for i in ids)
    for given in answers:
        entry = find_entry(root, given.response_id)
        assert entry is not None
        assert (entry.question, entry.answer, entry.refused) == (given.question, given.text, given.refused)
        assert entry.contexts == [c.chunk_id for c in given.contexts] != []
        assert (entry.model, entry.adapter_sha256) == (given.model, given.model_sha256)
    assert newest_entry(root) == find_entry(root, ids[-1])
    assert stat.S_IMODE((root / JOURNAL).stat().st_mode) == 0o600


def test_zero_keeps_nothing(make_root: MakeRoot) -> None:
    root = make_root([], journal=0)
    assert AutoPipeline(root).process_query(QUESTION).response_id
    assert not (root / "feedback").exists()


def test_the_newest_are_kept(tmp_path: Path) -> None:
    journal, given = Journal(tmp_path, 20), [answer(i) for i in range(100)]
    for one in given:
        journal.write([one])
        assert len((tmp_path / JOURNAL).read_bytes().split(b"\n")) - 1 <= 22  # a tenth more at most
    assert all(find_entry(tmp_path, a.response_id) for a in given[-20:])
    assert not any(find_entry(tmp_path, a.response_id) for a in given[:-22])
    newest = newest_entry(tmp_path)
    assert newest is not None and newest.answer == "answer\u202899"


def test_damaged_lines_are_passed_over_and_a_torn_one_mended(tmp_path: Path) -> None:
    journal, first, second = Journal(tmp_path, 5), answer(1), answer(2)
    journal.write([first])
    with (tmp_path / JOURNAL).open("ab") as stream:
        stream.write(b'\xff\xfe\n{"response_id": "' + second.response_id.encode())
    assert find_entry(tmp_path, second.response_id) is None
    assert newest_entry(tmp_path) == find_entry(tmp_path, first.response_id)
    journal.write([second])
    found = find_entry(tmp_path, second.response_id)
    assert found is not None and found.answer == second.text


@pytest.mark.parametrize("asked", ["", "ans-", "last", "\udcff", "ans-" + "0" * 24])
def test_only_a_whole_id_names_an_answer(tmp_path: Path, asked: str) -> None:
    Journal(tmp_path, 5).write([answer(1)])
    assert find_entry(tmp_path, asked) is None


def test_a_journal_that_cannot_be_written_spoils_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "feedback").write_text("a file in the way")
    Journal(tmp_path, 5).write([answer(1)])
    assert "the answer is not journalled, feedback to it is not possible" in caplog.text


def test_a_question_in_a_broken_encoding_is_journalled(tmp_path: Path) -> None:
    asked = answer(1, "Wer z\udcffhlt?")
    Journal(tmp_path, 5).write([asked])
    found = find_entry(tmp_path, asked.response_id)
    assert found is not None and found.question == "Wer z?hlt?"
