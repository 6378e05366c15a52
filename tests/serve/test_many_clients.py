"""50 clients at once, and what batching brings (minutes); a measurement that fails says so at once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from bench import serving
from bench.serving import Load, ask, measure, press
from mark.config import PARAMS, Serve, load_section
from mark.files import PRACTICE
from tests.conftest import ROOT
from tests.pipeline.test_auto import QUESTIONS
from tests.serve.conftest import StartServer

CLIENTS = 50
LOAD = Load(QUESTIONS[:4], CLIENTS)


@pytest.mark.long
def test_fifty_clients_for_a_minute_lose_nothing(make_root: Any) -> None:
    root = make_root(["transformer_lora"])
    settings = load_section(Serve, "serve", root / PARAMS)
    found = measure(root, settings, LOAD, 60)
    assert (found.lost, found.doubled) == (0, 0)
    assert len(found.seen.rated) > CLIENTS
    waited, grown = found.seen.seconds, found.after_mb - found.before_mb
    print(
        f"\n{len(waited)} answers and ratings by {CLIENTS} clients in 60 s, "
        f"p50 {np.percentile(waited, 50):.2f} s, p95 {np.percentile(waited, 95):.2f} s, "
        f"{found.seen.refused} told 429, memory {grown:+} MiB from {found.before_mb}"
    )
    assert grown < 100


@pytest.mark.long
def test_batching_answers_more_a_second(make_root: Any) -> None:
    root = make_root(["transformer_lora"])
    settings = load_section(Serve, "serve", root / PARAMS)
    one_by_one = settings.model_copy(update={"max_batch": 1})
    alone, together = (measure(root, way, LOAD, 20).per_second for way in (one_by_one, settings))
    print(f"\n{alone:.1f} answers a second one by one, {together:.1f} in batches: x{together / alone:.1f}")
    assert together > 1.2 * alone


@pytest.mark.parametrize("drafted", [False, True])
def test_answers_are_read_whichever_way_they_are_asked_for(start: StartServer, drafted: bool) -> None:
    with start(models=()).client() as client:
        found = ask(client, QUESTIONS[2], drafted)
    assert found.id.startswith("ans-") and found.text.endswith(".") and found.retry_s is None


def test_who_is_told_429_comes_back(start: StartServer) -> None:
    seen = press(start(models=(), queue_size=1, batch_window_ms=300).url, Load(QUESTIONS[:4], 4), 2)
    assert seen.refused > 0 and len(seen.seconds) == len(seen.rated) > 0


@pytest.mark.parametrize("drafted", [False, True])
def test_a_request_that_fails_ends_the_measurement(start: StartServer, drafted: bool) -> None:
    """The second client's question is too long; a stream tells a fault after its status."""
    live = start(models=(), max_question_chars=60)
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        press(live.url, Load([QUESTIONS[0], "word " * 20], 2, drafted), 60)
    late = start(models=(), root=live.root, timeout_s=1e-4)
    fault = httpx.HTTPError if drafted else httpx.HTTPStatusError
    with pytest.raises(fault, match="no answer within" if drafted else "408"):
        press(late.url, Load(QUESTIONS[:1], 1, drafted), 60)


def dies(root: Path, settings: Serve, told: Any) -> None:
    """In the place of a server: it ends before it listens."""
    raise SystemExit(3)


def listens_and_dies(root: Path, settings: Serve, told: Any) -> None:
    """The same, once it has told its port."""
    told.send(9)


@pytest.mark.parametrize("server", [dies, listens_and_dies])
def test_a_server_that_dies_is_not_waited_for(
    make_root: Any, monkeypatch: pytest.MonkeyPatch, server: Any
) -> None:
    root = make_root([])
    monkeypatch.setattr(serving, "_serve", server)
    with pytest.raises(SystemExit, match="the server ended before it answered"):
        measure(root, load_section(Serve, "serve", root / PARAMS), LOAD, 1)


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["--seconds", "1"], "index.json is missing"), (["--clients", "0"], "--clients 0: a number above 0")],
)
def test_what_cannot_be_measured_is_said_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(serving, "git_root", lambda: tmp_path)
    monkeypatch.setattr(sys, "argv", ["serving", *flags])
    with pytest.raises(SystemExit) as ended:
        serving.main()
    assert said in f"{ended.value}{capsys.readouterr().err}"


@pytest.mark.long
def test_the_table_has_a_row_for_each_way(
    make_root: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_root([])
    shutil.copy(ROOT / PRACTICE, root / PRACTICE)
    monkeypatch.setattr(serving, "git_root", lambda: root)
    monkeypatch.setattr(sys, "argv", ["serving", "--clients", "4", "--seconds", "3", "--rounds", "1"])
    serving.main()
    told = capsys.readouterr().out
    print(told)
    _, _, *rows, batched, drafted = told.splitlines()
    for name, line in zip(("one by one", "in batches", "drafted streams"), rows, strict=True):
        assert line.startswith(name)
        answers, _, _, _, lost, doubled = line.split()[-6:]
        assert int(answers) > 0 and (lost, doubled) == ("0", "0")
    assert batched.startswith("batching gains x") and drafted.startswith(
        "batching, with drafts asked for, gains x"
    )
