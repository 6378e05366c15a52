"""What the gate has decided (models/decisions.jsonl): each test of a candidate counts, none is repeated."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mark.files import MODELS, iter_jsonl, sha256_text
from mark.records import Prediction

DECISIONS = MODELS / "decisions.jsonl"


class Recorded(BaseModel):
    """One decision in which a candidate's test answers were compared, or the undoing of a promotion."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str  # ISO 8601, UTC
    entry: str
    adapter_sha256: str
    champion_sha256: str | None  # of the adapter that had to be beaten; None: the baselines
    test_sha256: str | None  # of the test questions; None: whatever they are
    verdict: Literal["passed", "refused", "undone"]
    reason: str

    def about(self, adapter: str, champion: str | None, test: str) -> bool:
        """Whether it answers for this candidate, champion and test."""
        same = (self.adapter_sha256, self.champion_sha256) == (adapter, champion)
        return same and self.test_sha256 in (None, test)


def read_decisions(root: Path) -> list[Recorded]:
    """All decisions, oldest first.

    Raises:
        DataError: A line is damaged.
    """
    path = root / DECISIONS
    return list(iter_jsonl(path, Recorded)) if path.is_file() else []


def record(root: Path, row: Recorded) -> None:
    """Add a line; what stands there is never changed."""
    path = root / DECISIONS
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(row.model_dump_json() + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def questions_sha256(answers: Sequence[Prediction]) -> str:
    """One hash of the questions that were answered, whatever their order and whoever answered."""
    asked = sorted((row.example_id, row.question, row.kind, row.answers) for row in answers)
    return sha256_text(json.dumps(asked))


def tried(rows: Sequence[Recorded], adapter: str, champion: str | None, test: str) -> int:
    """How many distinct candidates were ever tested against this champion on this test, this one included."""
    before = {
        row.adapter_sha256 for row in rows if (row.champion_sha256, row.test_sha256) == (champion, test)
    }
    return len(before | {adapter})
