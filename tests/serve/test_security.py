"""Tokens, hosts, origins, headers, oversize and slow requests, what is logged."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from mark.errors import ConfigError, DataError
from mark.serve.errors import add_handlers
from mark.serve.review import ReviewDesk
from mark.serve.security import SECURITY_HEADERS, Tokens, check_bind, is_loopback, take_tokens
from mark.serve.server import bound_socket
from tests.conftest import ROOT
from tests.pipeline.test_auto import QUESTIONS
from tests.serve.conftest import TOKEN, Live, StartServer, asking


@pytest.mark.parametrize(
    "given",
    [
        None, "", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN,
        f"Bearer {TOKEN.upper()}", "Bearer é".encode("latin-1"),
    ],
)  # fmt: skip
def test_without_the_token_nothing_is_told(start: StartServer, given: Any) -> None:
    live = start(models=(), token=TOKEN)
    headers = {} if given is None else {"Authorization": given}
    with httpx.Client(base_url=live.url, headers=headers, trust_env=False) as client:
        for method, path in [
            ("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("GET", "/metrics"),
            ("GET", "/openapi.json"), ("GET", "/v1/documents"), ("POST", "/v1/feedback"), ("GET", "/nothing"),
        ]:  # fmt: skip
            found = client.request(method, path)
            assert found.status_code == 401, path
            assert found.json()["error"]["code"] == "invalid_api_key"
            assert found.headers["www-authenticate"] == "Bearer"
        assert client.get("/healthz").json() == {"status": "ok"}


def test_with_the_token_all_is_told(start: StartServer) -> None:
    live = start(models=(), token=TOKEN)
    assert live.openai().models.list().data
    with live.client() as client:
        twice = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer other")]
        assert httpx.get(f"{live.url}/v1/models", headers=twice, trust_env=False).status_code == 401
        assert client.get("/v1/models", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{live.url}/v1", api_key="wrong", max_retries=0).models.list()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Host": "["}, 403),
        ({"Host": "localhost:1234"}, 200),
        ({"Host": "[::1]:1234"}, 200),
        ({"Host": "mark.example"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_other_sites_are_refused(start: StartServer, headers: dict[str, str], status: int) -> None:
    live = start(models=(), allowed_hosts=["mark.example"])
    with live.client() as client:
        assert client.get("/v1/models", headers=headers).status_code == status
        own = client.get("/v1/models", headers={"Origin": live.url})
        assert own.status_code == 200
        assert not [name for name in own.headers if name.startswith("access-control")]
        asked = client.options(
            "/v1/models", headers={"Origin": live.url, "Access-Control-Request-Method": "POST"}
        )
        assert not [name for name in asked.headers if name.startswith("access-control")]


_LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def test_a_link_on_another_site_opens_the_page_and_nothing_else(start: StartServer) -> None:
    live = start(models=())
    with live.client() as client:

        def status(method: str, path: str, **changes: str) -> int:
            return client.request(method, path, headers=_LINK | changes).status_code

        assert client.get("/", headers=_LINK).headers["content-type"].startswith("text/html")
        assert status("HEAD", "/") == 200
        assert status("GET", "/", **{"Sec-Fetch-Dest": "iframe"}) == 403
        assert status("GET", "/", **{"Sec-Fetch-Mode": "no-cors"}) == 403
        assert status("POST", "/") == 403
        assert status("GET", "/v1/models") == 403
        assert status("POST", "/v1/chat/completions") == 403
        assert status("GET", "/", Host="evil.example") == 403


@pytest.mark.parametrize("tokens", [Tokens(TOKEN), Tokens(TOKEN, f"{TOKEN}-2"), Tokens(None, f"{TOKEN}-2")])
def test_no_path_with_a_control_character_leads_anywhere(start: StartServer, tokens: Tokens) -> None:
    live = start(models=(), token=tokens.ask, review_token=tokens.review)
    own = [] if tokens.ask is None else [("Authorization", f"Bearer {tokens.ask}")]
    with httpx.Client(base_url=live.url, trust_env=False) as client:
        reviewer = {"Authorization": f"Bearer {tokens.review or tokens.ask}"}
        paths = client.get("/openapi.json", headers=reviewer).json()["paths"].keys()
        assert {"/v1/feedback/inbox", "/v1/feedback/review", "/v1/models", "/metrics"} <= paths
        for path in paths:
            for end in ("%0A", "%0D", "%00", "%7F", "%C2%85"):
                for headers in ([], own):
                    found = [client.request(m, path + end, headers=headers) for m in ("GET", "POST")]
                    assert {one.status_code for one in found} == {404}, path + end


@pytest.mark.parametrize("tokens", [Tokens(TOKEN, f"{TOKEN}-2"), Tokens(None, f"{TOKEN}-2")])
def test_the_routes_of_a_review_ask_for_its_token_themselves(tmp_path: Path, tokens: Tokens) -> None:
    """Without the guard that looks at paths."""
    app = FastAPI()
    add_handlers(app)
    app.include_router(ReviewDesk(tmp_path, tokens).router())
    with TestClient(app) as client:
        for given in ({}, {"Authorization": f"Bearer {TOKEN}"}):
            inbox = client.get("/v1/feedback/inbox", headers=given)
            line_end = client.get("/v1/feedback/inbox%0A", headers=given)
            review = client.post("/v1/feedback/review", headers=given, json={"reject": ["r001"]})
            assert [one.status_code for one in (inbox, line_end, review)] == [401, 401, 401]
            assert inbox.headers["www-authenticate"] == "Bearer"
        reviewer = {"Authorization": f"Bearer {tokens.review}"}
        assert client.post("/v1/feedback/review", headers=reviewer, json={}).status_code == 400


def test_every_response_carries_the_security_headers(start: StartServer) -> None:
    live = start(models=(), token=TOKEN, max_body_kb=1)
    with live.client() as client:
        found = [
            client.get("/healthz"),
            client.get("/nothing"),
            client.get("/v1/models", headers={"Authorization": ""}),
            client.post("/v1/chat/completions", content=b"x" * 2000),
            client.post("/v1/chat/completions", json=asking(QUESTIONS[0], stream=True)),
        ]
    assert [one.status_code for one in found] == [200, 404, 401, 413, 200]
    for one in found:
        assert {name: one.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert one.headers["x-request-id"].startswith("req-") and "server" not in one.headers
    assert "unsafe" not in SECURITY_HEADERS["content-security-policy"]


def test_bodies_over_the_cap_are_refused_said_or_not(start: StartServer) -> None:
    live = start(models=(), max_body_kb=1)

    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 512

    with live.client() as client:
        fits = client.post("/v1/chat/completions", json=asking("y" * 900))
        said = client.post("/v1/chat/completions", content=b"x" * 1025)
        chunked = client.post(
            "/v1/chat/completions", content=endless(), headers={"content-type": "application/json"}
        )
        assert fits.status_code == 200
        for found in (said, chunked):
            assert (found.status_code, found.json()["error"]["code"]) == (413, "body_too_large")


def test_slow_clients_are_let_go(start: StartServer) -> None:
    live = start(models=(), read_timeout_s=0.5)
    host, port = live.url.removeprefix("http://").split(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    for sent, expected in [
        (head + "Content-Length: 500\r\n\r\n{", b"HTTP/1.1 408 "),
        (head + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"HTTP/1.1 408 "),
        ("GET /healthz HT", b""),
        ("", b""),
    ]:
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(sent.encode())
            answer = b""
            while piece := client.recv(4096):
                answer += piece
        assert answer.startswith(expected) and bool(answer) is bool(expected)
    with live.client() as client:
        assert client.get("/healthz").status_code == 200


def test_more_connections_than_allowed_are_told_so(start: StartServer) -> None:
    live = start(models=(), max_connections=3)
    host, port = live.url.removeprefix("http://").split(":")
    open_ones = [socket.create_connection((host, int(port))) for _ in range(3)]
    time.sleep(0.2)
    with live.client() as client:
        assert client.get("/healthz").status_code == 503
        for one in open_ones:
            one.close()
        time.sleep(0.2)
    with live.client() as client:
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("told", [False, True])
def test_questions_are_logged_only_when_asked_for(
    start: StartServer, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    live = start(models=(), log_questions=told)
    with caplog.at_level(logging.DEBUG), live.client() as client:
        client.post("/v1/chat/completions", json=asking("Who keeps the zanzibar accounts?"))
        client.post("/v1/chat/completions", json=asking("zanzibar", model="zanzibar"))
        client.get("/zanzibar?zanzibar=zanzibar")
    mine = [r.getMessage() for r in caplog.records if r.name.startswith(("mark", "uvicorn", "fastapi"))]
    assert any("/v1/chat/completions 200" in line for line in mine)
    assert any("zanzibar" in line for line in mine) is told


def test_addresses_beyond_loopback_need_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "mark.example", ""):
        assert not is_loopback(host)
        with pytest.raises(ConfigError, match="set MARK_TOKEN") as fault:
            check_bind(host, None)
        assert "\n" not in str(fault.value)
        check_bind(host, TOKEN)
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        check_bind(host, None)


def test_the_token_leaves_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK_TOKEN", f" {TOKEN}\n")
    assert take_tokens() == Tokens(TOKEN) and "MARK_TOKEN" not in os.environ
    assert take_tokens() == Tokens()
    for bad in ("short", "with a space in it, but long", "ümlaut-token-0123456789"):
        monkeypatch.setenv("MARK_TOKEN", bad)
        with pytest.raises(ConfigError, match="at least 16") as fault:
            take_tokens()
        assert bad not in str(fault.value)


def test_reviewers_have_another_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MARK_TOKEN", "MARK_REVIEW_TOKEN"):
        monkeypatch.setenv(name, TOKEN)
    with pytest.raises(ConfigError, match="make another one"):
        take_tokens()
    monkeypatch.setenv("MARK_REVIEW_TOKEN", f"{TOKEN}-2")
    assert take_tokens() == Tokens(None, f"{TOKEN}-2") and "MARK_REVIEW_TOKEN" not in os.environ


def test_a_port_in_use_is_one_line() -> None:
    with bound_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"serve.port {port}: .*choose others with --host, --port"):
            bound_socket("127.0.0.1", port)
    with pytest.raises(ConfigError, match=r"serve\.host nowhere\.invalid"):
        bound_socket("nowhere.invalid", 0)


def run(root: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mark", "serve", *arguments], cwd=root, text=True,
        stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def test_the_command_serves_and_ends_what_runs(make_root: Any) -> None:
    root = make_root([], batch_window_ms=3000)
    process = run(root, "--port", "0", MARK_TOKEN=TOKEN)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving on http://127.0.0.1:") and line.endswith("(with a token)\n")
        live = Live(root, line.split()[2], None, threading.current_thread(), TOKEN)
        while "ready: extractive answers" not in process.stderr.readline():
            assert process.poll() is None
        found: list[httpx.Response] = []

        def ask() -> None:
            with live.client() as client:
                found.append(client.post("/v1/chat/completions", json=asking(QUESTIONS[2])))

        asker = threading.Thread(target=ask)
        asker.start()
        while live.metric("mark_queue_length") != 1:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        asker.join(30)
        assert [one.status_code for one in found] == [200]
        assert process.wait(30) in (0, -signal.SIGTERM)
        rest = process.stderr.read()
        assert TOKEN not in rest and "Traceback" not in rest
    finally:
        process.kill()
        process.wait()


def test_the_command_refuses_in_one_line(make_root: Any) -> None:
    root = make_root([])
    process = run(root, "--host", "0.0.0.0", MARK_TOKEN="")
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert error.startswith("mark: serve.host: 0.0.0.0 can be reached from other machines")
    assert error.count("\n") == 1


def test_nothing_ingested_is_said_before_serving(make_root: Any) -> None:
    from mark.commands.serve import run_server

    root = make_root([])
    (root / "data/index.json").unlink()
    with pytest.raises(DataError, match="run `dvc repro`"):
        run_server(None, 0, root)
    with pytest.raises(ConfigError, match=r"serve\.port"):
        run_server(None, 70_000, root)
