"""The promotion gate: a champion must beat the present one, forget nothing and export well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mark.config import Registry
from mark.errors import DataError, ModelError
from mark.evaluation.report import verdict_sentence
from mark.evaluation.significance import Bootstrap
from mark.files import CHAMPION_COPY
from mark.models.loading import load_entry
from mark.registry.champion import Champion
from mark.registry.comparison import COPY, answers_of, compare
from mark.registry.evaluated import stale_evaluation
from mark.registry.export import Bench, merged_parity
from mark.registry.probe import load_probe, measure_forgetting
from mark.registry.promotion import promote
from mark.registry.view import ModelInfo, ModelRegistry


@dataclass(frozen=True)
class Check:
    """One question of the gate and its answer."""

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Decision:
    """What the gate found of one entry; a check that costs a model is not made after one that failed."""

    entry: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """All findings in one line."""
        return "; ".join(f"{check.name}: {check.sentence}" for check in self.checks)


@dataclass(frozen=True)
class Gate:
    """What a decision rests on.

    Attributes:
        registry: Of the project.
        settings: Section `registry`.
        bootstrap: Makes the intervals.
        min_clusters: Of answerable test questions.
        bench: Makes the questions of the parity check, when they are needed.
    """

    registry: ModelRegistry
    settings: Registry
    bootstrap: Bootstrap
    min_clusters: int
    bench: Callable[[], Bench]

    def decide(self, name: str) -> Decision:
        """Judge one entry.

        Raises:
            ModelError: There is no such entry, or it is damaged.
        """
        info = self.registry.entry(name)
        checks: list[Check] = []
        for question in (self._fit, self._better, self._forgetting, self._parity):
            checks.append(question(info))
            if not checks[-1].passed:
                break
        return Decision(name, tuple(checks))

    def _fit(self, info: ModelInfo) -> Check:
        """Whether it can be promoted at all."""
        if info.champion:
            return Check("entry", False, f"{info.name} is the champion already")
        if info.random:
            return Check("entry", False, "its base model has random weights, which are for tests")
        stale = stale_evaluation(info.name, info.sha256, self.registry.root)
        if stale is not None:
            return Check("entry", False, stale)
        return Check("entry", True, f"adapter {info.sha256[:12]}")

    def _better(self, info: ModelInfo) -> Check:
        """Against the champion; without one its own verdict against its baselines."""
        champion = self.registry.champion()
        try:
            if champion is None or not (self.registry.root / CHAMPION_COPY).is_dir():
                return self._verdict(info)
            found = compare(
                (info.name, answers_of(info.name, self.registry)),
                (f"the champion {champion.entry}", answers_of(COPY, self.registry)),
                self.bootstrap,
                self.min_clusters,
            )
        except DataError as fault:
            return Check("better", False, str(fault))
        return Check("better", found.verdict == "ship", found.sentence())

    def _verdict(self, info: ModelInfo) -> Check:
        if info.metrics is None:
            return Check(
                "better",
                False,
                f"{info.name} was not evaluated; add it to eval.entries and run `dvc repro eval`",
            )
        try:
            sentence = verdict_sentence(info.name, info.metrics).removesuffix(".")
            return Check("better", info.metrics["verdict"] == "ship", f"no champion yet; {sentence}")
        except KeyError as fault:
            return Check("better", False, f"its metrics lack {fault}; run `dvc repro -f eval`")

    def _forgetting(self, info: ModelInfo) -> Check:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        model, tokenizer = load_entry(info.folder, device=device)
        found = measure_forgetting(model, tokenizer, load_probe())
        margin = self.settings.forgetting_margin
        return Check("forgetting", found.passes(margin), found.sentence(margin))

    def _parity(self, info: ModelInfo) -> Check:
        try:
            return Check("parity", True, merged_parity(info, self.bench()).sentence())
        except (ModelError, DataError) as fault:
            return Check("parity", False, str(fault))


def promote_if_better(gate: Gate, names: Sequence[str]) -> tuple[Champion | None, list[Decision]]:
    """Promote the first entry that passes.

    Args:
        gate: Judges.
        names: In the order in which they are tried.

    Returns:
        The promotion, None where no entry passed; and every decision that was made.
    """
    decisions = []
    for name in names:
        decision = gate.decide(name)
        decisions.append(decision)
        if decision.passed:
            info = gate.registry.entry(name)
            return promote(
                gate.registry.root, info.folder, info.sha256, decision.reason, forced=False
            ), decisions
    return None, decisions


def candidates(registry: ModelRegistry) -> list[str]:
    """Evaluated entries that are not champion, the best on the development questions first.

    Development figures, so that the test questions are not used to choose whom they judge.
    """
    found = []
    for info in registry.models():
        if info.kind == "entry" and info.fault is None and not info.champion and info.metrics is not None:
            cell: Any = info.metrics.get("development", {}).get("tuned_retrieval", {})
            found.append((-float(cell.get("f1_if_answered", 0.0)), info.name))
    return [name for _, name in sorted(found)]
