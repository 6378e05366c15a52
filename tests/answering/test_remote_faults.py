"""A server that is down, refuses, stalls or lacks something: one clear line each, never a made-up value."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mark.answering.completions import CompletionServer
from mark.answering.remote import RemoteEngine, remote_engine
from mark.config import Eval, load_section
from mark.errors import ConfigError, EndpointError, GuardError, MarkError, ModelError
from mark.models.loading import load_base
from tests.answering.completions_server import CompletionsServer, Say, serving
from tests.answering.test_engine import LENGTH, NEW, REQUESTS
from tests.answering.test_remote import settings
from tests.conftest import ROOT

KEY = "sk-test-0123456789"
AT_ONCE = {"Retry-After": "0"}


@pytest.fixture(scope="module")
def held(tiny_llama_dir: Path) -> tuple[Any, int]:
    model, tokenizer = load_base(tiny_llama_dir)
    return model, int(tokenizer.eos_token_id)


@pytest.fixture
def server(held: tuple[Any, int]) -> Iterator[CompletionsServer]:
    with serving(CompletionsServer({"tiny": held})) as server:
        yield server


@pytest.fixture
def connect(server: CompletionsServer, tiny_llama_dir: Path) -> Callable[..., RemoteEngine]:
    def begin(name: str = "tiny", **changes: Any) -> RemoteEngine:
        found = settings(**{"url": server.url, **changes})
        return remote_engine(tiny_llama_dir, name, found, "eval.server", LENGTH, NEW)

    return begin


Connect = Callable[..., RemoteEngine]


def line_of(begin: Callable[[], object], kind: type[MarkError]) -> str:
    with pytest.raises(kind) as caught:
        begin()
    line = str(caught.value)
    assert "\n" not in line and KEY not in line
    return line


def test_a_server_that_is_down(connect: Connect) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    line = line_of(lambda: connect(url=url), EndpointError)
    assert (
        "failed once, last: ConnectError" in line and "see whether the server of eval.server.url runs" in line
    )


def test_a_wrong_key_and_a_missing_one(
    connect: Connect,
    server: CompletionsServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.key = "another"
    assert "set eval.server.api_key_env" in line_of(connect, EndpointError)
    monkeypatch.delenv("TINY_KEY", raising=False)
    assert "TINY_KEY" in line_of(lambda: connect(api_key_env="TINY_KEY"), ConfigError)
    monkeypatch.setenv("TINY_KEY", KEY)
    with caplog.at_level("DEBUG"):
        line = line_of(lambda: connect(api_key_env="TINY_KEY"), EndpointError)
    assert "HTTP 401" in line and "the key in TINY_KEY is wrong or expired" in line
    assert KEY not in caplog.text
    server.key = KEY
    assert connect(api_key_env="TINY_KEY").name == "openai/vllm"


def test_a_busy_server_is_asked_again(connect: Connect, server: CompletionsServer) -> None:
    server.script = [Say(429, headers=AT_ONCE), Say(503, headers=AT_ONCE)]
    assert connect(max_tries=3).name == "openai/vllm"
    server.script = [Say(429, {"error": {"message": "slow down"}}, AT_ONCE)] * 2
    line = line_of(lambda: connect(max_tries=2), EndpointError)
    assert "failed 2 times, last: HTTP 429 (slow down)" in line
    server.script = [Say(429, headers={"Retry-After": "3600"})]
    assert "asks to wait 3600 s" in line_of(lambda: connect(max_tries=2), EndpointError)


def test_an_error_of_the_server(connect: Connect, server: CompletionsServer) -> None:
    server.script = [Say(500, {"error": "out of memory"}, AT_ONCE)] * 2
    assert "last: HTTP 500 (out of memory)" in line_of(lambda: connect(max_tries=2), EndpointError)
    server.script = [Say(400, {"error": {"message": "maximum context length is 64"}})]
    assert "HTTP 400 (maximum context length is 64)" in line_of(connect, EndpointError)
    server.script = [Say(302)]
    assert "redirects (HTTP 302); set eval.server.url" in line_of(connect, EndpointError)


def test_a_server_that_stalls(connect: Connect, server: CompletionsServer) -> None:
    engine = connect(timeout_s=0.5)
    server.script = [Say(delay_s=1.0)]
    line = line_of(lambda: engine.generate(REQUESTS[:1], None), EndpointError)
    assert "no reply within 0.5 s" in line


def test_a_model_that_it_does_not_have(connect: Connect) -> None:
    line = line_of(lambda: connect("other"), ModelError)
    assert "serves no model named 'other' (it serves: tiny)" in line
    assert "'elsewhere'" in line_of(lambda: connect("tiny", names={"tiny": "elsewhere"}), ModelError)


def without_logprobs(reply: Any) -> None:
    reply["choices"][0]["logprobs"] = None


def without_ids(reply: Any) -> None:
    told = reply["choices"][0]["logprobs"]
    told["tokens"] = ["word"] * len(told["tokens"])


def with_a_token_of_its_own(reply: Any) -> None:
    reply["usage"]["prompt_tokens"] += 1


def with_half_a_character(reply: Any) -> None:
    reply["usage"]["completion_tokens"] += 1


def without_others(reply: Any) -> None:
    told = reply["choices"][0]["logprobs"]
    told["top_logprobs"] = [dict(list(tops.items())[:1]) for tops in told["top_logprobs"]]


def without_choices(reply: Any) -> None:
    del reply["choices"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_logprobs, "sends no log probabilities"),
        (without_ids, "does not say which tokens it wrote"),
        (with_a_token_of_its_own, r"read \d+ tokens where \d+ were sent as ids"),
        (with_half_a_character, r"wrote 9 tokens and sent the log probabilities of 8"),
        (without_others, "does not tell the likeliest tokens"),
        (without_choices, "sent a reply without choices"),
    ],
)
def test_a_reply_that_lacks_what_is_needed(
    connect: Connect, server: CompletionsServer, change: Callable[[Any], None], told: str
) -> None:
    def twist(reply: Any) -> Any:
        change(reply)
        return reply

    server.twist = twist
    with pytest.raises(EndpointError, match=told):
        connect()


def test_a_bias_that_is_passed_over_or_counted_in(connect: Connect, server: CompletionsServer) -> None:
    server.deaf = True
    assert "does not heed logit_bias" in line_of(connect, EndpointError)
    server.deaf, server.biased = False, True
    assert "--logprobs-mode raw_logprobs" in line_of(connect, EndpointError)


def test_a_context_that_is_too_short(connect: Connect, server: CompletionsServer) -> None:
    engine = connect()

    def cut(reply: Any) -> Any:
        told = reply["choices"][0]["logprobs"]
        for key in told:
            told[key] = told[key][:4]
        reply["usage"]["completion_tokens"] = len(told["tokens"])
        return reply

    server.twist = cut
    line = line_of(lambda: engine.generate(REQUESTS, None), EndpointError)
    assert f"ended an answer after 4 of {NEW} tokens" in line and "--max-model-len" in line


def test_setup_mode_sends_nothing_to_another_machine(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    far = settings("http://192.0.2.1:8000/v1")
    with caplog.at_level("WARNING"):
        CompletionServer(far, "serve.server")
    assert "serve.server.url is http: questions and passages go unencrypted to 192.0.2.1:8000" in caplog.text
    monkeypatch.setenv("MARK_SETUP_MODE", "1")
    assert "192.0.2.1:8000" in line_of(lambda: CompletionServer(far, "serve.server"), GuardError)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"engine": "openai"}, "eval: engine=openai needs server.url"),
        ({"server": {"url": f"http://me:{KEY}@host/v1"}}, "eval.server.url: value not shown"),
        ({"server": {"api_key_env": KEY}}, "eval.server.api_key_env: value not shown"),
        ({"server": {"concurrency": 0}}, "eval.server.concurrency: 0 found"),
    ],
)
def test_settings_are_checked(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    server = params["eval"]["server"] | changes.get("server", {})
    params["eval"] |= changes | {"server": server}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params), encoding="utf-8")
    assert told in line_of(lambda: load_section(Eval, "eval", path), ConfigError)
