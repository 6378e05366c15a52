"""50 clients at once, and what batching brings; takes minutes."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from mark.rlhf.feedback import read_inbox
from tests.pipeline.test_auto import QUESTIONS
from tests.serve.conftest import Live, StartServer, asking
from tests.serve.test_security import run

CLIENTS = 50


@dataclass
class Seen:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    rated: list[str] = field(default_factory=list)
    refused: int = 0


def press(live: Live, duration_s: float, rate: bool) -> Seen:
    """Ask, and rate what comes, from 50 threads for a while."""
    seen, lock, ends = Seen(), threading.Lock(), time.monotonic() + duration_s

    def one(number: int) -> None:
        with httpx.Client(base_url=live.url, timeout=120, trust_env=False) as client:
            while time.monotonic() < ends:
                started = time.perf_counter()
                question = f"{QUESTIONS[number % 4]} ({number})"  # else equal ones would be answered once
                found = client.post("/v1/chat/completions", json=asking(question))
                took = time.perf_counter() - started
                if found.status_code == 429:
                    time.sleep(float(found.headers["retry-after"]))
                    with lock:
                        seen.refused += 1
                    continue
                answer = found.raise_for_status().json()
                name, said = answer["id"], answer["choices"][0]["message"]["content"]
                if rate and said.strip():  # random weights may say nothing; that cannot be judged
                    told = client.post("/v1/feedback", json={"id": name, "rating": "up"})
                    assert told.status_code == 200, told.text
                    with lock:
                        seen.rated.append(name)
                with lock:
                    seen.seconds.append(took)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


@pytest.mark.long
def test_fifty_clients_for_a_minute_lose_nothing(make_root: Any) -> None:
    """Against a process of its own, so that its memory is its own."""
    root = make_root(["transformer_lora"])
    process = run(root, "--port", "0")
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split()[2]
        threading.Thread(target=process.stderr.read, daemon=True).start()
        live = Live(root, url, None, threading.current_thread(), None)
        warm = press(live, 20, rate=True)
        before = psutil.Process(process.pid).memory_info().rss
        seen = press(live, 60, rate=True)
        grown = (psutil.Process(process.pid).memory_info().rss - before) / (1 << 20)
    finally:
        process.terminate()
        process.wait(60)
    kept = sorted(row.id for row in read_inbox(root).rows)
    assert kept == sorted(warm.rated + seen.rated)  # none lost, none doubled
    print(
        f"\n{len(seen.seconds)} answers and ratings by {CLIENTS} clients in 60 s, "
        f"p50 {np.percentile(seen.seconds, 50):.2f} s, p95 {np.percentile(seen.seconds, 95):.2f} s, "
        f"{seen.refused} told 429, memory {grown:+.0f} MiB from {before >> 20}"
    )
    assert grown < 100


@pytest.mark.long
def test_batching_answers_more_a_second(start: StartServer) -> None:
    live = start(batch_window_ms=0, max_batch=1)
    press(live, 3, rate=False)
    alone = len(press(live, 20, rate=False).seconds) / 20
    live.stop()
    live = start(root=live.root, batch_window_ms=20, max_batch=16)
    press(live, 3, rate=False)
    together = len(press(live, 20, rate=False).seconds) / 20
    print(f"\n{alone:.1f} answers a second one by one, {together:.1f} in batches: x{together / alone:.1f}")
    assert together > 1.2 * alone
