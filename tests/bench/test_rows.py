"""What the comparisons report, on made-up amounts; nothing is timed."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.gpu_training import FLOOR, NAMES, idle_share, missing
from bench.rows import Pair, alone, alternate, compared, limited, line, unmeasured
from bench.run import MODULES, _newer, main
from bench.training import operations
from mark.models.packing import Segments


def test_a_ratio_says_how_many_times_better_ours_is() -> None:
    speed = compared("x: speed", Pair((30.0, 20.0, 40.0), (10.0, 10.0, 10.0)), "tokens/s", "peer", 3.0)
    assert (speed.ours, speed.peer, speed.ratio, speed.spread, speed.met) == (
        30.0,
        10.0,
        3.0,
        (2.0, 4.0),
        True,
    )
    time = compared("x: time", Pair((2.0, 1.0, 4.0), (8.0, 2.0, 4.0)), "s", "peer", 2.5)
    assert (time.ratio, time.spread, time.met) == (2.0, (1.0, 4.0), False)
    assert "NOT MET" in line(time) and "x2 (1 to 4)" in line(time)
    assert compared("x: y", Pair((1.0,), (1.0,)), "s", "peer", None).met is None


def test_a_limit_is_met_from_below_and_a_missing_row_is_neither() -> None:
    assert limited("x: y", [1.0, 3.0, 2.0], "s", 2.0).met is True
    assert limited("x: y", [1.0, 3.0, 2.5], "s", 2.0).met is False
    speed = alone("x: y", [4.0, 1.0, 2.0], "questions/s")
    assert (speed.ours, speed.spread, speed.met) == (2.0, (1.0, 4.0), None) and "no bar" in line(speed)
    row = unmeasured("x: y", "s", "peer", 2.0, "no GPU").as_json()
    assert (row["ours"], row["ratio"], row["met"], row["note"]) == (None, None, None, "not measured: no GPU")


def test_both_ways_are_taken_in_turn_and_may_say_their_own_seconds() -> None:
    calls: list[str] = []

    def way(name: str, seconds: float) -> object:
        def work() -> float:
            calls.append(name)
            return seconds

        return work

    pair = alternate(way("ours", 2.0), way("peer", 5.0), rounds=2)  # type: ignore[arg-type]
    assert calls == ["ours", "peer"] * 3  # the first of each is not counted
    assert pair == Pair((2.0, 2.0), (5.0, 5.0))


def test_operations_of_a_step_by_hand() -> None:
    config = SimpleNamespace(
        hidden_size=4, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=10,
    )  # fmt: skip
    # 3 tokens, then a branch of 2 that sees 5: 3 * 3 + 2 * 5 = 19
    found = operations(Segments((3, 2), ((), (0,)), 8), config, rank=1, answer_tokens=1)
    # a layer: q, o 4 x 4; k, v 4 x 2; gate, up, down 4 x 8: 32 + 16 + 96 = 144; sums of sides 16 + 12 + 36 = 64
    assert found == {
        "body": 4 * 2 * 144 * 5,
        "adapter": 6 * 2 * 64 * 5,
        "attention": 12 * 2 * 2 * 2 * 19,
        "head": 4 * 10 * 4 * 1,
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_module_names_its_rows(name: str) -> None:
    module = importlib.import_module(f"bench.{name}")
    assert len(module.NAMES) == len(set(module.NAMES)) > 0
    assert all(row.startswith(f"{name}: ") for row in module.NAMES)
    assert callable(module.rows)


def test_idle_time_is_counted_between_the_first_kernel_and_the_last() -> None:
    spans = [(30.0, 40.0, "b"), (0.0, 10.0, "a"), (5.0, 20.0, "a")]  # two overlap; nothing runs from 20 to 30
    idle, note = idle_share(spans)
    assert idle == pytest.approx(0.25)
    assert note == "of what runs: a 71%, b 29%"


def test_a_row_of_another_machine_stays_where_this_one_cannot_measure_it() -> None:
    measured = compared("x: y", Pair((2.0,), (1.0,)), "tokens/s", "peer", 1.5).as_json()
    cannot = unmeasured("x: y", "tokens/s", "peer", 1.5, "no GPU here")
    assert _newer(cannot, {"x: y": measured | {"device": "a GPU"}})["device"] == "a GPU"
    assert _newer(cannot, {"x: y": measured})["ours"] is None  # measured here once, and no more
    assert _newer(cannot, {}) == cannot.as_json()
    again = compared("x: y", Pair((4.0,), (1.0,)), "tokens/s", "peer", 1.5)
    assert _newer(again, {"x: y": measured | {"device": "a GPU"}})["ours"] == 4.0


def test_without_a_gpu_every_gpu_row_says_so() -> None:
    found = list(missing())
    assert [row.name for row in found] == list(NAMES)
    assert all(row.ours is None and row.note == "not measured: no GPU here" for row in found)
    assert next(row.bar for row in found if row.name == FLOOR) == 250_000.0


def test_an_unknown_module_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert capsys.readouterr().err.startswith("bench has no module 'nothing'; there are training, answering")


def test_a_carried_folder_that_is_none_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MARK_BENCH", str(tmp_path))
    assert main(["training"]) == 2
    assert capsys.readouterr().err.startswith(
        f"MARK_BENCH: {tmp_path} holds no base/config.json; `python -m bench"
    )
