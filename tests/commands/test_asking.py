"""`mark ask` and `mark chat` through the real CLI, on a small project without a model and with a random one."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from mark.cli import main
from mark.commands.asking import typed_lines
from mark.files import iter_jsonl
from mark.records import Page
from mark.rlhf.feedback import read_inbox
from tests.conftest import ROOT
from tests.evaluation.conftest import MAX_LENGTH, RETRIEVAL, project

__all__ = ["project"]
QUESTION = "Who shall repair the roof, and when?"


@dataclass(frozen=True)
class Done:
    """What a run of the CLI left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def mark(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    """Runs the real CLI in a folder, in this process: torch is loaded once."""

    def run(root: Path, *arguments: str, typed: str = "") -> Done:
        monkeypatch.chdir(root)
        monkeypatch.setattr(sys, "argv", ["mark", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capsys.readouterr())

    root_logger = logging.getLogger()
    before = root_logger.handlers[:]
    yield run
    root_logger.handlers[:] = before  # those that came in hold this test's stderr


@pytest.fixture(scope="module")
def root(project: Path, tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the base model `transformer`."""
    folder = tmp_path_factory.mktemp("asked")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["retrieval"] = RETRIEVAL.model_dump()
    params["train"]["max_seq_length"], params["eval"]["max_new_tokens"] = MAX_LENGTH, 6
    params["serve"]["search"] = "exact"
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copytree(project / "data", folder / "data")
    (folder / "models/base").mkdir(parents=True)
    (folder / "models/base/transformer").symlink_to(tiny_llama_dir)
    (folder / "models/embedder").symlink_to(project / "models/embedder")
    return folder


def test_a_plain_answer_has_quotes_places_and_a_last_line(mark: Callable[..., Done], root: Path) -> None:
    done = mark(root, "ask", QUESTION, "--model", "extractive", "--top-k", "3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.rstrip("\n").split("\n")
    assert lines[2].startswith("  “") and lines[2].endswith("”")
    assert ", page " in lines[3] and ", characters " in lines[3]
    assert lines[-2] == "extractive was never calibrated (`dvc repro eval`): it never refuses."
    assert lines[-1].startswith("extractive, asked for by name; ")
    assert "answering" not in done.stderr  # no progress bar


def test_json_is_one_object_with_spans_that_hold(mark: Callable[..., Done], root: Path) -> None:
    done = mark(root, "ask", QUESTION, "--model", "extractive", "--json")
    answer = json.loads(done.stdout)
    assert len(done.stdout.strip().splitlines()) == 1
    pages = {(p.document, p.page): p.text for p in iter_jsonl(root / "data/pages.jsonl", Page)}
    assert answer["quotes"] and answer["supported"]
    for quote in answer["quotes"]:
        assert pages[quote["document"], quote["page"]][quote["start"] : quote["end"]] == quote["text"]
    assert answer["rule"] == "asked_for" and answer["model_sha256"] is None


def test_a_stream_is_a_draft_and_then_the_checked_answer(mark: Callable[..., Done], root: Path) -> None:
    done = mark(root, "ask", QUESTION, "--stream")
    assert done.returncode == 0, done.stderr
    assert "mamba_lora is skipped: there is no such model" in done.stderr
    assert "answering" not in done.stderr  # no progress bar
    draft, _, checked = done.stdout.partition("\n\n")
    assert draft.strip()
    assert (
        checked.rstrip().split("\n")[-1].startswith("transformer, the first of serve.priority that loads; ")
    )


def test_chat_answers_each_line_on_its_own_and_goes_on_after_a_fault(
    mark: Callable[..., Done], root: Path
) -> None:
    typed = f"{QUESTION}\n\n{'x' * 3000}\n{QUESTION}\n/quit\n{QUESTION}\n"
    done = mark(root, "chat", "--model", "extractive", typed=typed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("extractive, asked for by name; ") == 2
    assert "mark: the question has 3000 characters, at most 2000 are allowed" in done.stdout
    first, second = done.stdout.split("mark: the question", 1)
    assert second.split("\n\n", 1)[1].split("\n")[0] == first.split("\n")[0]  # nothing is remembered


def test_the_last_line_ends_with_the_id_that_feedback_names(
    mark: Callable[..., Done], root: Path, tmp_path: Path
) -> None:
    asked = mark(root, "ask", QUESTION, "--model", "extractive")
    name = asked.stdout.rstrip("\n").split("; ")[-1]
    assert re.fullmatch(r"ans-[0-9a-f]{24}", name)
    better = tmp_path / "better.txt"
    better.write_text("The landlord,\nby May.\n", encoding="utf-8")
    done = mark(root, "feedback", "add", name, "--down", "--edit-file", str(better), "--comment", "see 3")
    assert done.stdout == f"{name}: down and edited, added; `mark feedback review` decides\n"
    again = json.loads(mark(root, "ask", QUESTION, "--model", "extractive", "--json").stdout)
    assert again["response_id"] != name
    for placed in ("added", "already there"):
        done = mark(root, "feedback", "add", "last", "--up")
        assert done.stdout == f"{again['response_id']}: up, {placed}; `mark feedback review` decides\n"
    rows = {row.id: row for row in read_inbox(root).rows}
    assert (rows[name].edited, rows[name].comment, rows[name].source) == (
        "The landlord,\nby May.",
        "see 3",
        "cli",
    )
    assert rows[name].question == QUESTION and rows[again["response_id"]].thumb == "up"


def test_chat_takes_thumbs_and_edits_of_the_last_answer(mark: Callable[..., Done], root: Path) -> None:
    typed = f"+\n{QUESTION}\n-\n/edit The landlord shall, by May.\n+\n/edit\n{'x' * 3000}\n-\n/editor?\n"
    done = mark(root, "chat", "--model", "extractive", typed=typed)
    assert done.returncode == 0, done.stderr
    assert "/edit TEXT says what it should have been" in done.stderr
    said = [line for line in done.stdout.split("\n") if line.startswith(("mark: ", "ans-"))]
    decides = "`mark feedback review` decides"
    name = said[1].split(":")[0]
    assert said == [
        "mark: there is no answer that + could be about; ask something",
        f"{name}: down, added; {decides}",
        f"{name}: down and edited, changed; {decides}",
        f"{name}: up and edited, changed; {decides}",
        "mark: the edited answer is empty; leave it out, or write what the answer should be",
        "mark: the question has 3000 characters, at most 2000 are allowed (serve.max_question_chars); shorten it",
        "mark: there is no answer that - could be about; ask something",
    ]
    assert done.stdout.count("extractive, asked for by name; ") == 2  # `/editor?` is a question
    assert [row.edited for row in read_inbox(root).rows if row.id == name][
        -1
    ] == "The landlord shall, by May."


def test_the_end_of_input_ends_a_chat() -> None:
    assert list(typed_lines(io.StringIO("one\n\ntwo"))) == ["one\n", "\n", "two"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ask", ""], "the question is empty; ask something"),
        (["ask", "x" * 10_000], "the question has 10000 characters, at most 2000 are allowed"),
        (["ask", "Who?", "--json", "--stream"], "--json and --stream contradict each other"),
        (["ask", "Who?", "--model", "nobody"], "no model named 'nobody'"),
        (["feedback", "add", "ans-1", "--up"], "no answer ans-1 among the newest 2000 (serve.journal)"),
        (["feedback", "add", "\x1b[2J", "--up"], r"no answer '\x1b[2J' among"),
        (["feedback", "add", "last", "--up", "--down"], "--up and --down contradict each other"),
        (["feedback", "add", "last", "--edit", "a", "--edit-file", "b"], "--edit and --edit-file contradict"),
        (["feedback", "add", "last", "--edit-file", "no.txt"], "no.txt cannot be read: No such file"),
        (["feedback", "add", "last", "--edit-file", "data"], "data cannot be read: Is a directory"),
        (["feedback", "review", "--accept", "a", "--accept-all"], "--accept and --accept-all contradict"),
    ],
)
def test_wrong_use_is_one_line(
    mark: Callable[..., Done], root: Path, arguments: list[str], expected: str
) -> None:
    done = mark(root, *arguments)
    assert done.returncode != 0
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_without_documents_it_says_what_to_run(mark: Callable[..., Done], root: Path, tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(root / name, tmp_path)
    done = mark(tmp_path, "ask", QUESTION)
    assert done.returncode == 1
    assert "data/index.json is missing; run `dvc repro`" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
