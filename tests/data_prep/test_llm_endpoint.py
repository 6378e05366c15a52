"""The client against a real server on loopback that also misbehaves."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mark.config import Llm
from mark.data_prep.llm import endpoint as client
from mark.data_prep.llm.cache import Reply
from mark.data_prep.llm.endpoint import Endpoint, read_key
from mark.data_prep.llm.pacing import Pacer
from mark.data_prep.llm.prompts import request_body
from mark.errors import ConfigError, EndpointError
from tests.data_prep.llm_server import Body, Say, Server, completion, llm_settings, serving

KEY = "sk-THE-SECRET-KEY-0123456789"
BUSY = Say(
    raw=b'{"error": {"message": "slow down", "code": "rate_limit"}}', status=429, headers={"Retry-After": "1"}
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(lambda body: Say("hello")) as running:
        yield running


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT_S", 0.02)


def body_for(settings: Llm) -> Body:
    return request_body([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], settings)


def ask(server: Server, key: str | None = None, **changes: object) -> Reply:
    settings = llm_settings(server.url, **changes)
    endpoint = Endpoint(settings, key, seed=1)
    try:
        return endpoint.ask(body_for(settings))
    finally:
        endpoint.close()


def failure(server: Server, key: str | None = None, **changes: object) -> str:
    with pytest.raises(EndpointError) as caught:
        ask(server, key, **changes)
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)
    return str(caught.value)


def test_a_request_has_the_documented_form(server: Server) -> None:
    reply = ask(server, KEY, json_mode=True, temperature=0.5, max_reply_tokens=77)
    assert reply == Reply(text="hello", finish="stop", input_tokens=100, output_tokens=20)
    (seen,) = server.seen
    assert seen.path == "/v1/chat/completions" and seen.headers["Authorization"] == f"Bearer {KEY}"
    assert seen.body == {
        "model": "small-1", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "max_tokens": 77, "temperature": 0.5, "response_format": {"type": "json_object"},
    }  # fmt: skip


def test_parameters_that_an_endpoint_does_not_know_can_be_left_out(server: Server) -> None:
    ask(server, temperature=None, reply_limit_key="max_completion_tokens")
    assert set(server.seen[0].body) == {"model", "messages", "max_completion_tokens"}
    assert "Authorization" not in server.seen[0].headers


def test_retry_after_is_obeyed(server: Server) -> None:
    server.script = [BUSY]
    assert ask(server).text == "hello"
    first, second = server.seen
    assert 1.0 <= second.at - first.at < 3.0


def test_retry_after_may_be_a_date(server: Server) -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    server.script = [Say(raw=b"", status=503, headers={"Retry-After": when})]
    ask(server)
    assert 0.8 <= server.seen[1].at - server.seen[0].at < 4.0


@pytest.mark.parametrize("away", [timedelta(days=-400), timedelta(days=400)])
def test_a_date_is_one_of_the_servers_clock(
    server: Server, away: timedelta, caplog: pytest.LogCaptureFixture
) -> None:
    """Ours may have been set back, or theirs be wrong: what counts is what they tell of both."""
    theirs = datetime.now(UTC) + away
    dates = {"Date": theirs, "Retry-After": theirs + timedelta(seconds=2)}
    server.script = [
        Say(
            raw=b"",
            status=503,
            headers={name: format_datetime(at, usegmt=True) for name, at in dates.items()},
        )
    ]
    caplog.set_level("INFO")
    ask(server)
    assert re.search(r"; try 2 in 2\.[0-2] s", caplog.text)


def test_a_wait_that_is_too_long_ends_the_run(server: Server) -> None:
    server.script = [Say(raw=b"", status=429, headers={"Retry-After": "3600"})]
    assert "asks to wait 3600 s, longer than data_prep.llm.max_wait_s: 5" in failure(server)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "bad",
    [
        Say(raw=b"oops", status=500),
        Say("hello", cut=True),
        Say("hello", delay_s=1.5),
        Say("hello", drip_s=0.2),
        Say(raw=b'{"choices": ['),
        Say(raw=b'{"error": {"message": "upstream is down"}}'),
        Say(raw=b'{"choices": []}'),
        Say(raw=b"<html>gateway</html>", status=502),
    ],
    ids=["500", "cut", "slow", "drips", "half JSON", "error in 200", "no choice", "502"],
)
def test_a_passing_fault_is_tried_again(server: Server, bad: Say) -> None:
    server.script = [bad, bad]
    assert ask(server, timeout_s=0.7).text == "hello"
    assert len(server.seen) == 3


def test_tries_are_limited_and_the_last_fault_is_named(server: Server) -> None:
    server.answer = lambda body: Say(raw=b'{"error": {"message": "out of memory"}}', status=500)
    message = failure(server, max_tries=4)
    assert len(server.seen) == 4
    assert "failed 4 times, last: HTTP 500 (out of memory); replies so far are kept" in message
    assert server.url.split("/")[2] in message


def test_pauses_grow(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_WAIT_S", 0.2)
    server.answer = lambda body: Say(raw=b"", status=500)
    failure(server, max_tries=4)
    gaps = [b.at - a.at for a, b in zip(server.seen, server.seen[1:], strict=False)]
    # half of 0.2, 0.4, 0.8 is certain
    assert gaps[0] >= 0.1 and gaps[1] >= 0.2 and gaps[2] >= 0.4


@pytest.mark.parametrize(
    ("say", "expected"),
    [
        (Say(raw=b'{"error": {"message": "Incorrect API key provided: sk-THE-****6789"}}', status=401),
         "refuses access (HTTP 401): the key in SOME_KEY is wrong or expired"),
        (Say(raw=b'{"error": {"message": "no such model"}}', status=404), "HTTP 404 (no such model); no such path or model"),
        (Say(raw=b'{"error": {"message": "max_tokens is unknown"}}', status=400), "see data_prep.llm.reply_limit_key"),
        (Say(raw=b'{"error": {"code": "insufficient_quota", "message": "pay"}}', status=429), "credit is used up"),
        (Say(raw=b"", status=307, headers={"Location": "http://127.0.0.1:9/"}), "redirects (HTTP 307)"),
        (Say(raw=json.dumps({"error": {"message": f"bad header Bearer {KEY}"}}).encode(), status=422), "Bearer ***"),
        (Say(raw=b'{"error": "in another form"}', status=418), "HTTP 418"),
    ],
    ids=["401", "404", "400", "quota", "redirect", "echo", "418"],
)  # fmt: skip
def test_a_lasting_refusal_is_one_line_at_once(server: Server, say: Say, expected: str) -> None:
    server.answer = lambda body: say
    message = failure(server, KEY, api_key_env="SOME_KEY")
    assert expected in message and "sk-THE" not in message
    assert len(server.seen) == 1


def test_a_content_filter_is_a_reply(server: Server) -> None:
    server.answer = lambda body: Say(
        raw=b'{"error": {"code": "content_filter", "message": "no"}}', status=400
    )
    assert ask(server).finish == "content_filter"


def test_the_key_is_taken_out_of_replies_and_messages(server: Server) -> None:
    server.answer = lambda body: Say(f"you sent {KEY}")
    assert ask(server, KEY).text == "you sent ***"


def test_a_reply_in_parts_and_an_empty_one_are_read(server: Server) -> None:
    parts = json.loads(completion("x"))
    parts["choices"][0]["message"]["content"] = [
        {"type": "text", "text": "hel"},
        {"type": "text", "text": "lo"},
    ]
    empty = json.loads(completion("x", finish="length"))
    empty["choices"][0]["message"]["content"] = None
    empty["usage"] = None
    server.script = [Say(raw=json.dumps(value).encode()) for value in (parts, empty)]
    assert ask(server).text == "hello"
    assert ask(server) == Reply(text="", finish="length", input_tokens=None, output_tokens=None)


def test_the_key_comes_from_the_named_variable_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = llm_settings("http://127.0.0.1:1/v1", api_key_env="SOME_KEY")
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"variable SOME_KEY that .* names is not set"):
        read_key(settings)
    monkeypatch.setenv("SOME_KEY", "sk two words")
    with pytest.raises(ConfigError, match="white space") as caught:
        read_key(settings)
    assert "two words" not in str(caught.value)
    monkeypatch.setenv("SOME_KEY", f" {KEY}\n")
    assert read_key(settings) == KEY
    assert read_key(llm_settings("http://127.0.0.1:1/v1")) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"api_key_env": "sk-abcdef"}, "allowed: the NAME of an environment variable"),
        ({"base_url": "http://user:sk-abcdef@host/v1"}, "without user, password or query"),
        ({"base_url": "http://host/v1?key=sk-abcdef"}, "without user, password or query"),
        ({"base_url": "host/v1"}, r"allowed: http\(s\)://HOST"),
        ({"base_url": None}, "enabled=true needs base_url and model"),
    ],
)
def test_a_key_written_into_conf_is_refused_and_not_repeated(
    changes: dict[str, object], expected: str, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    from mark.config import DataPrep, validate
    from tests.data_prep.passages import settings

    values = settings().model_dump()
    values["llm"] |= {"enabled": True, "base_url": "http://127.0.0.1/v1", "model": "m"} | changes
    with pytest.raises(ConfigError, match=expected) as caught:
        validate(DataPrep, values, "data_prep", tmp_path / "params.yaml")
    assert "sk-abcdef" not in str(caught.value)


def test_plain_http_to_another_machine_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for url in ("http://127.0.0.1:1/v1", "http://localhost/v1", "https://api.example.org/v1"):
            Endpoint(llm_settings(url), KEY, 1).warn_of_plain_http()
        assert caplog.text == ""
        Endpoint(llm_settings("http://llm.example.org/v1"), KEY, 1).warn_of_plain_http()
    assert "passages and the key go unencrypted to llm.example.org" in caplog.text


def test_a_proxy_of_the_environment_never_sees_loopback(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert ask(server).text == "hello"


def clock(times: list[float]) -> Callable[[], float]:
    return lambda: times[-1]


def test_no_minute_holds_more_than_the_limits() -> None:
    now = [0.0]
    pacer = Pacer(requests_per_minute=60, tokens_per_minute=None, clock=clock(now))
    assert [pacer.reserve(10) for _ in range(4)] == [0.0, 1.0, 2.0, 3.0]
    now.append(10.0)
    assert pacer.reserve(10) == 0.0  # an idle time gives no right to a burst
    assert pacer.reserve(10) == 1.0
    pacer = Pacer(requests_per_minute=60, tokens_per_minute=6000, clock=clock([0.0]))
    # 500 of 6,000 tokens a minute take 5 s, 10 take less than the request's own second
    assert [pacer.reserve(n) for n in (500, 10, 10)] == pytest.approx([0.0, 5.0, 6.0])
    pacer.pause(30.0)
    assert pacer.reserve(1) == 30.0
    assert [Pacer(None, None, clock=clock([0.0])).reserve(10**6) for _ in range(3)] == [0.0] * 3


def test_a_limit_is_kept_on_the_wire(server: Server) -> None:
    settings = llm_settings(server.url, requests_per_minute=300)  # one each 0.2 s
    endpoint = Endpoint(settings, None, 1)
    started = time.monotonic()
    for _ in range(4):
        endpoint.ask(body_for(settings))
    endpoint.close()
    assert time.monotonic() - started >= 0.6
