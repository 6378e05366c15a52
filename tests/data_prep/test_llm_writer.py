"""From passages to drafts: nothing is sent unasked or twice, and every reply is accounted for."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mark.commands.doctor import _llm as llm_check
from mark.config import DataPrep
from mark.data_prep.llm import endpoint as client
from mark.data_prep.llm.account import Account
from mark.data_prep.llm.cache import Reply, ReplyCache
from mark.data_prep.llm.writer import Drafts, QuestionWriter, chosen_passages
from mark.errors import ConfigError, DataError, EndpointError, GuardError
from mark.records import Chunk
from tests.conftest import ROOT
from tests.data_prep.llm_server import (
    Body,
    Say,
    Server,
    good_answer,
    llm_settings,
    passage_of,
    questions,
    serving,
)
from tests.data_prep.passages import chunk, settings

HAS_PRESIDIO = importlib.util.find_spec("presidio_analyzer") is not None
KEY = "sk-THE-SECRET-KEY-0123456789"
TEXT = (
    "Store {n} keeps its records for seven years and {n} months after the last entry. The keeper, Anna Berg "
    "(anna.berg@example.org), shall lock the gate of store {n} within {n} hours after the last delivery."
)
CHUNKS = [chunk(TEXT.format(n=n), f"Article {n}", heading="Records") for n in range(2, 8)]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(good_answer) as running:
        yield running


@pytest.fixture(autouse=True)
def _quick_and_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT_S", 0.02)
    monkeypatch.delenv("MARK_SETUP_MODE", raising=False)


def prep(server: Server, **changes: object) -> DataPrep:
    return settings().model_copy(update={"llm": llm_settings(server.url, **changes)})


def write(server: Server, cache: Path, chunks: list[Chunk] = CHUNKS, **changes: object) -> Drafts:
    return QuestionWriter(prep(server, **changes), cache, seed=3).write(chunks)


def account(drafts: Drafts) -> Account:
    assert drafts.account is not None
    return drafts.account


def test_drafts_are_verbatim_and_restored(server: Server, tmp_path: Path) -> None:
    drafts = write(server, tmp_path)
    assert len(drafts.candidates) == len(CHUNKS)
    for candidate, fault in drafts.candidates:
        assert fault is None and candidate.rule == "llm" and candidate.answer == "the last delivery"
        assert candidate.answer in candidate.quote and candidate.quote in candidate.chunk.text
        assert candidate.quote.startswith("The keeper, Anna Berg (anna.berg@example.org), shall lock")
    foreign = drafts.foreign[0]
    assert foreign.rule == "llm" and foreign.forbidden is not None and foreign.forbidden.search("any Licence")
    assert account(drafts) == Account(
        passages=6, readable=6, items=12, answerable=6, unanswerable=6, masked_values=6
    )


def test_what_is_sent_is_masked(server: Server, tmp_path: Path) -> None:
    write(server, tmp_path)
    assert len(server.seen) == 6
    for seen in server.seen:
        text = json.dumps(seen.body)
        assert "anna.berg@example.org" not in text and "<EMAIL_1>" in text
        assert "Copy them unchanged" in seen.prompt


def test_a_mark_in_an_answer_becomes_the_passages_own_words(server: Server, tmp_path: Path) -> None:
    server.answer = lambda body: Say(
        questions(
            {
                "question": "How can the keeper email_1 of store be reached?",
                "answer": "(<EMAIL_1>)",
                "answerable": True,
            },
            {
                "question": "Who is <PERSON_4> of the records store?",
                "answer": "the keeper",
                "answerable": True,
            },
        )
    )
    drafts = write(server, tmp_path, CHUNKS[:1])
    ((candidate, fault),) = drafts.candidates
    assert fault is None and candidate.answer == "(anna.berg@example.org)"
    assert candidate.question == "How can the keeper anna.berg@example.org of store be reached?"
    assert account(drafts).unknown_placeholder == 1


def test_a_rerun_sends_nothing_and_gives_the_same(server: Server, tmp_path: Path) -> None:
    first = write(server, tmp_path)
    again = write(server, tmp_path, confirmed=False)  # nothing to send: nothing to agree to
    assert len(server.seen) == 6 and again == first
    write(server, tmp_path, temperature=0.1)
    assert len(server.seen) == 12  # other parameters, other key
    write(server, tmp_path, model="small-2")
    assert len(server.seen) == 18
    with serving(good_answer) as elsewhere:  # the same model behind another address
        assert write(elsewhere, tmp_path) == first and elsewhere.seen == []


def test_the_order_of_replies_changes_nothing(server: Server, tmp_path: Path) -> None:
    def uneven(body: Body) -> Say:
        said = good_answer(body)
        return Say(said.content, delay_s=0.3 if "store 3" in passage_of(body) else 0.0)

    first = write(server, tmp_path / "a", concurrency=1)
    server.answer = uneven
    assert write(server, tmp_path / "b", concurrency=4) == first


def test_no_more_than_the_bound_is_under_way(server: Server, tmp_path: Path) -> None:
    server.answer = lambda body: Say(good_answer(body).content, delay_s=0.2)
    write(server, tmp_path, concurrency=2)
    assert server.most_under_way == 2


def test_wrong_json_is_asked_for_once_more_then_dropped_and_counted(server: Server, tmp_path: Path) -> None:
    def wrong(body: Body) -> Say:
        passage = passage_of(body)
        if "store 3" in passage and len(body["messages"]) == 2:
            return Say("Here you are: {broken")  # mends itself when asked again
        if "store 4" in passage:
            return Say("I would rather not.")
        if "store 5" in passage:
            return Say(raw=b'{"error": {"code": "content_filter", "message": "no"}}', status=400)
        return good_answer(body)

    server.answer = wrong
    drafts = write(server, tmp_path)
    assert len(server.seen) == 8
    second = next(seen.body["messages"] for seen in server.seen if len(seen.body["messages"]) == 4)
    assert second[2]["role"] == "assistant" and "not the JSON object" in second[3]["content"]
    counts = account(drafts)
    assert (counts.passages, counts.readable, counts.asked_again, counts.wrong_json, counts.filtered) == (
        6,
        4,
        2,
        1,
        1,
    )
    assert write(server, tmp_path) == drafts and len(server.seen) == 8


def test_every_item_is_accounted_for(server: Server, tmp_path: Path) -> None:
    server.answer = lambda body: Say(
        "Sure.\n```json\n"
        + questions(
            {"question": "How long are records kept in store 2?", "answer": "seven  years", "answerable": True},
            {"question": "How long are records kept in store 2?", "answer": "eight years", "answerable": True},
            {"question": "When is the gate of store 2 locked?", "answer": "2 hour", "answerable": True},
            {"question": "Who pays for the lock of store 2?", "answer": None, "answerable": False, "missing": ["gate"]},
            {"question": "What does this article cost the keeper of records?", "answer": None, "answerable": False, "missing": ["fee"]},
            {"question": "How much is a lock for store 2?", "answer": None, "answerable": False, "missing": ["euro"]},
            {"question": "", "answer": "x", "answerable": True},
        )
        + "\n```\nMore?"
    )  # fmt: skip
    drafts = write(server, tmp_path, CHUNKS[:1])
    assert [(c.answer, fault) for c, fault in drafts.candidates] == [
        ("seven years", None), ("eight years", "not_verbatim"), ("2 hour", "not_verbatim"),
    ]  # fmt: skip
    assert [f.question for f in drafts.foreign] == ["How much is a lock for store 2?"]
    assert account(drafts) == Account(
        passages=1, readable=1, items=7, malformed=1, perhaps_answerable=1, unfit=1, answerable=3, unanswerable=1,
        masked_values=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="do not add up"):
        Account(passages=1, readable=1, items=2, answerable=1)


def test_nothing_is_sent_without_agreement(server: Server, tmp_path: Path) -> None:
    with pytest.raises(GuardError) as caught:
        write(server, tmp_path, confirmed=False, input_price=1.0, output_price=10.0, max_reply_tokens=1000)
    line = str(caught.value)
    # 6 replies of at most 1,000 tokens at 10 a million are 0.06; the prompts add less than 0.01
    assert "\n" not in line and "would send to 127.0.0.1" in line and "at most 6,000 to receive" in line
    assert "6 requests (0 more are answered already)" in line and "at most 0.06 in the currency" in line
    assert "`mark data-prep --confirm`" in line and "data_prep.llm.confirmed=true" in line
    assert server.seen == [] and not tmp_path.joinpath("lock").exists()
    assert (
        len(
            QuestionWriter(prep(server, confirmed=False), tmp_path, 3, confirmed=True)
            .write(CHUNKS)
            .candidates
        )
        == 6
    )


def test_the_estimate_knows_the_cache_and_missing_prices(server: Server, tmp_path: Path) -> None:
    write(server, tmp_path, CHUNKS[:2])
    planned = QuestionWriter(prep(server), tmp_path, 3).estimate(CHUNKS)
    assert (planned.requests, planned.cached, planned.cost) == (4, 2, None)
    assert "cost unknown (data_prep.llm.input_price and output_price are not set)" in str(planned)
    longest = max(len(seen.prompt) for seen in server.seen) + 300
    assert 4 * longest / 5 < planned.input_tokens < 4 * longest / 3


def test_setup_mode_sends_nothing_but_reads_the_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(server, tmp_path)
    monkeypatch.setenv("MARK_SETUP_MODE", "1")
    assert len(write(server, tmp_path).candidates) == 6
    with pytest.raises(GuardError, match=r"nothing is sent to 127\.0\.0\.1.* while MARK_SETUP_MODE is set"):
        write(server, tmp_path / "other")
    assert len(server.seen) == 6


def test_the_host_is_named_before_the_first_request(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    at_first_request: list[str] = []

    def note(body: Body) -> Say:
        at_first_request.append(caplog.text)
        return good_answer(body)

    server.answer = note
    with caplog.at_level(logging.INFO):
        write(server, tmp_path)
    host = server.url.split("/")[2]
    assert (
        f"sends passages of the training split, masked by patterns (names of people stay), to {host}"
        in at_first_request[0]
    )
    assert "(model small-1): 6 requests" in at_first_request[0]
    assert "6 replies came, 600 tokens sent and 120 received" in caplog.text


def test_the_key_is_in_no_log_file_or_error(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    leak = Say(raw=json.dumps({"error": {"message": f"Bearer {KEY} is busy"}}).encode(), status=500)
    server.script = [leak, Say(f"your key is {KEY}"), Say("hello", cut=True)]
    with caplog.at_level(logging.DEBUG):
        write(server, tmp_path, api_key_env="SOME_KEY", concurrency=1)
        server.answer = lambda body: leak
        with pytest.raises(EndpointError) as caught:
            write(server, tmp_path, api_key_env="SOME_KEY", temperature=0.1)
    assert server.seen[0].headers["Authorization"] == f"Bearer {KEY}"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 6
    assert not [path for path in files if KEY in path.read_text()]
    assert KEY not in caplog.text and "Bearer *** is busy" in caplog.text
    assert KEY not in str(caught.value) and caught.value.__cause__ is None


def test_a_missing_key_stops_before_the_first_request(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        write(server, tmp_path, api_key_env="NO_SUCH_KEY")
    assert server.seen == []


def test_one_refusal_ends_all_and_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.script = [
        good_answer({"messages": [{}, {"content": "<passage>\na b c d e f g\n</passage>"}]}),
        Say(raw=b"", status=401),
    ]
    server.answer = lambda body: Say(raw=b"", status=401)
    with pytest.raises(EndpointError, match="HTTP 401"):
        write(server, tmp_path, concurrency=1)
    assert len(server.seen) <= 3
    server.answer = good_answer
    before = len(server.seen)
    write(server, tmp_path)
    assert len(server.seen) - before == 5


def test_a_failing_endpoint_does_not_keep_the_others_waiting(server: Server, tmp_path: Path) -> None:
    server.answer = lambda body: (
        Say(raw=b"", status=401) if "store 3" in passage_of(body) else Say(raw=b"", status=503, headers={"Retry-After": "4"})
    )  # fmt: skip
    started = time.monotonic()
    with pytest.raises(EndpointError, match="HTTP 401"):
        write(server, tmp_path, concurrency=6)
    assert time.monotonic() - started < 3.5


def test_equal_passages_are_asked_about_once(server: Server, tmp_path: Path) -> None:
    twin = CHUNKS[0].model_copy(update={"chunk_id": "twin", "document": "copy"})
    drafts = write(server, tmp_path, [CHUNKS[0], twin])
    assert len(server.seen) == 1 and account(drafts).passages == 2
    assert {c.chunk.document for c, _ in drafts.candidates} == {"code", "copy"}


def test_a_damaged_cache_file_is_named(server: Server, tmp_path: Path) -> None:
    write(server, tmp_path, CHUNKS[:1])
    (path,) = tmp_path.glob("*/*.json")
    path.write_text('{"text": ')
    with pytest.raises(DataError, match=f"{path.name} is damaged; delete it"):
        write(server, tmp_path, CHUNKS[:1])


def test_the_cache_is_keyed_by_all_of_a_request(tmp_path: Path) -> None:
    cache, reply = ReplyCache(tmp_path), Reply(text="é\n", finish="stop", input_tokens=1, output_tokens=None)
    cache.put({"model": "m", "n": 1}, reply)
    assert cache.get({"n": 1, "model": "m"}) == reply
    assert cache.get({"model": "m", "n": 2}) is None
    assert oct((tmp_path).stat().st_mode)[-3:] in ("700", "755")  # pytest's own folder exists already


def test_passages_are_chosen_so_that_a_new_document_moves_few() -> None:
    many = [chunk(TEXT.format(n=n), f"Article {n}") for n in range(100)]
    few = chosen_passages(many, 20, 1)
    more = chosen_passages([*many, *[chunk(TEXT.format(n=n), f"A {n}", "new") for n in range(5)]], 20, 1)
    assert len(few) == 20 and len({c.chunk_id for c in few} & {c.chunk_id for c in more}) >= 15
    assert chosen_passages(list(reversed(many)), 20, 1) == few != chosen_passages(many, 20, 2)
    assert chosen_passages([chunk("Too short to ask about.")], 20, 1) == []


RUN = """
import sys
from pathlib import Path
from mark.config import DataPrep
from mark.data_prep.llm.writer import QuestionWriter
from tests.data_prep.test_llm_writer import CHUNKS
settings = DataPrep.model_validate_json(Path(sys.argv[1]).read_text())
QuestionWriter(settings, Path(sys.argv[2]), seed=3).write(CHUNKS)
"""


def test_after_kill_9_only_what_was_under_way_is_sent_again(server: Server, tmp_path: Path) -> None:
    cache, section = tmp_path / "cache", tmp_path / "section.json"
    section.write_text(prep(server, concurrency=1).model_dump_json())
    server.answer = lambda body: Say(good_answer(body).content, delay_s=0.3)
    command = [sys.executable, "-c", RUN, str(section), str(cache)]
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 120
    while len(list(cache.glob("*/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept, sent = len(list(cache.glob("*/*.json"))), len(server.seen)
    assert 3 <= kept < 6 and sent - kept <= 1
    drafts = write(server, cache, concurrency=1)
    assert len(server.seen) - sent == 6 - kept
    assert drafts == write(server, tmp_path / "afresh")


def test_two_processes_at_once_pay_once(server: Server, tmp_path: Path) -> None:
    section = tmp_path / "section.json"
    section.write_text(prep(server, concurrency=1).model_dump_json())
    server.answer = lambda body: Say(good_answer(body).content, delay_s=0.2)
    command = [sys.executable, "-c", RUN, str(section), str(tmp_path / "cache")]
    children = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(2)
    ]
    assert [child.wait(timeout=300) for child in children] == [0, 0]
    assert len(server.seen) == 6


def test_doctor_says_whether_it_could_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def line(**changes: object) -> tuple[str, str]:
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["data_prep"]["llm"] |= changes
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        (check,) = llm_check(tmp_path)
        return check.found, check.remedy

    on = {"enabled": True, "base_url": "https://api.example.org/v1", "model": "m", "api_key_env": "SOME_KEY"}
    monkeypatch.setenv("SOME_KEY", KEY)
    assert line(enabled=False) == ("off; nothing is sent", "")
    assert line(**on, masking="patterns") == ("api.example.org, model m, key set, masking patterns", "")
    assert "is no installed spaCy model" in line(**on, masking_model="xx_nope")[1] or not HAS_PRESIDIO
    monkeypatch.delenv("SOME_KEY")
    found, remedy = line(**on, masking="patterns")
    assert found == "cannot run" and "SOME_KEY" in remedy
