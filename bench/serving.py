"""`mark serve` under load: `python -m bench.serving [--clients N] [--seconds S] [--rounds R]`.

The project's own model answers practice questions that many clients ask and rate at once, in turn with and
without batching, each time in a process of its own. Printed are answers a second, how long clients waited,
memory, and whether every rating that was acknowledged is in the inbox exactly once.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import psutil

from mark.config import PARAMS, Serve, load_section
from mark.files import PRACTICE, git_root, read_jsonl
from mark.records import PracticeQuestion
from mark.rlhf.feedback import read_inbox

LINKED = ("data", "models", "chroma_db", "metrics", "conf", "params.yaml")
READY_S = 300


@dataclass
class Seen:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)  # from question to answer, of each answer
    rated: list[str] = field(default_factory=list)  # ids of answers whose rating was acknowledged
    refused: int = 0  # times that a client was told 429


def press(url: str, questions: Sequence[str], clients: int, duration_s: float, rate: bool) -> Seen:
    """Ask, and rate what comes, from many threads for a while.

    Args:
        url: Of the server.
        questions: Asked in turn, each with a number so that no two are equal.
        clients: Threads.
        duration_s: No question is asked after it; those under way are waited for.
        rate: Send a thumb for every answer that says something.
    """
    seen, lock, ends = Seen(), threading.Lock(), time.monotonic() + duration_s
    numbers = itertools.count()

    def one() -> None:
        with httpx.Client(base_url=url, timeout=300, trust_env=False) as client:
            while time.monotonic() < ends:
                with lock:
                    number = next(numbers)
                question = f"{questions[number % len(questions)]} ({number})"
                body = {"model": "auto", "messages": [{"role": "user", "content": question}]}
                started = time.perf_counter()
                found = client.post("/v1/chat/completions", json=body)
                took = time.perf_counter() - started
                if found.status_code == 429:
                    with lock:
                        seen.refused += 1
                    time.sleep(float(found.headers["retry-after"]))
                    continue
                answer = found.raise_for_status().json()
                said = answer["choices"][0]["message"]["content"]
                if rate and said.strip():  # an empty answer cannot be judged
                    told = client.post("/v1/feedback", json={"id": answer["id"], "rating": "up"})
                    told.raise_for_status()
                    with lock:
                        seen.rated.append(answer["id"])
                with lock:
                    seen.seconds.append(took)

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


@dataclass(frozen=True)
class Measured:
    """One way of serving, once."""

    seen: Seen
    per_second: float
    before_mb: int  # resident memory after warming up
    after_mb: int
    lost: int  # acknowledged ratings that the inbox lacks
    doubled: int


def measure(
    project: Path, settings: Serve, questions: Sequence[str], clients: int, seconds: float
) -> Measured:
    """Serve a project in a process of its own and press it.

    Args:
        project: Its root; feedback goes to a folder that is thrown away.
        settings: Section `serve`.
        questions: What is asked.
        clients: At once.
        seconds: For so long, after a third of it to warm up.
    """
    with tempfile.TemporaryDirectory() as name, served(project, Path(name), settings) as (url, process):
        warm = press(url, questions, clients, seconds / 3, rate=True)
        before = process.memory_info().rss
        started = time.perf_counter()
        seen = press(url, questions, clients, seconds, rate=True)
        took = time.perf_counter() - started
        after = process.memory_info().rss
        rated = warm.rated + seen.rated
        kept = [row.id for row in read_inbox(Path(name)).rows]
    return Measured(
        seen, len(seen.seconds) / took, before >> 20, after >> 20, len(set(rated) - set(kept)),
        len(kept) - len(set(kept)),
    )  # fmt: skip


@contextlib.contextmanager
def served(project: Path, root: Path, settings: Serve) -> Iterator[tuple[str, psutil.Process]]:
    """A server over a project's data and models with its own feedback folder; its address and process."""
    for name in LINKED:
        if (project / name).exists():
            (root / name).symlink_to(project / name)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(root, settings, theirs))
    process.start()
    try:
        url = f"http://127.0.0.1:{ours.recv()}"
        _wait(url)
        assert process.pid is not None
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join(60)


def _serve(root: Path, settings: Serve, told: Any) -> None:
    from mark.serve.app import Place
    from mark.serve.security import Tokens
    from mark.serve.server import bound_socket, make_server

    with bound_socket("127.0.0.1", 0) as listener:
        told.send(listener.getsockname()[1])
        make_server(Place(root, "127.0.0.1", Tokens()), settings).run(sockets=[listener])


def _wait(url: str) -> None:
    ends = time.monotonic() + READY_S
    while time.monotonic() < ends:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        time.sleep(0.2)
    raise SystemExit(f"no model was ready within {READY_S} s; `make repro` makes one")


def row(name: str, runs: Sequence[Measured]) -> str:
    """A line of the table, over the rounds."""
    waited = np.concatenate([one.seen.seconds for one in runs])
    return (
        f"{name:<18} {median(one.per_second for one in runs):8.2f} {np.percentile(waited, 50):8.2f} "
        f"{np.percentile(waited, 95):8.2f} {len(waited):8} {sum(one.seen.refused for one in runs):6} "
        f"{max(one.after_mb for one in runs):8} {max(one.after_mb - one.before_mb for one in runs):+7} "
        f"{sum(one.lost for one in runs):6} {sum(one.doubled for one in runs):8}"
    )


def main() -> None:
    """Measure both ways in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    root = git_root()
    settings = load_section(Serve, "serve", root / PARAMS)
    ways = {"one by one": settings.model_copy(update={"max_batch": 1}), "in batches": settings}
    questions = [one.question for one in read_jsonl(root / PRACTICE, PracticeQuestion)]
    runs: dict[str, list[Measured]] = {name: [] for name in ways}
    for _ in range(chosen.rounds):
        for name, way in ways.items():
            runs[name].append(measure(root, way, questions, chosen.clients, chosen.seconds))
    told = [
        f"{chosen.clients} clients, {chosen.seconds:.0f} s, {chosen.rounds} rounds, "
        f"serve.max_batch {settings.max_batch}",
        f"{'':<18} {'1/s':>8} {'p50 s':>8} {'p95 s':>8} {'answers':>8} {'429':>6} {'MiB':>8} {'grown':>7} "
        f"{'lost':>6} {'doubled':>8}",
        *(row(name, measured) for name, measured in runs.items()),
    ]
    alone, together = ([one.per_second for one in runs[name]] for name in ways)
    ratios = [new / old for new, old in zip(together, alone, strict=True)]
    told.append(f"batching gains x{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    sys.stdout.write("\n".join(told) + "\n")


if __name__ == "__main__":
    main()
