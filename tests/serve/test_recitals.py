"""A model that recites its instruction in disguise: neither the answer nor its draft shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

from mark import prompting
from mark.answering.engine import Generation, Request
from mark.pipeline.disclosure import InstructionGuard
from mark.pipeline.streaming import StreamingEngine
from tests.pipeline.test_auto import QUESTIONS
from tests.serve.conftest import Live, StartServer, asking
from tests.serve.test_hostile import joined

CANARY = "XQ7-CANARY-91"
RUN = 5  # words in a row


def in_pieces(text: str) -> str:
    """Five words at a time, with others between them."""
    words = text.split()
    return " and then ".join(" ".join(words[at : at + RUN]) for at in range(0, len(words), RUN))


DISGUISES: dict[str, Callable[[str], str]] = {
    "whole": str,
    "after letters that grow in lower case": lambda text: f"{'ß' * 200} {'İﬃ' * 50} {text}",
    "in quotes": lambda text: f'It says: "{text}"',
    "five words at a time": in_pieces,
    "in capitals, without stops": lambda text: re.sub(r"[.,:;]", "", text).upper(),
    "at the end": lambda text: f"The fee is due in May. {text}",
}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def recited(text: str) -> list[str]:
    """Which runs of the instruction a text holds, and the canary."""
    said, told = " ".join(words(text)), words(prompting.INSTRUCTION.replace(prompting.REFUSAL, ""))
    runs = {" ".join(told[at : at + RUN]) for at in range(len(told) - RUN + 1)}
    found = sorted(run for run in runs if f" {run} " in f" {said} ")
    return [*found, *([CANARY] if CANARY.casefold() in text.casefold() else [])]


@pytest.fixture
def reciting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each model now says what stands last in this list, a word at a time where a draft is heard."""
    instruction = f"{prompting.INSTRUCTION} The code is {CANARY}."
    monkeypatch.setattr(prompting, "INSTRUCTION", instruction)
    says: list[str] = []

    def generate(
        self: StreamingEngine, requests: Sequence[Request], label: str | None = None
    ) -> list[Generation]:
        for end in re.finditer(r"\S(?=\s|$)", says[-1]):
            if self.listener is not None:
                self.listener(says[-1][: end.end()])
        return [Generation(says[-1], says[-1], -0.1, 0.0, request.passages) for request in requests]

    monkeypatch.setattr(StreamingEngine, "generate", generate)
    return says


def shown(live: Live) -> tuple[str, str]:
    """The whole plain response as text, and all that a stream with a draft shows."""
    with live.client() as client:
        plain = client.post("/v1/chat/completions", json=asking(QUESTIONS[0])).raise_for_status()
        drafted = asking(QUESTIONS[0], stream=True, mark={"draft": True})
        stream = client.post("/v1/chat/completions", json=drafted).raise_for_status()
    return plain.text, joined(stream.text)


def test_a_recital_is_a_refusal_in_every_disguise(start: StartServer, reciting: list[str]) -> None:
    live = start()
    for name, disguise in DISGUISES.items():
        reciting.append(disguise(prompting.INSTRUCTION))
        assert recited(reciting[-1]), name
        plain, stream = shown(live)
        assert (recited(plain), recited(stream)) == ([], []), name
        assert '"refused":true' in plain and prompting.REFUSAL in stream, name


def test_without_the_guard_it_would_be_shown(
    start: StartServer, reciting: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what is shown above can show a recital at all."""
    for name in ("cut", "settled"):
        monkeypatch.setattr(InstructionGuard, name, lambda self, text: text)
    live = start()
    for name in ("whole", "five words at a time"):
        reciting.append(DISGUISES[name](prompting.INSTRUCTION))
        assert all(CANARY in recited(text) and len(recited(text)) > RUN for text in shown(live)), name
