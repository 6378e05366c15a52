"""A real completions server on loopback: the tiny models of the tests, with vLLM's or llama.cpp's replies.

It stands in for vLLM and llama-server, which need a GPU or a compiler: the same requests, the same form of
replies (vLLM 0.1x: entrypoints/openai/completion/serving.py; llama.cpp: tools/server/server-task.cpp), each
log probability computed by a plain forward pass of the model.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import torch

Body = dict[str, Any]
Dialect = Literal["vllm", "llamacpp"]


@dataclass(frozen=True)
class Say:
    """A response in place of the model's."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass
class CompletionsServer:
    """What it serves and what it was asked.

    Attributes:
        models: By the name that a request gives: the model, and its end token.
        dialect: Whose form the replies have.
        key: That a request must carry; None: none.
        script: Said first, request by request, in place of the models' replies.
        twist: Changes each reply of the models.
        biased: Tell log probabilities after logit_bias, as some servers do.
        deaf: Pass over logit_bias.
    """

    models: Mapping[str, tuple[Any, int]]
    dialect: Dialect = "vllm"
    key: str | None = None
    script: list[Say] = field(default_factory=list)
    twist: Callable[[Any], Any] = field(default=lambda reply: reply)
    biased: bool = False
    deaf: bool = False
    seen: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def answer(self, path: str, body: Body | None, headers: dict[str, str]) -> Say:
        """What a request gets."""
        with self.lock:
            self.headers.append(headers)
            if body is not None:
                self.seen.append(body)
            if self.script:
                return self.script.pop(0)
        if self.key is not None and headers.get("Authorization") != f"Bearer {self.key}":
            return Say(401, {"error": {"message": f"wrong key {headers.get('Authorization')}"}})
        if path == "/v1/models":
            return Say(body={"data": [{"id": name, "owned_by": self.dialect} for name in self.models]})
        if path != "/v1/completions" or body is None:
            return Say(404, {"error": {"message": "Not Found"}})
        if body["model"] not in self.models:
            return Say(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        with self.lock, torch.inference_mode():
            return Say(body=self.twist(self._complete(body)))

    def _complete(self, body: Body) -> Any:
        model, eos = self.models[body["model"]]
        ids = list(body["prompt"])
        bias = {int(token): value for token, value in body.get("logit_bias", {}).items() if not self.deaf}
        places: list[tuple[int, float, dict[int, float]]] = []
        while len(places) < body["max_tokens"] and not (places and places[-1][0] == eos):
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1].float()
            pushed = logits.clone()
            for token, value in bias.items():
                pushed[token] += value
            chosen = int(pushed.argmax())
            logprobs = (pushed if self.biased else logits).log_softmax(dim=-1)
            tops = logprobs.topk(body["logprobs"])
            shown = dict(zip(tops.indices.tolist(), tops.values.tolist(), strict=True))
            places.append((chosen, float(logprobs[chosen]), shown))
            ids.append(chosen)
        ended = bool(places) and places[-1][0] == eos
        told = _vllm(places, body) if self.dialect == "vllm" else _llamacpp(places)
        return {
            "choices": [
                {"index": 0, "text": "?", "logprobs": told, "finish_reason": "stop" if ended else "length"}
            ],
            "usage": {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(places)},
        }


def _vllm(places: list[tuple[int, float, dict[int, float]]], body: Body) -> Any:
    def name(token: int) -> str:
        return f"token_id:{token}" if body.get("return_tokens_as_token_ids") else f"t{token}"

    return {
        "tokens": [name(token) for token, _, _ in places],
        "token_logprobs": [value for _, value, _ in places],
        "top_logprobs": [
            {name(t): v for t, v in {token: value, **tops}.items()} for token, value, tops in places
        ],
        "text_offset": [0] * len(places),
    }


def _llamacpp(places: list[tuple[int, float, dict[int, float]]]) -> Any:
    def named(token: int, value: float) -> Any:
        return {"id": token, "token": "?", "bytes": [], "logprob": value}

    return {
        "content": [
            {**named(token, value), "top_logprobs": [named(t, v) for t, v in tops.items()]}
            for token, value, tops in places
        ]
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: CompletionsServer

    def do_GET(self) -> None:
        self._say(self.owner.answer(self.path, None, dict(self.headers)))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._say(self.owner.answer(self.path, body, dict(self.headers)))

    def _say(self, say: Say) -> None:
        content = json.dumps(say.body).encode()
        time.sleep(say.delay_s)
        try:
            self.send_response(say.status)
            for name, value in say.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client gave up

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(server: CompletionsServer) -> Iterator[CompletionsServer]:
    """The server on a free loopback port."""
    handler = type("Handler", (_Handler,), {"owner": server, "disable_nagle_algorithm": True})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
