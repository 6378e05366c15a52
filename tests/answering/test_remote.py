"""The remote engine against the local one, through a real HTTP server with the same model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mark.answering.completions import CompletionServer
from mark.answering.engine import Engine, Generation
from mark.answering.remote import RemoteEngine, remote_engine
from mark.config import AnswerServer
from mark.models.loading import load_base
from mark.prompting import REFUSAL
from tests.answering.completions_server import CompletionsServer, serving
from tests.answering.test_engine import LENGTH, NEW, REQUESTS, plain_greedy


def settings(url: str, **changes: Any) -> AnswerServer:
    quick: dict[str, Any] = {
        "url": url, "names": {}, "api_key_env": None, "concurrency": 3, "timeout_s": 20, "max_tries": 1,
    }  # fmt: skip
    return AnswerServer.model_validate(quick | changes)


@pytest.fixture
def served(tiny_llama_dir: Path) -> Iterator[CompletionsServer]:
    model, tokenizer = load_base(tiny_llama_dir)
    with serving(CompletionsServer({"tiny": (model, int(tokenizer.eos_token_id))})) as server:
        yield server


def remote(server: CompletionsServer, folder: Path) -> RemoteEngine:
    return remote_engine(folder, "tiny", settings(server.url), "eval.server", LENGTH, NEW)


def check_equal(found: list[Generation], wanted: list[Generation]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.text, ours.raw_text) == (theirs.text, theirs.raw_text)
        assert ours.mean_logprob == pytest.approx(theirs.mean_logprob, abs=1e-4)
        assert ours.refusal_probability == pytest.approx(theirs.refusal_probability, rel=1e-4)
        assert ours.passages_shown == theirs.passages_shown


@pytest.mark.parametrize("dialect", ["vllm", "llamacpp"])
def test_answers_are_those_of_the_local_engine(
    served: CompletionsServer, tiny_llama_dir: Path, dialect: Any
) -> None:
    served.dialect = dialect
    engine = remote(served, tiny_llama_dir)
    assert engine.name == f"openai/{dialect}"
    local = Engine(*load_base(tiny_llama_dir), LENGTH, NEW, 4)
    check_equal(engine.generate(REQUESTS, None), local.generate(REQUESTS, None))


def test_a_refusing_answer_is_written_again_without_the_refusal(
    served: CompletionsServer, tiny_llama_dir: Path
) -> None:
    model, tokenizer = load_base(tiny_llama_dir)
    tokens, _ = plain_greedy(model, tokenizer, REQUESTS[0])
    engines = [remote(served, tiny_llama_dir), Engine(model, tokenizer, LENGTH, NEW, 4)]
    for engine in engines:
        engine.barred_ids = [engine.eos_id, tokens[0]]
        engine.refusal_ids = tokens[:3]  # what this random model writes by itself plays the refusal
    found, wanted = (engine.generate(REQUESTS[:4], None) for engine in engines)
    assert found[0].raw_text == REFUSAL and found[0].text != REFUSAL
    check_equal(found, wanted)


def test_answers_end_at_the_tokenizers_end_token(served: CompletionsServer, tiny_llama_dir: Path) -> None:
    model, tokenizer = load_base(tiny_llama_dir)
    plain = [plain_greedy(model, tokenizer, asked)[0] for asked in REQUESTS[:4]]
    engines = [remote(served, tiny_llama_dir), Engine(model, tokenizer, LENGTH, NEW, 4)]
    served.models = {"tiny": (model, plain[1][2])}  # the server's own end token, which is not the tokenizer's
    for engine in engines:
        engine.eos_id = plain[2][4]
    found, wanted = (engine.generate(REQUESTS[:4], None) for engine in engines)
    check_equal(found, wanted)


def test_what_is_sent_is_the_prompt_and_nothing_of_it_is_made_there(
    served: CompletionsServer, tiny_llama_dir: Path
) -> None:
    engine = remote(served, tiny_llama_dir)
    served.seen.clear()
    engine.generate(REQUESTS[:1], None)
    _, prompt = plain_greedy(*load_base(tiny_llama_dir), REQUESTS[0])
    assert all(body["prompt"][: len(prompt.ids)] == prompt.ids for body in served.seen)
    assert {(body["temperature"], body["model"]) for body in served.seen} == {(0, "tiny")}
    assert len(served.seen) <= 1 + len(engine.refusal_ids)
    assert isinstance(engine.server, CompletionServer)
