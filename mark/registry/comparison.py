"""Two models on the test questions that both have answered: paired differences with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mark.errors import DataError
from mark.evaluation.engines import engine_of
from mark.evaluation.questions import HANDWRITTEN
from mark.evaluation.significance import Bootstrap, Gain, Verdict, choose_clusters, judge
from mark.evaluation.summary import NEW
from mark.files import CHAMPION_COPY, read_jsonl
from mark.records import Prediction
from mark.registry.evaluated import evaluation_folder, stale_evaluation
from mark.registry.promotion import PREDICTIONS
from mark.registry.view import ModelRegistry

BASE_CELL = "base_retrieval"
COPY = "champion"  # a name for the kept copy
DECISIVE = "token_f1"

Value = Callable[[Prediction], float]
Chosen = Callable[[Prediction], bool]


def _every(row: Prediction) -> bool:
    return True


def _answerable(row: Prediction) -> bool:
    return row.kind == "answerable"


def _unanswerable(row: Prediction) -> bool:
    return row.kind == "unanswerable"


# Metric -> (its value of one answer, the questions that it is about).
METRICS: dict[str, tuple[Value, Chosen]] = {
    "token_f1": (lambda row: row.token_f1, _every),
    "exact_match": (lambda row: row.exact_match, _every),
    "rouge_l": (lambda row: row.rouge_l, _every),
    "f1_if_answered": (lambda row: row.f1_if_answered, _answerable),
    "refusal_recall": (lambda row: float(row.refused), _unanswerable),
    "false_refusals": (lambda row: float(row.refused), _answerable),
}


@dataclass(frozen=True)
class Difference:
    """One metric of both models, and their paired difference."""

    new: float
    old: float
    gain: Gain


@dataclass(frozen=True)
class Comparison:
    """What the paired comparison of two models found.

    Attributes:
        judged: `handwritten` where there are such questions, else `all`.
        answerable_clusters: Of the judged questions; a verdict needs `needed` of them.
        differences: By metric, on the judged questions; metrics without a question are absent.
        verdict: `ship` when the interval of token F1 lies above zero.
    """

    new: str
    old: str
    judged: str
    questions: int
    clusters: int
    answerable_clusters: int
    needed: int
    differences: dict[str, Difference]
    verdict: Verdict

    @property
    def decisive(self) -> Gain:
        """The gain in token F1."""
        return self.differences[DECISIVE].gain

    def sentence(self) -> str:
        """One line: the gain, its interval and what it rests on."""
        gain = self.decisive
        line = (
            f"token F1 {100 * gain.difference:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}) "
            f"over {self.old} on {self.questions} common test questions in {self.clusters} clusters"
        )
        if self.answerable_clusters < self.needed:
            return (
                f"{line}; {self.answerable_clusters} clusters of answerable ones are too few, "
                f"{self.needed} are needed"
            )
        return f"{line}; smallest gain it could have seen {100 * gain.smallest_detectable:.1f}"


def compare(
    new: tuple[str, Sequence[Prediction]],
    old: tuple[str, Sequence[Prediction]],
    bootstrap: Bootstrap,
    min_clusters: int,
) -> Comparison:
    """Compare two models on the questions that both answered.

    Args:
        new: Name and answers, one a question.
        old: The same of the model that must be beaten.
        bootstrap: Makes the intervals.
        min_clusters: Clusters of answerable questions below which nothing is decided.

    Raises:
        DataError: No common question, or one with other accepted answers.
    """
    pairs = common(new, old)
    people = [pair for pair in pairs if pair[0].rule_id == HANDWRITTEN]
    judged = people or pairs
    rows = [pair[0] for pair in judged]
    names = choose_clusters(
        [row.document for row in rows],
        [row.section for row in rows],
        [row.example_id for row in rows],
        min_clusters,
    )
    enough = len({name for name, row in zip(names, rows, strict=True) if row.kind == "answerable"})
    differences = {}
    for metric, (value, chosen) in METRICS.items():
        places = [i for i, row in enumerate(rows) if chosen(row)]
        if places:
            ours = np.array([value(judged[i][0]) for i in places])
            theirs = np.array([value(judged[i][1]) for i in places])
            gain = bootstrap.gain(ours, theirs, [names[i] for i in places])
            differences[metric] = Difference(float(ours.mean()), float(theirs.mean()), gain)
    return Comparison(
        new=new[0],
        old=old[0],
        judged="handwritten" if people else "all",
        questions=len(rows),
        clusters=len(set(names)),
        answerable_clusters=enough,
        needed=min_clusters,
        differences=differences,
        verdict=judge([differences[DECISIVE].gain]) if enough >= min_clusters else "cannot tell",
    )


def common(
    new: tuple[str, Sequence[Prediction]], old: tuple[str, Sequence[Prediction]]
) -> list[tuple[Prediction, Prediction]]:
    """The answers of both models to the questions that both were asked, in the first one's order.

    Raises:
        DataError: There is no such question, or one with other wording or accepted answers.
    """
    theirs = {row.example_id: row for row in old[1]}
    pairs = [(row, theirs[row.example_id]) for row in new[1] if row.example_id in theirs]
    if not pairs:
        raise DataError(
            f"{new[0]} and {old[0]} have no test question in common; "
            "evaluate both on one corpus with `dvc repro eval`"
        )
    for ours, their in pairs:
        if (ours.question, ours.answers, ours.kind) != (their.question, their.answers, their.kind):
            raise DataError(
                f"{new[0]} and {old[0]} were asked different questions under the id {ours.example_id}; "
                "evaluate both anew with `dvc repro eval`"
            )
    return pairs


def answers_of(name: str, registry: ModelRegistry) -> list[Prediction]:
    """A model's answers to the test questions, with retrieval; see `answered`."""
    return answered(name, registry)[0]


