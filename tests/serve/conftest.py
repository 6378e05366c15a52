"""A real server on a free port, in a thread, over the small project of tests/pipeline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from mark.config import PARAMS, Serve, load_section
from mark.serve.app import Place
from mark.serve.security import Tokens
from mark.serve.server import bound_socket, make_server
from tests.pipeline.conftest import make_root, one_thread, project

__all__ = ["make_root", "one_thread", "project"]

TOKEN = "a-token-for-tests-0123456789"


@dataclass
class Live:
    """A running server."""

    root: Path
    url: str
    server: Any
    thread: threading.Thread
    token: str | None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=60, trust_env=False)

    def openai(self, **settings: Any) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=self.token or "none", max_retries=0, timeout=60, **settings
        )

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name
        )

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()


StartServer = Callable[..., Live]


@pytest.fixture
def start(make_root: Any) -> Iterator[StartServer]:
    """Starts servers: `start(models=[...], token=..., max_batch=...)`."""
    running: list[Live] = []

    def begin(
        models: tuple[str, ...] = ("transformer_lora",), token: str | None = None,
        review_token: str | None = None, root: Path | None = None, host: str = "127.0.0.1",
        **settings: Any,
    ) -> Live:  # fmt: skip
        root = make_root(list(models)) if root is None else root
        serve = load_section(Serve, "serve", root / PARAMS).model_copy(
            update={"swap_poll_s": 0.1, "shutdown_s": 20, "max_batch": 8, **settings}
        )
        listener = bound_socket("127.0.0.1", 0)
        server = make_server(Place(root, host, Tokens(token, review_token)), serve)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        live = Live(root, f"http://127.0.0.1:{listener.getsockname()[1]}", server, thread, token)
        running.append(live)
        ends = time.monotonic() + 60
        while not server.started and time.monotonic() < ends:
            time.sleep(0.02)
        assert server.started
        return live

    yield begin
    for live in running:
        live.stop()


def asking(question: str, **more: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"model": "auto", "messages": [{"role": "user", "content": question}], **more}
