"""50 clients at once, and what batching brings; takes minutes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.serving import measure
from mark.config import PARAMS, Serve, load_section
from tests.pipeline.test_auto import QUESTIONS

CLIENTS = 50


@pytest.mark.long
def test_fifty_clients_for_a_minute_lose_nothing(make_root: Any) -> None:
    root = make_root(["transformer_lora"])
    settings = load_section(Serve, "serve", root / PARAMS)
    found = measure(root, settings, QUESTIONS[:4], CLIENTS, 60)
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
    alone, together = (
        measure(root, way, QUESTIONS[:4], CLIENTS, 20).per_second for way in (one_by_one, settings)
    )
    print(f"\n{alone:.1f} answers a second one by one, {together:.1f} in batches: x{together / alone:.1f}")
    assert together > 1.2 * alone