def answered(name: str, registry: ModelRegistry) -> tuple[list[Prediction], str]:
    """A model's answers to the test questions, with retrieval, and the engine that gave them.

    Args:
        name: An entry, a base model (as any entry on it was compared with), or `champion` (the kept copy).
        registry: Of the project.

    Raises:
        DataError: It was not evaluated.
        ModelError: There is no such model.
    """
    root = registry.root
    if name == COPY:
        return _champion_answers(registry)
    info = registry.get(name)
    if info.kind == "entry":
        return _cell(evaluation_folder(name, root) / PREDICTIONS, NEW, name)
    for other in registry.models():
        path = evaluation_folder(other.name, root) / PREDICTIONS
        if other.kind == "entry" and other.base == name and path.is_file():
            rows = [row for row in read_jsonl(path, Prediction) if row.cell == BASE_CELL]
            if rows:  # an entry that was trained on from another leaves them to that one
                return rows, engine_of(path.parent)
    raise DataError(
        f"{name} was not evaluated: no entry on it was, with cell {BASE_CELL}; run `dvc repro eval`"
    )


def _champion_answers(registry: ModelRegistry) -> tuple[list[Prediction], str]:
    """Those of its copy; of an entry that was forced before its evaluation, the evaluation made since."""
    champion = registry.champion()
    if champion is None:
        raise DataError("there is no champion; `mark models promote NAME` asks the gate")
    kept = registry.root / CHAMPION_COPY / PREDICTIONS
    if kept.is_file():
        return _cell(kept, NEW, COPY)
    same = any(info.champion for info in registry.models())
    found = evaluation_folder(champion.entry, registry.root) / PREDICTIONS
    stale = stale_evaluation(champion.entry, champion.adapter_sha256, registry.root) if same else None
    if same and stale is None and found.is_file():
        return _cell(found, NEW, COPY)
    remedy = (
        stale or f"add {champion.entry} to eval.entries and run `dvc repro eval`"
        if same
        else "its folder was written again since; promote another with `--force --reason TEXT`"
    )
    raise DataError(f"the champion {champion.entry} was forced without an evaluation; {remedy}")


def _cell(path: Path, cell: str, name: str) -> tuple[list[Prediction], str]:
    if not path.is_file():
        raise DataError(
            f"{name} was not evaluated ({path} is missing); add it to eval.entries and run `dvc repro eval`"
        )
    rows = [row for row in read_jsonl(path, Prediction) if row.cell == cell]
    if not rows:
        raise DataError(
            f"{path} holds no answer of cell {cell}; add it to eval.cells and run `dvc repro eval`"
        )
    return rows, engine_of(path.parent)
