"""Batching, the bounded queue, clients that go away, stopping, and a new champion under load."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import yaml

from mark import AutoPipeline
from mark.pipeline.streaming import _Overheard
from mark.registry.promotion import promote as registry_promote
from mark.registry.view import adapter_sha256
from tests.pipeline.conftest import promote
from tests.pipeline.test_auto import QUESTIONS
from tests.serve.conftest import Live, StartServer, asking

TOKENS = 24  # of an answer that is cancelled


def ask(live: Live, question: str, **more: Any) -> httpx.Response:
    with live.client() as client:
        return client.post("/v1/chat/completions", json=asking(question, **more))


def wait_for(live: Live, name: str, value: float) -> None:
    ends = time.monotonic() + 30
    while live.metric(name) != value:
        assert time.monotonic() < ends, f"{name} is {live.metric(name)}"
        time.sleep(0.05)


def test_questions_that_come_together_are_answered_together(start: StartServer) -> None:
    live = start(batch_window_ms=1500, max_batch=4)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda q: ask(live, q).json(), QUESTIONS[:4]))
    single = [answer.text for answer in map(AutoPipeline(live.root).process_query, QUESTIONS[:4])]
    assert [one["choices"][0]["message"]["content"] for one in found] == single
    assert (live.metric("mark_batch_size_count"), live.metric("mark_batch_size_sum")) == (1, 4)
    assert live.metric("mark_answers_total") == 4 and live.metric("mark_queue_length") == 0


def test_one_bad_question_spoils_no_batch(start: StartServer) -> None:
    """It fits serve.max_question_chars, and not the prompt."""
    live = start(batch_window_ms=1500, max_batch=2, max_question_chars=5000)
    with ThreadPoolExecutor(2) as threads:
        bad, good = threads.map(lambda q: ask(live, q), ["word " * 300, QUESTIONS[0]])
    assert good.status_code == 200
    assert bad.status_code == 400 and bad.json()["error"]["code"] == "invalid_question"


def test_a_full_queue_says_when_to_come_back(start: StartServer) -> None:
    live = start(batch_window_ms=3000, queue_size=2)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(ask, live, question) for question in QUESTIONS[:2]]
        wait_for(live, "mark_queue_length", 2)
        refused = ask(live, QUESTIONS[2])
        streamed = ask(live, QUESTIONS[2], stream=True)
        assert [one.result().status_code for one in waiting] == [200, 200]
    for found in (refused, streamed):
        assert found.status_code == 429 and int(found.headers["retry-after"]) >= 1
        assert found.json()["error"] == {
            "message": found.json()["error"]["message"], "type": "rate_limit_error", "param": None,
            "code": "queue_full",
        }  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_leaves_the_queue(start: StartServer, stream: bool) -> None:
    live = start(models=(), batch_window_ms=20_000)
    with pytest.raises(httpx.ReadTimeout), live.client() as client:
        client.post("/v1/chat/completions", json=asking(QUESTIONS[0], stream=stream), timeout=0.5)
    wait_for(live, "mark_dropped_total", 1)
    assert live.metric("mark_queue_length") == 0 and live.metric("mark_answers_total") == 0


def events(live: Live, question: str) -> list[Any]:
    """The events of a stream with a draft."""
    lines = ask(live, question, stream=True, mark={"draft": True}).text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


def drafts(found: list[Any]) -> list[str | None]:
    return [event["mark"]["draft"] for event in found if "draft" in event.get("mark", {})]


def test_a_drafted_question_joins_those_that_wait(start: StartServer) -> None:
    """Where none came within the window it tells its draft; with others it is answered in their batch."""
    live = start(batch_window_ms=2000, max_batch=4)
    alone = events(live, QUESTIONS[0])
    assert "".join(filter(None, drafts(alone))) and None not in drafts(alone)
    with ThreadPoolExecutor(3) as threads:
        plain = threads.submit(ask, live, QUESTIONS[1])
        wait_for(live, "mark_queue_length", 1)
        joined = list(threads.map(lambda question: events(live, question), [QUESTIONS[0], QUESTIONS[2]]))
        assert plain.result().status_code == 200
    assert [drafts(found) for found in joined] == [[None], [None]]
    assert (live.metric("mark_batch_size_count"), live.metric("mark_batch_size_sum")) == (2, 4)
    (before,), (after,) = (
        [one["mark"] for one in found if "quotes" in one.get("mark", {})] for found in (alone, joined[0])
    )
    assert before["passages"] == after["passages"]


def test_a_draft_that_nobody_reads_is_not_written_on(
    start: StartServer, make_root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancel on the page: the generation ends at its next token, and the next question is answered."""
    steps, writing, real = 0, threading.Event(), _Overheard.step

    def slow(self: Any, tokens: Any) -> Any:
        nonlocal steps
        steps += 1
        writing.set()
        time.sleep(0.3)
        return real(self, tokens)

    monkeypatch.setattr(_Overheard, "step", slow)
    root = make_root(["transformer_lora"])
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["eval"]["max_new_tokens"] = TOKENS
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    live = start(root=root)
    body = asking(QUESTIONS[0], stream=True, mark={"draft": True})
    with live.client() as client, client.stream("POST", "/v1/chat/completions", json=body):
        assert writing.wait(30)
    wait_for(live, "mark_dropped_total", 1)
    monkeypatch.undo()
    began = time.monotonic()
    assert ask(live, QUESTIONS[2]).status_code == 200
    assert time.monotonic() - began < 5 and live.metric("mark_answers_total") == 1
    assert 0 < steps < TOKENS // 2


