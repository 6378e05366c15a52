"""The reward that a checkpoint is chosen by: answers as they would be given, the refusal rule fitted anew."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mark.answering.engine import Engine, Generation
from mark.prompting import REFUSAL, Passage
from mark.rlhf.sampling import Task
from mark.rlhf.validation import Validation
from tests.rlhf.small import rlhf_settings

PASSAGE = Passage("c1", "Section 1", "The notice is six months.")


def tasks(each: int) -> list[Task]:
    return [
        Task(f"{kind}-{i}", f"{kind} {i}?", ("six months",) if kind == "answerable" else (REFUSAL,), kind, (1,), (PASSAGE,))
        for i in range(each)
        for kind in ("answerable", "unanswerable")
    ]  # fmt: skip


def reward(monkeypatch: pytest.MonkeyPatch, rows: list[Task], odds: dict[str, float], text: str) -> float:
    """What a validation finds where the model refuses with these log-odds, and otherwise answers `text`."""

    def generate(self: Any, requests: Any, label: Any) -> list[Generation]:
        return [
            Generation(text, text, -0.5, 1 / (1 + math.exp(-odds[task.id])), task.passages) for task in rows
        ]

    monkeypatch.setattr(Engine, "__init__", lambda self, *settings: None)
    monkeypatch.setattr(Engine, "generate", generate)
    validation = Validation(rows, [], rlhf_settings().reward, 600, 8, 4, 7)
    return validation.reward(None, None)  # type: ignore[arg-type]


def sure(rows: list[Task], shift: float = 0.0) -> dict[str, float]:
    """Log-odds that tell the two kinds apart."""
    return {
        task.id: shift + (2.0 if task.kind == "unanswerable" else -2.0) + i % 5 / 10
        for i, task in enumerate(rows)
    }


def test_each_answer_is_judged_as_it_would_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tasks(12)
    weights = rlhf_settings().reward
    right = weights.token_f1 + weights.quote  # "six months" stands in the passage
    assert reward(monkeypatch, rows, sure(rows), "six months") == pytest.approx((right + weights.refusal) / 2)
    half = weights.token_f1 / 2  # "six weeks" shares one word of two, and is no quote
    assert reward(monkeypatch, rows, sure(rows), "six weeks") == pytest.approx((half + weights.refusal) / 2)


def test_how_often_a_policy_refuses_by_itself_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tasks(12)
    found = {reward(monkeypatch, rows, sure(rows, shift), "six months") for shift in (-8.0, 0.0, 8.0)}
    assert len(found) == 1


def test_a_policy_that_cannot_tell_the_kinds_apart_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tasks(12)
    blind = {task.id: float(i // 2 % 5) for i, task in enumerate(rows)}
    assert (
        reward(monkeypatch, rows, blind, "six months")
        < reward(monkeypatch, rows, sure(rows), "six months") - 0.2
    )


def test_with_few_questions_the_models_own_probability_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tasks(3)
    weights = rlhf_settings().reward
    refusing = reward(monkeypatch, rows, sure(rows, 8.0), "six months")  # refuses all
    assert refusing == pytest.approx(weights.refusal / 2)
    assert reward(monkeypatch, [], {}, "") == 0.0
