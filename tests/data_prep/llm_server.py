"""A small OpenAI-compatible server on loopback that answers, or misbehaves as a test says."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mark.config import Llm
from tests.data_prep.passages import settings

Body = dict[str, Any]


@dataclass(frozen=True)
class Say:
    """One response; `content` is what the model writes, None = `raw` is the whole body."""

    content: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""
    finish: str = "stop"
    delay_s: float = 0.0  # before anything is sent
    drip_s: float = 0.0  # between the body's pieces
    cut: bool = False  # the connection breaks in the middle of the body


@dataclass
class Seen:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: Body
    at: float

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][1]["content"])


class Server:
    """Answers with `script`, request by request, then with `answer`."""

    def __init__(self, answer: Callable[[Body], Say]) -> None:
        self.answer = answer
        self.script: list[Say] = []
        self.seen: list[Seen] = []
        self.under_way = 0
        self.most_under_way = 0
        self.lock = threading.Lock()
        self.url = ""

    def choose(self, body: Body) -> Say:
        with self.lock:
            return self.script.pop(0) if self.script else self.answer(body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(raw)
        owner = self.owner
        with owner.lock:
            owner.seen.append(Seen(self.path, dict(self.headers), body, time.monotonic()))
            owner.under_way += 1
            owner.most_under_way = max(owner.most_under_way, owner.under_way)
        say = owner.choose(body)
        try:
            time.sleep(say.delay_s)
            self._respond(say)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client gave up: that is what some tests are about
        finally:
            with owner.lock:
                owner.under_way -= 1

    def _respond(self, say: Say) -> None:
        content = say.raw if say.content is None else completion(say.content, say.finish)
        dated = "Date" in say.headers  # by a clock of the test's choice
        (self.send_response_only if dated else self.send_response)(say.status)
        for name, value in say.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if say.cut:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        pieces = [content[i : i + 8] for i in range(0, len(content), 8)] if say.drip_s else [content]
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
            time.sleep(say.drip_s)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(answer: Callable[[Body], Say]) -> Iterator[Server]:
    """A server on a free loopback port."""
    owner = Server(answer)
    handler = type("Handler", (_Handler,), {"owner": owner})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    owner.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield owner
    finally:
        server.shutdown()
        server.server_close()


def completion(content: str, finish: str = "stop") -> bytes:
    """The wire format of one chat completion."""
    return json.dumps(
        {
            "id": "x",
            "choices": [
                {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content}}
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20},
        }
    ).encode()


def passage_of(body: Body) -> str:
    """The passage in a prompt, as it was sent."""
    found = re.search(r"<passage>\n(.*)\n</passage>", body["messages"][1]["content"], re.S)
    assert found is not None
    return found.group(1)


def questions(*items: dict[str, Any]) -> str:
    """The JSON that is asked for."""
    return json.dumps({"questions": list(items)})


def good_answer(body: Body) -> Say:
    """Asks for the last three words of the passage and, without an answer, for a fee."""
    words = passage_of(body).rstrip(".").split()
    return Say(
        questions(
            {
                "question": f"What closes the rule on {words[1]} {words[2]} {words[3]} {words[4]}?",
                "answer": " ".join(words[-3:]),
                "answerable": True,
            },
            {
                "question": f"How much does the licence for {words[1]} {words[2]} {words[3]} cost?",
                "answer": None,
                "answerable": False,
                "missing": ["licence"],
            },
        )
    )


def llm_settings(url: str, **changes: object) -> Llm:
    """The section `data_prep.llm`, switched on, quick, with the pattern masker."""
    quick: dict[str, object] = {
        "enabled": True, "base_url": url, "model": "small-1", "confirmed": True, "masking": "patterns",
        "requests_per_minute": None, "max_wait_s": 5, "timeout_s": 5, "max_tries": 3,
    }  # fmt: skip
    return Llm.model_validate(settings().llm.model_dump() | quick | changes)
