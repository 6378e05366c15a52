"""`mark serve` and `mark ask` with models behind a completions server: the pipeline's own answers, named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mark import AutoPipeline
from mark.errors import EndpointError, ModelError
from mark.models.loading import load_entry
from tests.answering.completions_server import CompletionsServer, Say, serving
from tests.pipeline.test_auto import QUESTIONS, calibrate_for
from tests.serve.conftest import StartServer, asking

NAME = "transformer_lora"


@pytest.fixture
def root(make_root: Any) -> Path:
    found: Path = make_root([NAME])
    return found


@pytest.fixture
def served(root: Path) -> Iterator[CompletionsServer]:
    model, tokenizer = load_entry(root / "models" / NAME)
    with serving(CompletionsServer({NAME: (model, int(tokenizer.eos_token_id))}, "llamacpp")) as server:
        yield server


def switch_on(root: Path, url: str) -> None:
    import yaml

    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    params["serve"] |= {"engine": "openai"}
    params["serve"]["server"] |= {"url": url, "max_tries": 1, "timeout_s": 30}
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def test_answers_are_those_of_the_local_engine_and_say_what_ran_them(
    root: Path, served: CompletionsServer, start: StartServer
) -> None:
    local = AutoPipeline(root, dtype=torch.float32).process_query(QUESTIONS[0])
    assert local.engine == "local"
    switch_on(root, served.url)
    live = start(root=root)
    with live.client() as client:
        found = client.post("/v1/chat/completions", json=asking(QUESTIONS[0])).json()
        streamed = client.post(
            "/v1/chat/completions", json=asking(QUESTIONS[0], stream=True, mark={"draft": True})
        )
        served.script = [Say(500)]
        broken = client.post("/v1/chat/completions", json=asking(QUESTIONS[1]))
    mark = found["mark"]
    assert (mark["engine"], mark["model"], mark["rule"]) == ("openai/llamacpp", NAME, "priority")
    assert mark["adapter_sha256"] == local.model_sha256
    assert (found["choices"][0]["message"]["content"], mark["refused"]) == (local.text, local.refused)
    assert mark["refusal_probability"] == pytest.approx(local.refusal_probability, abs=1e-4)
    assert found["usage"]["prompt_tokens"] > found["usage"]["completion_tokens"] > 0
    assert "openai/llamacpp" in streamed.text and json.dumps(local.text)[1:-1] in streamed.text
    assert broken.status_code == 503 and "its log says why" in broken.json()["error"]["message"]


def test_a_rule_that_was_fitted_on_another_engines_answers_is_used_and_named(
    root: Path, served: CompletionsServer
) -> None:
    calibrate_for(root, NAME)
    assert AutoPipeline(root).process_query(QUESTIONS[0]).notes == []
    switch_on(root, served.url)
    (note,) = AutoPipeline(root).process_query(QUESTIONS[0]).notes
    assert "was fitted on answers of the engine local, openai/llamacpp answers now" in note


def test_a_server_that_is_gone_is_an_error_and_no_other_answer(root: Path, served: CompletionsServer) -> None:
    switch_on(root, served.url)
    pipeline = AutoPipeline(root)
    served.script = [Say(503)]
    with pytest.raises(EndpointError, match="failed once, last: HTTP 503"):
        pipeline.process_query(QUESTIONS[0])
    switch_on(root, "http://127.0.0.1:9/v1")
    with pytest.raises(EndpointError, match=r"see whether the server of serve\.server\.url runs"):
        AutoPipeline(root)


def test_a_model_that_the_server_lacks(root: Path, served: CompletionsServer) -> None:
    served.models = {"other": served.models[NAME]}
    switch_on(root, served.url)
    with pytest.raises(ModelError, match=r"serves no model named 'transformer_lora' \(it serves: other\)"):
        AutoPipeline(root, NAME)
    answer = AutoPipeline(root).process_query(QUESTIONS[0])  # by serve.policy: the next that answers
    assert (answer.model, answer.rule, answer.engine) == ("extractive", "fallback", "local")
