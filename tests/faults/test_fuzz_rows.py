"""Damaged files of rows and records: each reader gives rows or one line, whatever the bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from pydantic import BaseModel

from mark.append_log import read_lines
from mark.data_prep.llm.cache import Reply
from mark.data_prep.llm.endpoint import Endpoint
from mark.errors import DataError, MarkError
from mark.files import iter_jsonl, read_json
from mark.ingest.index import read_index
from mark.models.source_file import read_source
from mark.pipeline.journal import find_entry, newest_entry
from mark.records import Chunk, Example, HandwrittenQuestion, Page, PracticeQuestion
from mark.registry.champion import read_log
from mark.rlhf.feedback import read_accepted, read_inbox
from tests.data_prep.llm_server import completion, llm_settings
from tests.faults.mutations import examples, mutated

CHUNK = Chunk(
    chunk_id="a" * 64, doc_id="d" * 64, document="bread", title="Brot für alle", heading_path=["§ 1"],
    section="§ 1", pages=[1], start=0, end=5, text="Bröd…",
)  # fmt: skip
PAGE = Page(
    doc_id="d" * 64, document="bread", title="Bread", page=1, label="i", text="Bröd…", offset=0, raw_map=[(0, 0)]
)  # fmt: skip
EXAMPLE = Example(
    example_id="e", split="train", question="How much?", contexts=["a" * 64], answers=["60 €"], quote="60 €", page=1,
    kind="answerable", style="short", rule_id="amount", document="bread", section="§ 1", source_chunk="a" * 64,
)  # fmt: skip
HANDWRITTEN = HandwrittenQuestion(
    id="h", question="How much?", answers=["60 €"], kind="answerable", style="short", document="gdpr", article="17",
    quote="60 €",
)  # fmt: skip
PRACTICE = PracticeQuestion(
    id="p", question="How much?", answer="60 €", kind="answerable", style="short", document="cra", section="§ 1",
    quote="60 €", title="CRA", heading_path=[], passage="It is 60 €.",
)  # fmt: skip
ROWS: list[BaseModel] = [CHUNK, PAGE, EXAMPLE, HANDWRITTEN, PRACTICE]
TOKENS = [
    b"\n", b"\r", b"\x00", b"\xff", b"\xe2\x82", b"\xef\xbb\xbf", b"{", b"}", b"[", b'"', b"null", b"NaN", b"-1",
    b"1e999", b"9" * 40, b'"schema_version":2,', b"\\ud800", b"\xe2\x80\xa8", b"[" * 3000, b"true",
]  # fmt: skip


def lines(row: BaseModel) -> bytes:
    return (row.model_dump_json() + "\n").encode() * 3


def one_line(fault: MarkError) -> None:
    assert "\n" not in str(fault) and len(str(fault)) < 2000, str(fault)


@examples(few=150, many=5000)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_rows(limits: settings, row: BaseModel, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"

    @limits
    @given(content=mutated([lines(row)], TOKENS))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            assert all(type(found) is type(row) for found in iter_jsonl(path, type(row)))
        except DataError as fault:
            one_line(fault)
            assert str(path) in str(fault) and "line " in str(fault)

    check()


def test_a_file_cut_at_any_byte_gives_its_whole_rows_or_names_the_line(tmp_path: Path) -> None:
    path, content = tmp_path / "rows.jsonl", lines(CHUNK)
    length = len(content) // 3
    for size in range(len(content)):
        path.write_bytes(content[:size])
        whole, rest = divmod(size, length)
        if rest in (0, length - 1):  # only the line's end is missing
            assert len(list(iter_jsonl(path, Chunk))) == whole + (rest > 0)
        else:
            with pytest.raises(
                DataError, match=rf"rows\.jsonl, line {whole + 1}: .*; mend or regenerate the file"
            ):
                list(iter_jsonl(path, Chunk))


INBOX = (
    '{"schema_version":1,"id":"a1","question":"How much?","answer":"60 €","rating":"up","edited":null,'
    '"contexts":[],"source":"x","at":"2026-01-01T00:00:00Z"}\n'
)


@examples(few=150, many=5000)
def test_logs_that_people_and_servers_append_to(limits: settings, tmp_path: Path) -> None:
    """A line that nobody can read is passed over or named; the others count."""
    feedback = tmp_path / "feedback"
    (tmp_path / "data").mkdir()
    feedback.mkdir()

    @limits
    @given(content=mutated([INBOX.encode() * 3, lines(EXAMPLE)], TOKENS))
    def check(content: bytes) -> None:
        for path in (
            feedback / "inbox.jsonl",
            feedback / "answers.jsonl",
            tmp_path / "data/feedback_accepted.jsonl",
        ):
            path.write_bytes(content)
        try:
            list(read_lines(feedback / "inbox.jsonl"))
            read_inbox(tmp_path)
            find_entry(tmp_path, "a1")
            newest_entry(tmp_path)
            read_accepted(tmp_path / "data/feedback_accepted.jsonl")
        except MarkError as fault:
            one_line(fault)

    check()


RECORDS = [
    {"schema_version": 1, "key": "k", "chunks": 3, "pages": 1, "documents": 1, "dimension": 4, "model_sha256": "0" * 64},
    {"schema_version": 1, "champion": "random_lora", "log": [
        {"entry": "random_lora", "adapter_sha256": "0" * 64, "at": "2026-01-01T00:00:00Z", "over": None,
         "forced": False, "reason": "better"}]},
    {"origin": "random", "requirement": None, "wheel_sha256": None, "member": None, "repo_id": None, "revision": None,
     "path": None, "weights_sha256": None, "licence": "none", "random": True, "seed": 0, "architecture": "llama",
     "dtype": "F32", "files": {"config.json": "0" * 64}},
]  # fmt: skip


@examples(few=150, many=5000)
def test_records(limits: settings, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    paths = [tmp_path / name for name in ("index.json", "models/champion.json", "SOURCE.json")]

    @limits
    @given(content=mutated([json.dumps(record, indent=2).encode() for record in RECORDS], TOKENS))
    def check(content: bytes) -> None:
        for path in paths:
            path.write_bytes(content)
        for read in (
            lambda: read_json(paths[0]), lambda: read_index(tmp_path), lambda: read_log(tmp_path),
            lambda: read_source(tmp_path),
        ):  # fmt: skip
            try:
                read()
            except MarkError as fault:
                one_line(fault)

    check()


@examples(few=150, many=5000)
def test_replies_of_a_language_model(limits: settings) -> None:
    endpoint = Endpoint(llm_settings("http://127.0.0.1:9"), None, seed=1)
    whole = [
        completion("hello", "stop"),
        b'{"error": {"message": "slow down", "code": "rate_limit", "type": null}}',
    ]

    @limits
    @given(content=mutated(whole, TOKENS))
    def check(content: bytes) -> None:
        found = endpoint._reply(content)
        assert isinstance(found, Reply) or "\n" not in found.text

    check()
    endpoint.close()
