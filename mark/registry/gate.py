"""The promotion gate: a champion must beat the present one, forget nothing and export well."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mark.config import Registry
from mark.errors import DataError, ModelError
from mark.evaluation.report import verdict_sentence
from mark.evaluation.significance import Bootstrap
from mark.models.loading import entry_base, load_entry
from mark.models.source_file import storage_in
from mark.records import Prediction
from mark.registry.champion import Champion, now
from mark.registry.contest import (
    Contest,
    against_baselines,
    against_champion,
    baselines_apart,
    contest_of,
    keep_present,
)
from mark.registry.evaluated import stale_evaluation
from mark.registry.export import Bench, merged_parity
from mark.registry.history import Recorded, read_decisions, record, tried
from mark.registry.preferred import kept_by_rlhf, made_by_rlhf
from mark.registry.probe import load_probe, measure_forgetting
from mark.registry.promotion import holds, promote
from mark.registry.reanswer import Asking, answer_present, check_loads
from mark.registry.view import ModelInfo, ModelRegistry, read_entry

log = logging.getLogger(__name__)

_FINER = 20  # times the resamplings at most


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
        asking: How the champion is asked where the test questions have changed since its evaluation.
        again: Test what was decided before once more.
    """

    registry: ModelRegistry
    settings: Registry
    bootstrap: Bootstrap
    min_clusters: int
    bench: Callable[[], Bench]
    asking: Asking
    again: bool = False

    def decide(self, name: str) -> Decision:
        """Judge one entry; a decision that the test took part in is recorded, and repeated the next time.

        Raises:
            ModelError: There is no such entry, or it is damaged.
            DataError: models/champion.json or models/decisions.jsonl is damaged.
        """
        info = self.registry.entry(name)
        checks = [self._fit(info)]
        facts = read_entry(info.folder).model_dump()
        if checks[-1].passed and made_by_rlhf(facts):
            checks.append(Check("rlhf", *kept_by_rlhf(facts, info.sha256, self.registry.root)))
        if not checks[-1].passed:
            return Decision(name, tuple(checks))
        past = read_decisions(self.registry.root)
        try:
            contest = contest_of(info, self.registry)
        except DataError as fault:
            return Decision(name, (*checks, Check("better", False, str(fault))))
        if contest.unanswered and self._recorded(contest, past) is None:
            contest = _if_it_loads(contest)
        recorded = self._recorded(contest, past)
        if recorded is not None:
            return Decision(name, (*checks, recorded))
        return self._judge(info, contest, checks, past)

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

    def _recorded(self, contest: Contest, past: Sequence[Recorded]) -> Check | None:
        """The last decision about this candidate, champion and test."""
        key = (contest.adapter_sha256, contest.champion_sha256, contest.test_sha256)
        found = [] if self.again else [row for row in past if row.about(*key)]
        if not found:
            return None
        last = found[-1]
        sentence = f"{last.verdict} on {last.at} ({last.reason}); `--again` tests it once more"
        return Check("recorded", last.verdict == "passed", sentence)

    def _judge(
        self, info: ModelInfo, contest: Contest, checks: Sequence[Check], past: Sequence[Recorded]
    ) -> Decision:
        """The checks that cost something; the test comes last where the champion has to answer it first."""
        made, tested = list(checks), False
        order = ["better", "forgetting", "parity"]
        for name in [*order[1:], order[0]] if contest.unanswered else order:
            if name == "better":
                try:
                    made.append(self._better(info, contest, past))
                    tested = True
                except (DataError, ModelError) as fault:
                    made.append(Check("better", False, str(fault)))
            else:
                made.append(self._forgetting(info) if name == "forgetting" else self._parity(info))
            if not made[-1].passed:
                break
        decision = Decision(info.name, tuple(made))
        if tested:
            record(self.registry.root, _row(contest, decision))
        return decision

    def _better(self, info: ModelInfo, contest: Contest, past: Sequence[Recorded]) -> Check:
        """On the test questions: against the champion; without one against the baselines.

        Raises:
            DataError: The comparison cannot be made.
            ModelError: The champion or the embedder does not load.
        """
        number = tried(past, contest.adapter_sha256, contest.champion_sha256, contest.test_sha256)
        confidence = 1 - (1 - self.bootstrap.confidence) / number  # Bonferroni
        samples = self.bootstrap.samples * min(number, _FINER)  # the tails get thinner
        bootstrap = replace(self.bootstrap, samples=samples, confidence=confidence)
        against = "the baselines" if contest.champion is None else "this champion"
        level = f"candidate {number} tried against {against} on this test"
        level += f", hence {100 * confidence:.4g} % intervals"
        if contest.champion is not None:
            theirs = self._champions(contest) if contest.kept is None else contest.kept
            found = against_champion(contest, theirs, bootstrap, self.min_clusters)
            parts = [found.sentence(), *filter(None, [contest.told_apart()]), level]
            return Check("better", found.verdict == "ship", "; ".join(parts))
        start = f"{contest.note or 'no champion yet'}; "
        passed, sentence = True, ""
        if not made_by_rlhf(read_entry(info.folder).model_dump()):
            passed, sentence = _verdict(info)
        if passed and (number > 1 or not sentence):
            rows = against_baselines(contest, self.registry, bootstrap, self.min_clusters)
            passed = all(row.verdict == "ship" for row in rows)
            told = [sentence, *(row.sentence() for row in rows), baselines_apart(contest, self.registry)]
            sentence = "; ".join(filter(None, told))
        return Check("better", passed, f"{start}{sentence}; {level}")

    def _champions(self, contest: Contest) -> Sequence[Prediction]:
        """The champion's answers to the present test questions, made now."""
        assert contest.folder is not None
        log.info("the test questions have changed since the champion was evaluated: it answers them anew")
        answers = answer_present(contest.folder.name, self.asking, self.registry.root)
        keep_present(answers, contest, self.registry.root)
        return answers

    def _forgetting(self, info: ModelInfo) -> Check:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        model, tokenizer = load_entry(info.folder, device=device)
        found = measure_forgetting(model, tokenizer, load_probe())
        margin = self.settings.forgetting_margin
        return Check("forgetting", found.passes(margin), found.sentence(margin))

    def _parity(self, info: ModelInfo) -> Check:
        if storage_in(entry_base(info.folder)).placed:
            return Check(
                "parity", True, "its base is held in 4 bits or on several devices, so it is never merged"
            )
        try:
            return Check("parity", True, merged_parity(info, self.bench()).sentence())
        except (ModelError, DataError) as fault:
            return Check("parity", False, str(fault))


