"""Bodies and requests of any kind: an answer or one line with a 4xx, nothing in the log, and the next is answered."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.mutations import examples, mutated, odd_json
from tests.pipeline.test_auto import QUESTIONS
from tests.serve.conftest import TOKEN, Live, StartServer, asking
from tests.serve.test_documents import shelf

__all__ = ["shelf"]

ODD = [
    None, True, 0, -1, 10**30, 1.5, float("inf"), float("-inf"), float("nan"), "", "\x00", "\ud800", "a\udfffb",
    "\u2028", "x" * 5000, "🜁" * 500, [], [[]], [None], {}, {"": {}}, ["\ud800"], {"\udfff": 1}, [{}] * 2000,
]  # fmt: skip
TOKENS = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\ud800", b"\\u0000", b"null", b"NaN", b"-Infinity", b"1e999",
    b"9" * 5000, b"-0", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3", b"[" * 60_000, b'{"a":' * 60_000,
    b'"model":', b'"stream": true,', b'"n": 2,', b"\r\n", b"--b", b"--b--\r\n", b"Content-Disposition: form-data\r\n",
]  # fmt: skip
KINDS = [
    "application/json", "application/json; charset=utf-16", "application/problem+json", "text/plain", "",
    "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=b",
    "multipart/form-data; boundary=b; charset=nope", "multipart/mixed; boundary=b", "image/png", ";;;=", "a" * 2000,
]  # fmt: skip
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\nContent-Type: application/pdf\r\n\r\n'
    b"no PDF at all\r\n--b--\r\n"
)


@pytest.fixture
def live(start: StartServer, shelf: Path) -> Live:
    """A server that answers without a model, takes uploads and reviews."""
    found = start(root=shelf, models=(), token=TOKEN, allow_upload=True, batch_window_ms=0)
    with found.client() as client:
        while client.get("/readyz").status_code == 503:
            time.sleep(0.05)
    return found


def bodies(live: Live) -> dict[str, list[bytes]]:
    """Whole bodies of each route that takes one; the ids in them are those of an answer that was given."""
    with live.client() as client:
        name = client.post("/v1/chat/completions", json=asking(QUESTIONS[2])).raise_for_status().json()["id"]
        judged = {"id": name, "rating": "down", "edited": "In March.", "comment": "see Article 2"}
        client.post("/v1/feedback", json=judged).raise_for_status()
        pages = [
            client.get("/v1/feedback/inbox", params={"state": s}).json()["data"] for s in ("waiting", "out")
        ]
        (row,) = [row for page in pages for row in page]
    asked = asking(
        "Who?", stream=False, n=1, tools=[], mark={"draft": True}, response_format={"type": "text"}
    )
    parts = asking(
        "", messages=[{"role": "user", "content": [{"type": "text", "text": "Who?"}]}], stream=True
    )
    seen = [{"id": name, "seen": row["seen"]}]
    wanted: dict[str, list[Any]] = {
        "/v1/chat/completions": [asked, parts],
        "/v1/feedback": [judged, {"id": name, "rating": "up"}],
        "/v1/feedback/review": [{"accept": seen, "reject": []}, {"accept": [], "reject": ["nobody"]}],
        "/v1/documents": [],
    }
    return {path: [json.dumps(body).encode() for body in found] for path, found in wanted.items()}


@contextlib.contextmanager
def unharmed(
    live: Live, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """Nothing that a user or an operator would call a crash, and a question is answered at the end."""
    caplog.set_level(logging.INFO)
    yield
    with live.client() as client:
        assert client.get("/readyz").status_code == 200
        whole = client.post("/v1/chat/completions", json=asking(QUESTIONS[2]))
    assert whole.status_code == 200 and whole.json()["mark"]["quotes"]
    faults = [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in faults] == []
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def check_answer(found: httpx.Response, live: Live) -> None:
    """Below 500; where it is no success, one line in OpenAI's schema."""
    assert found.status_code < 500, found.text
    assert "Traceback" not in found.text and str(live.root) not in found.text
    if found.status_code >= 400:
        error = found.json()["error"]
        assert error["message"].strip() and "\n" not in error["message"], error
        assert set(error) == {"message", "type", "param", "code"}


