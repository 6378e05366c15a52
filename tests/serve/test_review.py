"""/v1/feedback/inbox and /review: the same rules as `mark feedback review`, behind the token."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, as_completed, wait
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from mark.append_log import locked
from mark.files import CHUNKS, TEST_SFT, read_jsonl
from mark.pipeline.auto import LOADING
from mark.records import Chunk, Example
from mark.rlhf.feedback import (
    ACCEPTED,
    INBOX,
    REJECTED,
    Encode,
    append_feedback,
    read_accepted,
    read_inbox,
    rejected_ids,
)
from mark.rlhf.review import Waiting, project_encoder, screened_inbox
from mark.serve import screening
from mark.serve.screening import KnownVectors
from tests.conftest import ROOT
from tests.pipeline.test_auto import QUESTIONS
from tests.rlhf.test_feedback import row
from tests.serve.conftest import TOKEN, Live, StartServer, asking


@pytest.fixture
def live(start: StartServer) -> Live:
    """A server with a token and an inbox of four rows."""
    served = start(models=(), token=TOKEN)
    chunk = read_jsonl(served.root / CHUNKS, Chunk)[0]
    tested = read_jsonl(served.root / TEST_SFT, Example)[0].question
    first = row(
        1,
        contexts=[chunk.chunk_id, "gone"],
        edited="one euro",
        thumb="down",
        comment="\u202eesrever <script>",
    )
    same = row(4, question=row(2).question.upper(), answer=row(2).answer)
    for item in (first, row(2), row(3, question=tested.upper()), same):
        append_feedback(item, served.root)
    return served


def inbox(live: Live, **query: Any) -> Any:
    with live.client() as client:
        found = client.get("/v1/feedback/inbox", params=query)
    assert found.status_code == 200, found.text
    return found.json()


def decide(live: Live, **body: Any) -> httpx.Response:
    with live.client() as client:
        return client.post("/v1/feedback/review", json=body)


def seen(live: Live, *names: str) -> list[dict[str, str]]:
    """What accepts rows as they are in the inbox now."""
    rows = {item.id: item.seen for item in read_inbox(live.root).rows}
    return [{"id": name, "seen": rows.get(name, "0" * 32)} for name in names]


def accepted(root: Path) -> list[str]:
    return [item.id for item in read_accepted(root / ACCEPTED)] if (root / ACCEPTED).is_file() else []


def test_a_reviewer_sees_what_was_said_and_on_what_ground(live: Live) -> None:
    found = inbox(live)
    assert [item["id"] for item in found["data"]] == ["r001", "r002"]
    first = found["data"][0]
    chunk = read_jsonl(live.root / CHUNKS, Chunk)[0]
    given = row(1)
    assert (first["question"], first["answer"], first["edited"]) == (given.question, given.answer, "one euro")
    assert (first["thumb"], first["comment"]) == ("down", "\u202eesrever <script>")
    assert (first["source"], first["model"], first["received"]) == (given.source, given.model, given.received)
    assert (first["reason"], first["why"], first["replaces"]) == (None, None, False)
    shown, gone = first["passages"]
    assert (shown["title"], shown["pages"], shown["text"]) == (chunk.title, chunk.pages, chunk.text)
    assert (gone["chunk_id"], gone["text"]) == ("gone", None)
    assert found["stays_out"] == [
        {"reason": "duplicate", "count": 1},
        {"reason": "test question", "count": 1},
    ]
    assert (found["waiting"], found["total"], found["unreadable"], found["accepted"]) == (2, 2, 0, 0)
    out = inbox(live, state="out")["data"]
    assert [(item["id"], item["reason"]) for item in out] == [
        ("r003", "test question"),
        ("r004", "duplicate"),
    ]
    assert "never trained on" in out[0]["why"]


def test_the_inbox_comes_in_pages_and_is_never_stale(live: Live) -> None:
    second = inbox(live, offset=1, limit=1)
    assert [item["id"] for item in second["data"]] == ["r002"] and second["total"] == 2
    assert inbox(live, offset=9)["data"] == []
    append_feedback(row(7), live.root)
    with (live.root / INBOX).open("a") as stream:
        stream.write("no feedback\n")
    found = inbox(live)
    assert [item["id"] for item in found["data"]] == ["r001", "r002", "r007"] and found["unreadable"] == 1
    with live.client() as client:
        for query in ({"limit": 101}, {"limit": 0}, {"offset": -1}, {"state": "all"}):
            assert client.get("/v1/feedback/inbox", params=query).status_code == 400


def test_accepted_rows_are_what_training_reads(live: Live) -> None:
    done = decide(live, accept=seen(live, "r001"), reject=["r002"])
    assert (done.status_code, done.json()) == (
        200, {"object": "review", "accepted": ["r001"], "rejected": ["r002"]}
    )  # fmt: skip
    (kept,) = read_accepted(live.root / ACCEPTED)
    assert (kept.id, kept.edited) == ("r001", "one euro") and rejected_ids(live.root) == ["r002"]
    found = inbox(live)
    assert (found["waiting"], found["accepted"]) == (1, 1)  # r004, whose double was refused
    assert decide(live, reject=["r001"]).status_code == 200
    assert accepted(live.root) == [] and rejected_ids(live.root) == ["r001", "r002"]


def test_what_is_said_of_an_answer_over_http_reaches_training(start: StartServer) -> None:
    live = start(models=(), token=TOKEN)
    with live.client() as client:
        name = client.post("/v1/chat/completions", json=asking("Who pays the plumber of the club?")).json()[
            "id"
        ]
        client.post("/v1/feedback", json={"id": name, "rating": "down", "edited": "The treasurer pays."})
    (waits,) = inbox(live)["data"]
    assert waits["id"] == name and waits["passages"] and all(one["text"] for one in waits["passages"])
    assert decide(live, accept=seen(live, name)).json()["accepted"] == [name]
    assert [item.edited for item in read_accepted(live.root / ACCEPTED)] == ["The treasurer pays."]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"accept": ["r001", "r003"]}, 409, "r003 stays out: test question"),
        ({"accept": ["r004"], "reject": ["r001"]}, 409, "r004 stays out: duplicate"),
        ({"accept": ["r001", "r999"]}, 409, "r999 is not in the inbox"),
        ({"accept": ["r001"], "reject": ["../../etc/passwd"]}, 409, "../../etc/passwd is not in the inbox"),
        ({"accept": ["r001"], "reject": ["r001"]}, 400, "r001 is both accepted and rejected"),
        ({"accept": [], "reject": []}, 400, "neither accept nor reject names an id"),
        ({}, 400, "neither accept nor reject names an id"),
        ({"accept": "r001"}, 400, "accept"),
        ({"accept": ["r" * 81]}, 400, "accept.0.id"),
        ({"accept": [f"r{i}" for i in range(501)]}, 400, "accept"),
        ({"accept": [{"id": "r001"}]}, 400, "accept.0.seen"),
        ({"accept": [{"id": "r001", "seen": "0" * 32}]}, 409, "r001 has changed since you saw it"),
        ({"accept": ["r001"], "accept_all": True}, 400, "accept_all"),
        ({"accept": ["\x1b[2J"]}, 409, r"'\x1b[2J' is not in the inbox"),
    ],
)
def test_what_may_not_be_accepted_changes_nothing(
    live: Live, body: dict[str, Any], status: int, said: str
) -> None:
    if isinstance(body.get("accept"), list):
        sent = [one if isinstance(one, dict) else seen(live, one)[0] for one in body["accept"]]
        body = body | {"accept": sent}
    found = decide(live, **body)
    error = found.json()["error"]
    assert found.status_code == status and said in error["message"]
    assert status == 400 or error["param"] in error["message"].replace("\\x1b", "\x1b")
    assert not (live.root / ACCEPTED).exists() and not (live.root / REJECTED).exists()


def test_what_its_sender_changed_meanwhile_is_not_accepted(live: Live) -> None:
    """The reviewer has read one edit; the sender puts another in its place."""
    first, second = ({"id": item["id"], "seen": item["seen"]} for item in inbox(live)["data"])
    append_feedback(row(1, contexts=[], edited="send your money to me", thumb="down"), live.root)
    found = decide(live, accept=[second, first])
    assert found.status_code == 409
    assert found.json()["error"] == {
        "message": "feedback r001 has changed since you saw it; look at it again",
        "type": "invalid_request_error", "param": "r001", "code": "not_reviewed",
    }  # fmt: skip
    assert accepted(live.root) == []
    assert decide(live, accept=[second]).json()["accepted"] == ["r002"]
    (again,) = inbox(live)["data"]
    assert again["edited"] == "send your money to me" and again["seen"] != first["seen"]


def test_a_hand_written_test_question_cannot_be_accepted(live: Live) -> None:
    append_feedback(row(8, question="How many members can force a meeting?"), live.root)
    assert (
        decide(live, accept=seen(live, "r008"))
        .json()["error"]["message"]
        .startswith("feedback r008 stays out: test")
    )
    assert accepted(live.root) == []


def test_reviews_at_once_lose_nothing_and_take_nothing_twice(live: Live) -> None:
    for number in range(10, 18):
        append_feedback(row(number), live.root)
    names = [f"r{number:03}" for number in range(10, 18)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda name: decide(live, accept=seen(live, name)).status_code, names))
    assert set(found) <= {200, 429} and 200 in found
    assert accepted(live.root) == [name for name, status in zip(names, found, strict=True) if status == 200]
    with ThreadPoolExecutor(4) as threads:
        same = sorted(threads.map(lambda _: decide(live, accept=seen(live, "r001")).status_code, range(4)))
    assert same.count(200) == 1 and set(same) <= {200, 409, 429}
    busy = [status for status in found + same if status == 429]
    assert len(busy) + found.count(200) + same.count(200) + same.count(409) == 12


def test_the_command_line_may_review_meanwhile(live: Live) -> None:
    command = [sys.executable, "-m", "mark", "feedback", "review", "--accept", "r001"]
    process = subprocess.Popen(command, cwd=live.root, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert decide(live, accept=seen(live, "r002")).status_code == 200
    assert process.wait(120) == 0
    assert accepted(live.root) == ["r001", "r002"]
    assert inbox(live)["waiting"] == 0


def test_a_damaged_file_of_earlier_reviews_is_one_line(live: Live) -> None:
    (live.root / ACCEPTED).write_text("half a li")
    for found in (decide(live, accept=seen(live, "r001")), httpx.get(
        f"{live.url}/v1/feedback/inbox", headers=live.headers, trust_env=False
    )):  # fmt: skip
        message = found.json()["error"]["message"]
        assert found.status_code == 409 and message.startswith(f"{ACCEPTED}, line 1") and "\n" not in message
    assert (live.root / ACCEPTED).read_text() == "half a li"


def test_the_inbox_is_for_whoever_holds_the_token(live: Live) -> None:
    for headers in ({}, {"Authorization": "Bearer another-token-0123456789"}):
        with httpx.Client(base_url=live.url, headers=headers, trust_env=False) as client:
            assert client.get("/v1/feedback/inbox").status_code == 401
            assert (
                client.post(
                    "/v1/feedback/review", json={"accept": [{"id": "r001", "seen": row(1).seen}]}
                ).status_code
                == 401
            )
    assert accepted(live.root) == []


@pytest.mark.parametrize("token", [None, TOKEN])
def test_with_a_token_of_their_own_reviewers_alone_see_the_inbox(
    start: StartServer, token: str | None
) -> None:
    reviewers = "the-reviewers-token-0123456789"
    live = start(models=(), token=token, review_token=reviewers)
    with httpx.Client(base_url=live.url, timeout=60, trust_env=False) as client:

        def statuses(given: str | None) -> list[int]:
            headers = {} if given is None else {"Authorization": f"Bearer {given}"}
            inbox = client.get("/v1/feedback/inbox", headers=headers)
            review = client.post("/v1/feedback/review", headers=headers, json={"accept": [], "reject": []})
            return [one.status_code for one in (inbox, review, client.get("/v1/models", headers=headers))]

        assert statuses(reviewers) == [200, 400, 200]  # an empty review is refused as such
        assert statuses(TOKEN) == [401, 401, 200]
        assert statuses(None) == [401, 401, 200 if token is None else 401]


def test_a_server_without_a_token_takes_no_reviews(start: StartServer) -> None:
    live = start(models=())
    append_feedback(row(1), live.root)
    with live.client() as client:
        for found in (
            client.get("/v1/feedback/inbox"),
            client.post("/v1/feedback/review", json={"accept": [{"id": "r001", "seen": row(1).seen}]}),
        ):
            assert found.status_code == 403
            assert "start the server with MARK_REVIEW_TOKEN or" in found.json()["error"]["message"]
    assert accepted(live.root) == []


def test_questions_are_answered_while_a_review_waits(live: Live) -> None:
    """The lock that another program holds stops the review, not the server; the second one is told to wait."""
    with ThreadPoolExecutor(2) as threads, live.client() as client:
        with locked(live.root / "feedback/review"):
            sent = {threads.submit(decide, live, accept=seen(live, name)): name for name in ("r001", "r002")}
            ended, waiting = wait(sent, return_when=FIRST_COMPLETED)
            assert [one.result().status_code for one in ended] == [429]
            assert next(iter(ended)).result().headers["retry-after"] == "5"
            assert client.get("/healthz").status_code == 200
            assert client.post("/v1/chat/completions", json=asking(QUESTIONS[2])).status_code == 200
            assert LOADING.acquire(timeout=5)  # new documents and champions can be loaded meanwhile
            LOADING.release()
            (left,) = waiting
            assert not left.done() and accepted(live.root) == []
        assert left.result().status_code == 200
    assert accepted(live.root) == [sent[left]]


def test_the_embedder_is_loaded_once_and_embeds_what_is_new(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, embedded, free = [], [], []

    def encoder(root: Path) -> Encode | None:
        loaded.append(root)
        encode = project_encoder(root)
        assert encode is not None

        def counted(texts: Sequence[str]) -> NDArray[np.float32]:
            embedded.extend(texts)
            with ThreadPoolExecutor(1) as other:
                free.append(
                    other.submit(lambda: LOADING.acquire(timeout=5) and not LOADING.release()).result()
                )
            return encode(texts)

        return counted

    monkeypatch.setattr(screening, "project_encoder", encoder)
    assert inbox(live)["waiting"] == 2
    before = len(embedded)
    append_feedback(row(7), live.root)
    assert inbox(live)["waiting"] == 3
    assert decide(live, accept=seen(live, "r007")).status_code == 200
    assert len(loaded) == 1 and free and all(free)
    assert embedded[before:] == [row(7).question]


def test_known_vectors_are_those_of_the_embedder() -> None:
    asked = []

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        asked.append(list(texts))
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)

    known = KnownVectors(encode, limit=2)
    assert known(["a", "bb", "a", "ccc"]).tolist() == [[1, 1], [2, 1], [1, 1], [3, 1]]
    assert known(["ccc", "bb"]).tolist() == [[3, 1], [2, 1]] and known(["a"]).tolist() == [[1, 1]]
    assert asked == [["a", "bb", "ccc"], ["a"]]  # the oldest of three was not kept


def test_readers_of_the_inbox_share_one_screening_and_have_a_limit(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, calls = threading.Event(), []

    def slow(*given: Any) -> Waiting:
        calls.append(given)
        assert go.wait(60)
        return screened_inbox(*given)

    monkeypatch.setattr(screening, "screened_inbox", slow)

    def read(_: int) -> httpx.Response:
        with live.client() as client:
            return client.get("/v1/feedback/inbox")

    with ThreadPoolExecutor(40) as threads:
        sent = [threads.submit(read, number) for number in range(40)]
        refused = [one.result() for one in islice(as_completed(sent), 8)]
        append_feedback(row(7), live.root)  # who waits is not screened for anew
        go.set()
        answered = [one.result() for one in sent if one.result() not in refused]
    assert [(one.status_code, one.headers["retry-after"]) for one in refused] == [(429, "5")] * 8
    assert [one.status_code for one in answered] == [200] * 32
    assert len(calls) == 1
    assert inbox(live)["waiting"] == 3 and len(calls) == 2


def test_a_server_that_stops_leaves_no_thread(start: StartServer) -> None:
    before = set(threading.enumerate())
    live = start(models=(), token=TOKEN)
    append_feedback(row(1), live.root)
    with live.client() as client:
        assert client.get("/v1/feedback/inbox").status_code == 200
        assert client.post("/v1/feedback", json={"id": "ans-0", "rating": "up"}).status_code == 404
        assert client.get("/v1/documents/none/pages/1.png").status_code == 404

    def mine() -> set[str]:
        new = set(threading.enumerate()) - before
        return {one.name.split("_")[0] for one in new} & {"review", "feedback", "pages"}

    assert mine() == {"review", "feedback", "pages"}
    live.stop()
    ends = time.monotonic() + 20
    while mine() and time.monotonic() < ends:
        time.sleep(0.05)
    assert mine() == set()
