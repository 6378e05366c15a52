from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mark.data_prep.ledger import Count
from mark.data_prep.yields import Yield, sample_kept, write_reading_list, yield_table, yields
from mark.errors import DataError
from mark.records import Example
from tests.data_prep.passages import example

COUNT = Count(
    asked=20, kept=5, kept_without_passage=1,
    dropped={"dangling": 3, "repeats_source": 2, "beyond_limit": 4, "style_cap": 1, "round_trip": 4},
)  # fmt: skip


def test_yields_by_hand() -> None:
    # 20 - 3 - 2 = 15 sound; - 4 - 1 = 10 tried; 5 + 1 = 6 kept.
    [row] = yields({"amount": COUNT})
    assert row == Yield("amount", 20, 15, 10, 6)
    assert row.kept_share == pytest.approx(0.6)


def test_table() -> None:
    nothing = Count(asked=2, kept=0, kept_without_passage=0, dropped={"dangling": 2})
    table = yield_table({"purpose": nothing, "amount": COUNT})
    assert table.splitlines()[2:] == [
        "| amount | 20 | 15 | 10 | 6 | 60 % |",
        "| purpose | 2 | 0 | 0 | 0 | - |",
    ]


def _rows() -> list[Example]:
    return [example("train", f"How many days after step {i}?", ["a"]) for i in range(30)]


def test_a_sample_is_seeded_and_even() -> None:
    rows = [*_rows(), example("train", "Who?", ["a"]).model_copy(update={"rule_id": "agent"})]
    picked = sample_kept(rows, 4, 1)
    assert [row.rule_id for row in picked] == ["agent"] + ["amount"] * 4
    assert picked == sample_kept(rows[::-1], 4, 1) != sample_kept(rows, 4, 2)


def test_a_question_whose_passage_was_withheld_is_not_read() -> None:
    withheld = _rows()[0].model_copy(update={"kind": "unanswerable"})
    assert not sample_kept([withheld], 4, 1)


def test_verdicts_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "reading.csv"
    write_reading_list(_rows()[:2], path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["", ""] and rows[0]["answer"] == "thirty days"
    with pytest.raises(DataError, match="may hold verdicts"):
        write_reading_list(_rows(), path)