def test_too_late_is_408(start: StartServer) -> None:
    live = start(models=(), batch_window_ms=20_000, timeout_s=0.3)
    found = ask(live, QUESTIONS[0])
    assert found.status_code == 408 and found.json()["error"]["code"] == "timeout"
    assert live.metric("mark_queue_length") == 0


def test_stopping_answers_what_waits(start: StartServer) -> None:
    live = start(batch_window_ms=4000)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(ask, live, question) for question in QUESTIONS[:2]]
        wait_for(live, "mark_queue_length", 2)
        live.stop()
        assert [one.result().status_code for one in waiting] == [200, 200]
    with pytest.raises(httpx.ConnectError):
        ask(live, QUESTIONS[0])


def test_a_new_champion_takes_over_without_a_dropped_request(start: StartServer, make_root: Any) -> None:
    root = make_root(["transformer_lora", "mamba_lora"])
    promote(root, "transformer_lora")
    live = start(root=root, batch_window_ms=1, queue_size=1000)
    stop, found = threading.Event(), []

    def keep_asking() -> None:
        while not stop.is_set():
            found.append(ask(live, QUESTIONS[0]))

    with ThreadPoolExecutor(3) as threads:
        for _ in range(3):
            threads.submit(keep_asking)
        while not found:
            time.sleep(0.05)
        mamba = root / "models/mamba_lora"
        registry_promote(root, mamba, adapter_sha256(mamba), "for the test", forced=True)
        ends = time.monotonic() + 60
        while found[-1].json()["model"] != "mamba_lora" and time.monotonic() < ends:
            time.sleep(0.05)
        stop.set()
    models = [one.json()["model"] for one in found]
    assert {one.status_code for one in found} == {200}
    assert set(models) == {"transformer_lora", "mamba_lora"}
    assert {one.json()["mark"]["rule"] for one in found} == {"champion"}


def test_a_broken_champion_changes_nothing_that_answers(start: StartServer, make_root: Any) -> None:
    root = make_root(["transformer_lora"])
    promote(root, "transformer_lora")
    live = start(root=root)
    assert ask(live, QUESTIONS[0]).json()["mark"]["rule"] == "champion"
    (root / "data/index.json").rename(root / "data/gone.json")  # ingest runs: nothing can be loaded
    promote(root, "nobody", "0" * 64)
    time.sleep(0.5)
    assert ask(live, QUESTIONS[0]).json()["mark"]["rule"] == "champion"
    (root / "data/gone.json").rename(root / "data/index.json")
    ends = time.monotonic() + 30
    while ask(live, QUESTIONS[0]).json()["mark"]["rule"] != "priority":
        assert time.monotonic() < ends


def test_a_server_without_documents_gets_ready_when_they_come(start: StartServer, make_root: Any) -> None:
    root = make_root([])
    (root / "data/index.json").rename(root / "data/gone.json")
    live = start(root=root)
    with live.client() as client:
        assert client.get("/healthz").status_code == 200
        found = client.get("/readyz")
        assert (found.status_code, found.json()["error"]["code"]) == (503, "not_ready")
        assert ask(live, QUESTIONS[2]).json()["error"]["code"] == "unavailable"
        (root / "data/gone.json").rename(root / "data/index.json")
        ends = time.monotonic() + 30
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < ends
    assert ask(live, QUESTIONS[2]).status_code == 200


def test_models_give_way_to_each_other(start: StartServer) -> None:
    live = start(models=("transformer_lora", "transformer"))
    for name in ("transformer", "auto", "transformer", "transformer_lora"):
        assert ask(live, QUESTIONS[0], model=name).json()["model"] == name.replace("auto", "transformer_lora")


def test_metrics_count_the_steps(start: StartServer) -> None:
    live = start()
    ask(live, QUESTIONS[0])
    for name, value in [
        ("mark_step_seconds_count", 5), ("mark_answers_total", 1), ("mark_batch_size_count", 1),
        ("mark_feedback_total", 0), ("mark_queue_length", 0),
    ]:  # fmt: skip
        assert live.metric(name) == value
    assert live.metric("mark_tokens_total") > 10 and live.metric("mark_requests_total") >= 1