@examples(few=40, many=2000)
def test_no_body_breaks_the_server(
    limits: settings, live: Live, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = bodies(live)
    with live.client() as client:
        routes = client.get("/openapi.json").json()["paths"]
    assert {path for path, methods in routes.items() if "post" in methods} == whole.keys()
    with unharmed(live, caplog, capfd), live.client() as client:
        for path, found in whole.items():
            kinds = st.sampled_from([*KINDS[:1] * 8, *KINDS])
            limits(given(content=contents(found), kind=kinds)(sender(client, path, live)))()


def contents(found: list[bytes]) -> st.SearchStrategy[bytes]:
    """Bodies like those of a route, broken as JSON or as bytes."""
    odd = st.one_of([odd_json(body, ODD) for body in found]) if found else mutated([FORM], TOKENS)
    return st.one_of(odd, mutated([*found, FORM], TOKENS), st.binary(max_size=200))


def sender(client: httpx.Client, path: str, live: Live) -> Callable[[bytes, str], None]:
    """What posts one body to a route and looks at the answer."""

    def check(content: bytes, kind: str) -> None:
        kind = KINDS[7] if path.endswith("documents") and kind == KINDS[0] else kind
        check_answer(client.post(path, content=content, headers={"content-type": kind}), live)

    return check


REQUESTS = [
    b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    % TOKEN.encode(),
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
    b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" % TOKEN.encode(),
    b"GET /v1/documents?a=%%ff HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n" % TOKEN.encode(),
]  # fmt: skip
LINES = [
    b"\r\n", b"\n", b"\r\n\r\n", b" ", b":", b"HTTP/9.9", b"GET", b"\x00", b"\xff", b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffff\r\n", b"0\r\n\r\n",
    b"Host: a\r\n", b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"/" * 300, b"?" * 300,
    b"%00", b"%0a", b"..", b"X: " + b"y" * 20_000 + b"\r\n", b"Authorization: Bearer \xff\r\n", b"Range: bytes=-1\r\n",
]  # fmt: skip


@examples(few=40, many=3000)
def test_no_request_breaks_the_server(
    limits: settings, live: Live, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lines, headers and chunks that no client would send."""
    seen = set()
    with unharmed(live, caplog, capfd):
        assert [statuses(answered(live, whole)) for whole in REQUESTS] == [[400], [400], [200]]

        @limits
        @given(content=mutated(REQUESTS, LINES))
        def check(content: bytes) -> None:
            found = statuses(answered(live, content))
            assert all(status < 500 for status in found), (found, content)
            seen.update(found)

        check()
    assert 400 in seen, seen


_MOMENT_S = 0.2  # within which a whole request is answered


def answered(live: Live, content: bytes) -> bytes:
    """All that the server says to some bytes; who says no more is heard to the end after a moment."""
    host, port = live.url.removeprefix("http://").split(":")
    said = b""
    with (
        socket.create_connection((host, int(port)), timeout=30) as client,
        contextlib.suppress(ConnectionError),
    ):
        client.sendall(content)  # an error: it was refused before all was sent
        client.settimeout(_MOMENT_S)
        while True:
            try:
                block = client.recv(1 << 16)
            except TimeoutError:
                client.settimeout(30)
                client.shutdown(socket.SHUT_WR)
                continue
            if not block:
                break
            said += block
    assert b"Traceback" not in said and str(live.root).encode() not in said
    return said


def statuses(said: bytes) -> list[int]:
    """Of the responses that begin a line; none: the connection was closed."""
    return [int(line.split()[1]) for line in said.splitlines() if line.startswith(b"HTTP/1.1 ")]
