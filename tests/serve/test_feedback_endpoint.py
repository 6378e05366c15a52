"""/v1/feedback: what is acknowledged lies in the inbox, once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mark.append_log import locked
from mark.rlhf.feedback import INBOX, read_inbox
from tests.pipeline.test_auto import QUESTIONS
from tests.serve.conftest import StartServer, asking


def test_a_judgement_reaches_the_inbox_once(start: StartServer) -> None:
    live = start(models=())
    with live.client() as client:
        said = client.post("/v1/chat/completions", json=asking(QUESTIONS[2])).json()
        thumb = {"id": said["id"], "rating": "up"}
        placed = [client.post("/v1/feedback", json=thumb).json()["placed"] for _ in range(3)]
        assert placed == ["added", "already there", "already there"]
        edit = {"id": said["id"], "rating": "down", "edited": "The tenant.", "comment": "names him"}
        assert client.post("/v1/feedback", json=edit).json() == {
            "object": "feedback", "id": said["id"], "placed": "changed"
        }  # fmt: skip
    (row,) = {row.id: row for row in read_inbox(live.root).rows}.values()
    assert (row.thumb, row.edited, row.comment) == ("down", "The tenant.", "names him")
    assert (row.question, row.answer) == (QUESTIONS[2], said["choices"][0]["message"]["content"])
    assert row.source.startswith("http-") and "127" not in row.source


def test_feedback_of_many_at_once_is_all_kept(start: StartServer) -> None:
    live = start(models=())
    with live.client() as client:
        ids = [client.post("/v1/chat/completions", json=asking(QUESTIONS[2])).json()["id"] for _ in range(8)]

        def rate(name: str) -> int:
            return client.post("/v1/feedback", json={"id": name, "rating": "up"}).status_code

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(rate, ids + ids)) == {200}
    assert sorted(row.id for row in read_inbox(live.root).rows) == sorted(ids)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"id": "ans-000000000000000000000000", "rating": "up"}, 404, "no answer"),
        ({"id": "../../etc/passwd", "rating": "up"}, 404, "no answer"),
        ({"rating": "up"}, 400, "id"),
        ({"id": "ID"}, 400, "neither a rating nor an edited answer"),
        ({"id": "ID", "rating": "sideways"}, 400, "rating"),
        ({"id": "ID", "rating": "up", "source": "me"}, 400, "source"),
        ({"id": "ID", "edited": " "}, 400, "empty"),
        ({"id": "ID", "edited": "x" * 9000}, 400, "9000 characters"),
    ],
)
def test_bad_feedback_is_said(start: StartServer, body: dict[str, str], status: int, said: str) -> None:
    live = start(models=())
    with live.client() as client:
        name = client.post("/v1/chat/completions", json=asking(QUESTIONS[2])).json()["id"]
        sent = {key: name if value == "ID" else value for key, value in body.items()}
        found = client.post("/v1/feedback", json=sent)
        assert found.status_code == status and said in found.json()["error"]["message"]
        half = client.post(
            "/v1/feedback", content=b'{"id": "\\ud800", "edited": "\\ud800"}',
            headers={"content-type": "application/json"},
        )  # fmt: skip
        assert half.status_code in (400, 404)
    assert read_inbox(live.root).rows == []


def test_an_inbox_that_takes_nothing_is_the_servers_fault(
    start: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = start(models=())
    with live.client() as client:
        name = client.post("/v1/chat/completions", json=asking(QUESTIONS[2])).json()["id"]
        assert client.post("/v1/feedback", json={"id": name, "rating": "up"}).status_code == 200
        thumb = {"id": name, "rating": "down"}
        monkeypatch.setattr("mark.rlhf.feedback.INBOX_BYTES", 10)
        full = client.post("/v1/feedback", json=thumb)
        monkeypatch.undo()
        monkeypatch.setattr("mark.append_log._LOCK_S", 0.2)
        with locked(live.root / INBOX):
            held = client.post("/v1/feedback", json=thumb)
        for found, said in ((full, "is full"), (held, "is held by another")):
            message = found.json()["error"]["message"]
            assert found.status_code == 503 and found.headers["retry-after"] == "10"
            assert message.startswith(f"{INBOX} {said}") and str(live.root) not in message
        assert client.post("/v1/feedback", json=thumb).json()["placed"] == "changed"


@pytest.mark.parametrize(
    ("trusted", "sources"),
    [([], 1), (["10.9.8.0/24"], 1), (["127.0.0.1"], 2), (["127.0.0.0/8"], 2)],
    ids=["none", "another", "address", "network"],
)
def test_a_client_behind_a_trusted_proxy_is_a_source_of_its_own(
    start: StartServer, trusted: list[str], sources: int
) -> None:
    live = start(models=(), trusted_proxies=trusted)
    with live.client() as client:
        for address in ("203.0.113.4", "203.0.113.4", "203.0.113.5"):
            said = client.post("/v1/chat/completions", json=asking(QUESTIONS[2])).json()
            sent = {"id": said["id"], "rating": "up"}
            rated = client.post("/v1/feedback", json=sent, headers={"X-Forwarded-For": address})
            assert rated.status_code == 200
    rows = read_inbox(live.root).rows
    assert len(rows) == 3 and len({row.source for row in rows}) == sources
