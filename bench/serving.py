"""`mark serve` under load: `python -m bench.serving [--clients N] [--seconds S] [--rounds R]`.

The project's own model answers practice questions that many clients ask and rate at once: in turn without
batching, with it, and as the web page asks (streams with drafts), each time in a process of its own.
Printed are answers a second, how long clients waited, memory, and whether every acknowledged rating is in the
inbox exactly once. A request that fails ends the measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import psutil

from mark.config import PARAMS, Serve, load_section
from mark.errors import MarkError
from mark.files import CHUNKS, PRACTICE, git_root, read_jsonl
from mark.ingest.index import read_index
from mark.records import PracticeQuestion
from mark.rlhf.feedback import read_inbox

LINKED = ("data", "models", "chroma_db", "metrics", "conf", "params.yaml")
READY_S = 300
_ENDED = "the server ended before it answered; its own output above says why"


@dataclass
class Seen:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)  # from question to answer, of each answer
    rated: list[str] = field(default_factory=list)  # ids of answers whose rating was acknowledged
    refused: int = 0  # times that a client was told 429


@dataclass(frozen=True)
class Load:
    """What clients do.

    Attributes:
        questions: Asked in turn, each with a number so that no two are equal.
        clients: At once.
        drafted: Ask as the web page does: a stream that also tells what is being written.
    """

    questions: Sequence[str]
    clients: int
    drafted: bool = False


def press(url: str, load: Load, duration_s: float) -> Seen:
    """Ask, and rate what comes, from many threads for a while.

    Args:
        url: Of the server.
        load: Who asks what.
        duration_s: No question is asked after it; those under way are waited for.

    Raises:
        httpx.HTTPError: A request failed; the other clients end what they asked and ask no more.
    """
    seen, lock, ended = Seen(), threading.Lock(), threading.Event()
    numbers, ends = itertools.count(), time.monotonic() + duration_s

    def one() -> None:
        with httpx.Client(base_url=url, timeout=300, trust_env=False) as client:
            while time.monotonic() < ends and not ended.is_set():
                with lock:
                    number = next(numbers)
                question = f"{load.questions[number % len(load.questions)]} ({number})"
                started = time.perf_counter()
                answer = ask(client, question, load.drafted)
                took = time.perf_counter() - started
                if answer.retry_s is not None:
                    with lock:
                        seen.refused += 1
                    ended.wait(answer.retry_s)
                    continue
                if answer.text.strip():  # an empty answer cannot be judged
                    told = client.post("/v1/feedback", json={"id": answer.id, "rating": "up"})
                    told.raise_for_status()
                    with lock:
                        seen.rated.append(answer.id)
                with lock:
                    seen.seconds.append(took)

    with ThreadPoolExecutor(load.clients) as threads:
        try:
            for client in as_completed([threads.submit(one) for _ in range(load.clients)]):
                client.result()
        finally:
            ended.set()
    return seen


@dataclass(frozen=True)
class Told:
    """What a client was told: an answer, or when to come back."""

    id: str = ""
    text: str = ""
    retry_s: float | None = None


def ask(client: httpx.Client, question: str, drafted: bool) -> Told:
    """Ask one question.

    Args:
        client: Of the server.
        question: In plain language.
        drafted: As the web page does.

    Raises:
        httpx.HTTPError: It is not answered.
    """
    body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": question}]}
    if drafted:
        body |= {"stream": True, "mark": {"draft": True}}
    found = client.post("/v1/chat/completions", json=body)
    if found.status_code == 429:
        return Told(retry_s=float(found.headers["retry-after"]))
    found.raise_for_status()
    if drafted:
        return _streamed(found.text)
    answer = found.json()
    return Told(answer["id"], answer["choices"][0]["message"]["content"])


def _streamed(events: str) -> Told:
    name, text = "", ""
    for line in events.splitlines():
        if not line.startswith("data: {"):
            continue
        chunk = json.loads(line.removeprefix("data: "))
        if "error" in chunk:
            raise httpx.HTTPError(f"the stream ended with an error: {chunk['error']['message']}")
        name = chunk["id"]
        text += "".join(choice["delta"].get("content", "") for choice in chunk["choices"])
    return Told(name, text)


@dataclass(frozen=True)
class Measured:
    """One way of serving, once."""

    seen: Seen
    per_second: float
    before_mb: int  # resident memory after warming up
    after_mb: int
    lost: int  # acknowledged ratings that the inbox lacks
    doubled: int


def measure(project: Path, settings: Serve, load: Load, seconds: float) -> Measured:
    """Serve a project in a process of its own and press it.

    Args:
        project: Its root; feedback goes to a folder that is thrown away.
        settings: Section `serve`.
        load: Who asks what.
        seconds: For so long, after a third of it to warm up.

    Raises:
        httpx.HTTPError: A request failed.
    """
    with tempfile.TemporaryDirectory() as name, served(project, Path(name), settings) as (url, process):
        warm = press(url, load, seconds / 3)
        before = process.memory_info().rss
        started = time.perf_counter()
        seen = press(url, load, seconds)
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
    theirs.close()  # else the pipe stays open when the server dies, and its address is waited for without end
    try:
        try:
            url = f"http://127.0.0.1:{ours.recv()}"
        except EOFError:
            raise SystemExit(_ENDED) from None
        _wait(url, process)
        assert process.pid is not None
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join(60)


def _serve(root: Path, settings: Serve, told: Any) -> None:
    from mark.serve.app import Place
    from mark.serve.memory import bound_memory
    from mark.serve.security import Tokens
    from mark.serve.server import bound_socket, make_server

    bound_memory()
    with bound_socket("127.0.0.1", 0) as listener:
        told.send(listener.getsockname()[1])
        make_server(Place(root, "127.0.0.1", Tokens()), settings).run(sockets=[listener])


def _wait(url: str, process: BaseProcess) -> None:
    ends = time.monotonic() + READY_S
    while time.monotonic() < ends:
        if not process.is_alive():
            raise SystemExit(_ENDED)
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
    """Measure all ways in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    for name, value in vars(chosen).items():
        if value <= 0:
            parser.error(f"--{name} {value}: a number above 0 is needed")
    root = git_root()
    try:
        read_index(root / CHUNKS.parent)  # what is missing is said before a server waits for it
    except MarkError as fault:
        raise SystemExit(str(fault)) from None
    settings = load_section(Serve, "serve", root / PARAMS)
    questions = [one.question for one in read_jsonl(root / PRACTICE, PracticeQuestion)]
    plain, drafted = (Load(questions, chosen.clients, drafted) for drafted in (False, True))
    ways = {
        "one by one": (settings.model_copy(update={"max_batch": 1}), plain),
        "in batches": (settings, plain),
        "drafted streams": (settings, drafted),
    }
    runs: dict[str, list[Measured]] = {name: [] for name in ways}
    for _ in range(chosen.rounds):
        for name, (way, load) in ways.items():
            runs[name].append(measure(root, way, load, chosen.seconds))
    told = [
        f"{chosen.clients} clients, {chosen.seconds:.0f} s, {chosen.rounds} rounds, "
        f"serve.max_batch {settings.max_batch}",
        f"{'':<18} {'1/s':>8} {'p50 s':>8} {'p95 s':>8} {'answers':>8} {'429':>6} {'MiB':>8} {'grown':>7} "
        f"{'lost':>6} {'doubled':>8}",
        *(row(name, measured) for name, measured in runs.items()),
    ]
    alone, together, streamed = ([one.per_second for one in runs[name]] for name in ways)
    for what, rates in (("batching", together), ("batching, with drafts asked for,", streamed)):
        ratios = [new / old for new, old in zip(rates, alone, strict=True)]
        told.append(f"{what} gains x{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    sys.stdout.write("\n".join(told) + "\n")


if __name__ == "__main__":
    main()
