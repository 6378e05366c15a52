"""The whole loop in a real project: ratings over HTTP, a review, RLHF on them, and a champion that takes over."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mark.files import TRAIN_SFT, read_jsonl
from mark.records import Example
from tests.stages.running import dvc, environment, mark

ADDRESSES = ("127.0.0.1", "127.0.0.2")  # two people: each may have twenty ratings a day accepted
REVIEWER = "the-reviewers-own-token-9876543210"


@pytest.fixture
def served(project: Path) -> Iterator[str]:
    """`mark serve` in the project; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mark", "serve", "--port", "0"], cwd=project, text=True, stderr=subprocess.PIPE,
        env=environment(project) | {"MARK_REVIEW_TOKEN": REVIEWER},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving on http://127.0.0.1:"), line
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield line.split()[2]
    finally:
        process.terminate()
        process.wait(60)


def client(url: str, address: str = ADDRESSES[0]) -> httpx.Client:
    """A client that calls from an address of its own."""
    return httpx.Client(base_url=url, timeout=120, transport=httpx.HTTPTransport(local_address=address))


def ask(there: httpx.Client, question: str, model: str) -> dict[str, Any]:
    """An answer of a model."""
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    answer: dict[str, Any] = there.post("/v1/chat/completions", json=body).raise_for_status().json()
    return answer


def rate_forty(project: Path, url: str) -> set[str]:
    """16 thumbs up, 8 down and 16 edits of answers to questions about what is trained on; the ids."""
    asked = [row.question for row in read_jsonl(project / TRAIN_SFT, Example) if row.kind == "answerable"]
    names = set()
    for number in range(40):
        with client(url, ADDRESSES[number % 2]) as there:
            answer = ask(there, f"{asked[number % len(asked)]} (case {number})", "extractive")
            said: dict[str, Any] = {"id": answer["id"], "rating": "up" if number < 16 else "down"}
            if number >= 24:
                said["edited"] = f"{answer['choices'][0]['message']['content']} (case {number})"
            there.post("/v1/feedback", json=said).raise_for_status()
        names.add(answer["id"])
    return names


def accept_all(url: str) -> list[str]:
    """What a reviewer does who accepts each row that he was shown; the ids that the server took."""
    with client(url) as there:
        asked = {"limit": 100}
        assert there.get("/v1/feedback/inbox", params=asked).status_code == 401
        there.headers["Authorization"] = f"Bearer {REVIEWER}"
        rows = there.get("/v1/feedback/inbox", params=asked).raise_for_status().json()["data"]
        accepted = [{"id": row["id"], "seen": row["seen"]} for row in rows]
        done = there.post("/v1/feedback/review", json={"accept": accepted}).raise_for_status().json()
    names: list[str] = done["accepted"]
    return names


def human(project: Path) -> dict[str, int]:
    """What the stage's ledger says of people's feedback."""
    ledger = json.loads((project / "models/rl_trained_lora/ledger.json").read_text())
    counts: dict[str, int] = ledger["human"]
    return counts


@pytest.mark.long
def test_forty_ratings_reach_the_model_that_answers(project: Path, served: str) -> None:
    mark(
        project,
        "params",
        "experiment=smoke",
        "rlhf=kto",
        "rlhf.max_pairs=60",
        "rlhf.sampling.max_new_tokens=160",
    )
    dvc(project, "repro", "rlhf")
    assert human(project)["accepted"] == 0

    names = rate_forty(project, served)
    assert len(names) == 40
    dvc(project, "repro", "rlhf")
    assert human(project)["accepted"] == 0  # nothing counts before a review
    assert set(accept_all(served)) == names
    assert "Running stage 'rlhf'" in dvc(project, "repro", "rlhf")
    counts = human(project)
    assert counts["accepted"] == 40 == counts["thumbs"] + counts["edits"] + counts["held_out"], counts
    assert counts["thumbs"] > 0 and counts["edits"] > 0, counts  # in so small a corpus much is tested
    rows = [json.loads(line) for line in
            (project / "models/rl_trained_lora/preferences.jsonl").read_text().splitlines()]  # fmt: skip
    trained = {row["id"] for row in rows}
    assert trained <= names and len(trained) == counts["thumbs"] + counts["edits"]

    with client(served) as there:
        mark(project, "models", "promote", "random_lora", "--force", "--reason", "for the test")
        await_champion(there, "random_lora")
        told = mark(project, "models", "promote", "rl_trained_lora", "--if-better")
        assert "its base model has random weights, which are for tests" in told
        assert "rl_trained_lora not promoted" in told
        await_champion(there, "random_lora")
        mark(project, "models", "promote", "rl_trained_lora", "--force", "--reason", "for the test")
        await_champion(there, "rl_trained_lora")


def await_champion(there: httpx.Client, name: str) -> None:
    """Ask until a model answers as the champion."""
    ends = time.monotonic() + 120
    while True:
        answer = ask(there, "Who keeps the keys?", "auto")
        if (answer["model"], answer["mark"]["rule"]) == (name, "champion"):
            return
        assert time.monotonic() < ends, answer
        time.sleep(0.2)
