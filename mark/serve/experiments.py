"""/v1/experiments: the present run, as `mark report` and `dvc plots` tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, TypeAdapter

from mark.config import PARAMS, Eval, load_section
from mark.errors import MarkError
from mark.registry.champion import Champion
from mark.rlhf.inputs import POLICY
from mark.serve.errors import told
from mark.serve.stored_run import (
    Bar,
    Gain,
    KlPoint,
    RefusalPoint,
    RlhfOutcome,
    RunReader,
    StoredComparison,
    TrainPoint,
)

_MAX_ENTRIES = 8  # whose curves are sent
_BARS, _REFUSALS = TypeAdapter(list[Bar]), TypeAdapter(list[RefusalPoint])
_KL, _TRAINED = TypeAdapter(list[KlPoint]), TypeAdapter(list[TrainPoint])


class Judged(BaseModel):
    """The verdict on one entry."""

    entry: str
    verdict: str  # ship, don't ship or cannot tell
    reason: str
    gains: list[Gain]  # in token F1, over each that it was compared with


class Comparison(BaseModel):
    """All entries beside each other."""

    judged: list[Judged]
    best: str | None  # the entry that is shown to be better than all that it was compared with
    judged_on: str  # handwritten, or all
    questions: int
    clusters: int  # of answerable questions
    models: list[str]  # labels in the table's order
    bars: list[Bar]
    seen_in_training: dict[str, int]  # training questions on each tested document
    unseen_questions: int
    unseen: list[Bar]  # on documents that training has not seen


class Rlhf(RlhfOutcome):
    """Whether RLHF helped."""

    judged_on: str
    questions: int | None
    clusters: int | None
    gains: list[Gain]
    arms: list[Bar]
    frontier: list[KlPoint]


class EntryCurves(BaseModel):
    """What belongs to one entry alone."""

    entry: str
    grid: list[Bar]
    refusal: list[RefusalPoint]
    training: list[TrainPoint]


class Experiments(BaseModel):
    """The present run."""

    object: Literal["experiments"] = "experiments"
    comparison: Comparison | None
    rlhf: Rlhf | None
    entries: list[EntryCurves]
    champion: Champion | None
    missing: list[str]  # files that are not there
    notes: list[str]  # what cannot be shown, and what makes it


def experiments_router(root: Path) -> APIRouter:
    """The route.

    Args:
        root: The project's root.
    """
    routes = APIRouter(prefix="/v1")

    @routes.get("/experiments")
    def experiments() -> Experiments:
        """The table, the verdicts, the curves and the champion of the last run."""
        return read_experiments(root)

    return routes


def read_experiments(root: Path) -> Experiments:
    """Read metrics/, plots/ and the champion; what is missing or damaged is left out and told in `notes`.

    Args:
        root: The project's root.
    """
    reader = RunReader(root)
    comparison = reader.comparison()
    return Experiments(
        comparison=None if comparison is None else _comparison(comparison),
        rlhf=_rlhf(reader),
        entries=_entries(root, reader),
        champion=reader.champion(),
        missing=reader.missing,
        notes=reader.notes,
    )


def _comparison(stored: StoredComparison) -> Comparison:
    judged = [
        Judged(
            entry=entry,
            verdict=stored.verdict[entry],
            reason=stored.reason.get(entry, ""),
            gains=[
                gain.named(over.removeprefix("over "), "token_f1")
                for over, gain in stored.gain.get(entry, {}).items()
            ],
        )
        for entry in stored.entries
        if entry in stored.verdict
    ]
    return Comparison(
        judged=judged,
        best=None if stored.best == "none" else stored.best,
        judged_on=stored.judged,
        questions=stored.questions,
        clusters=stored.clusters,
        models=stored.models,
        bars=stored.bars(),
        seen_in_training=stored.seen_in_training,
        unseen_questions=stored.unseen_questions,
        unseen=stored.unseen(),
    )


def _rlhf(reader: RunReader) -> Rlhf | None:
    stored = reader.rlhf()
    if stored is None:
        return None
    group = stored.handwritten if stored.verdict_on == "handwritten" else stored.all
    return Rlhf(
        **stored.model_dump(exclude={"verdict_on", "all", "handwritten"}),
        judged_on=stored.verdict_on,
        questions=None if group is None else group.questions,
        clusters=None if group is None else group.clusters,
        gains=[]
        if group is None
        else [
            gain.named(over.removeprefix("over_"), metric)
            for over, gains in group.gain.items()
            for metric, gain in gains.items()
        ],
        arms=reader.rows("rlhf_arms", _BARS, "rlhf_report"),
        frontier=reader.rows("rlhf_reward_kl", _KL, "rlhf_report"),
    )


def _entries(root: Path, reader: RunReader) -> list[EntryCurves]:
    try:
        names = load_section(Eval, "eval", root / PARAMS).entries
    except MarkError as fault:
        reader.notes.append(told(fault, root))
        return []
    return [
        EntryCurves(
            entry=name,
            grid=reader.rows(f"eval_grid_{name}", _BARS, f"eval@{name}"),
            refusal=reader.rows(f"refusal_{name}", _REFUSALS, f"eval@{name}"),
            training=reader.rows(f"train/{name}", _TRAINED, "rlhf" if name == POLICY else "train"),
        )
        for name in names[:_MAX_ENTRIES]
    ]