def _verdict(info: ModelInfo) -> tuple[bool, str]:
    """Of the entry's own evaluation."""
    if info.metrics is None:
        raise DataError(f"{info.name} was not evaluated; add it to eval.entries and run `dvc repro eval`")
    try:
        sentence = verdict_sentence(info.name, info.metrics).removesuffix(".")
        return info.metrics["verdict"] == "ship", sentence
    except KeyError as fault:
        raise DataError(f"its metrics lack {fault}; run `dvc repro -f eval`") from None


def _if_it_loads(contest: Contest) -> Contest:
    """The contest; without the champion where this does not load."""
    assert contest.champion is not None and contest.folder is not None
    name = contest.champion.entry
    if not holds(contest.folder, contest.champion.adapter_sha256):
        return contest.without_champion(
            f"the champion {name} is left out, since its adapter in {contest.folder} was changed"
        )
    try:
        check_loads(contest.folder)
    except ModelError as fault:
        return contest.without_champion(f"the champion {name} is left out, since it does not load ({fault})")
    return contest


def _row(contest: Contest, decision: Decision) -> Recorded:
    return Recorded(
        at=now(),
        entry=contest.entry,
        adapter_sha256=contest.adapter_sha256,
        champion_sha256=contest.champion_sha256,
        test_sha256=contest.test_sha256,
        verdict="passed" if decision.passed else "refused",
        reason=decision.reason,
    )


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
