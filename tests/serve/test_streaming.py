"""Streamed answers, read by the official client and as they lie on the wire."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.pipeline.test_auto import QUESTIONS, calibrate_for
from tests.serve.conftest import StartServer, asking


def test_the_stream_is_the_plain_answer(start: StartServer) -> None:
    client = start().openai()
    for question in QUESTIONS[:3]:
        messages: Any = asking(question)["messages"]
        plain = client.chat.completions.create(model="auto", messages=messages)
        chunks = list(client.chat.completions.create(model="auto", messages=messages, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == plain.choices[0].message.content
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1].choices[0].finish_reason == plain.choices[0].finish_reason
        assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].id.startswith("ans-")
        marked = [chunk for chunk in chunks if "mark" in (chunk.model_extra or {})]
        assert marked == [chunks[-1]]
        mine = {k: v for k, v in chunks[-1].model_extra["mark"].items() if k != "timings"}  # type: ignore[index]
        assert mine == {k: v for k, v in plain.model_extra["mark"].items() if k != "timings"} | {  # type: ignore[index]
            "refusal_probability": mine["refusal_probability"]
        }


def test_usage_comes_last_where_it_is_asked_for(start: StartServer) -> None:
    client = start().openai()
    chunks = list(
        client.chat.completions.create(
            model="auto", messages=asking(QUESTIONS[0])["messages"], stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    assert chunks[-1].choices == [] and chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0 and "mark" in (chunks[-1].model_extra or {})
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")


def test_a_draft_is_no_content(start: StartServer, make_root: Any) -> None:
    """A refused answer: its draft shows what the rule took back; a stock client sees the refusal alone."""
    root = make_root(["transformer_lora"])
    calibrate_for(root, "transformer_lora", threshold=0.0)
    client = start(root=root).openai()
    chunks = list(
        client.chat.completions.create(
            model="auto", messages=asking(QUESTIONS[0])["messages"], stream=True,
            extra_body={"mark": {"draft": True}},
        )
    )  # fmt: skip
    drafts = [c.model_extra["mark"]["draft"] for c in chunks[:-1] if "mark" in (c.model_extra or {})]  # type: ignore[index]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "".join(drafts) and "".join(drafts) != text
    assert chunks[-1].model_extra["mark"]["refused"] is True  # type: ignore[index]


def test_on_the_wire(start: StartServer) -> None:
    live = start(models=())
    body = asking(QUESTIONS[2], stream=True)
    with live.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as found:
        assert found.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in found.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: ") for line in lines)
    assert json.loads(lines[0][6:])["object"] == "chat.completion.chunk"


def test_faults_before_and_in_the_stream(start: StartServer) -> None:
    live = start(batch_window_ms=2000, timeout_s=0.3)
    client = live.openai()
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=asking("x")["messages"], stream=True)
    with pytest.raises(openai.APIError, match="no answer within"):
        list(client.chat.completions.create(model="auto", messages=asking("x")["messages"], stream=True))
