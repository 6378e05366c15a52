"""What a candidate has to beat on the test: the champion's answers, without one those of the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mark.errors import DataError
from mark.evaluation.calibration import LOCAL
from mark.evaluation.engines import control_engine, engine_of, told_apart
from mark.evaluation.questions import HANDWRITTEN
from mark.evaluation.significance import Bootstrap
from mark.files import CHAMPION_COPY, MODELS, read_jsonl, write_jsonl
from mark.records import Prediction
from mark.registry.champion import Champion
from mark.registry.comparison import BASE_CELL, COPY, Comparison, answered, compare
from mark.registry.evaluated import evaluation_folder
from mark.registry.history import questions_sha256
from mark.registry.promotion import PREDICTIONS, champion_folder
from mark.registry.view import ModelInfo, ModelRegistry, read_entry

PRESENT = "present.jsonl"  # in the champion's copy: its answers to the test questions of a later corpus
BASELINES = {BASE_CELL: "base + retrieval", "extractive": "the best sentence"}


@dataclass(frozen=True)
class Contest:
    """One comparison that is to be made.

    Attributes:
        entry: Name of the candidate.
        adapter_sha256: Of the candidate.
        answers: Its answers to the judged test questions: the hand-written ones where there are some.
        test_sha256: Of these questions.
        champion: That must be beaten; None: the baselines must be.
        folder: Of the champion's adapter.
        kept: The champion's answers to all these questions; None where they must be made.
        engine: That gave the candidate's answers.
        kept_engine: That gave the champion's; those that must be made are made here.
        note: Why the champion is left out, "" where it is not.
    """

    entry: str
    adapter_sha256: str
    answers: Sequence[Prediction]
    test_sha256: str
    champion: Champion | None
    folder: Path | None
    kept: Sequence[Prediction] | None
    engine: str = LOCAL
    kept_engine: str = LOCAL
    note: str = ""

    @property
    def champion_sha256(self) -> str | None:
        return None if self.champion is None else self.champion.adapter_sha256

    @property
    def unanswered(self) -> bool:
        """Whether the champion must answer the test questions anew."""
        return self.champion is not None and self.kept is None

    def without_champion(self, why: str) -> Contest:
        """The same candidate, as if there were no champion."""
        return replace(self, champion=None, folder=None, kept=None, note=why)

    def told_apart(self) -> str:
        """Says so where candidate and champion were run by different engines; "" where by one."""
        if self.champion is None:
            return ""
        return told_apart({self.entry: self.engine, f"the champion {self.champion.entry}": self.kept_engine})


def contest_of(info: ModelInfo, registry: ModelRegistry) -> Contest:
    """What an entry has to beat.

    Raises:
        DataError: The entry was not evaluated, or the champion's adapter is gone.
    """
    rows, engine = answered(info.name, registry)
    judged = [row for row in rows if row.rule_id == HANDWRITTEN] or rows
    champion = registry.champion()
    found = Contest(info.name, info.sha256, judged, questions_sha256(judged), champion, None, None, engine)
    if champion is None:
        return found
    folder = champion_folder(registry.root, champion)
    if folder is None:
        raise DataError(
            f"the champion {champion.entry} is gone: {CHAMPION_COPY} is missing and "
            f"{MODELS / champion.entry} does not hold its adapter; restore {CHAMPION_COPY}, or choose "
            "another with `mark models promote NAME --force --reason TEXT`"
        )
    kept, kept_engine = _kept(judged, registry)
    return replace(found, folder=folder, kept=kept, kept_engine=kept_engine)


def covers(answers: Sequence[Prediction], asked: Sequence[Prediction]) -> bool:
    """Whether there is an answer to each question, with the same wording and accepted answers."""
    known = {row.example_id: (row.question, row.answers, row.kind) for row in answers}
    return all(known.get(row.example_id) == (row.question, row.answers, row.kind) for row in asked)


def keep_present(answers: Sequence[Prediction], contest: Contest, root: Path) -> None:
    """Keep the champion's new answers beside its copy, so that they are made once a corpus.

    Raises:
        DataError: They are not about the questions that the candidate answered.
    """
    if not covers(answers, contest.answers):
        raise DataError(
            f"{contest.entry} was evaluated on other questions than the present ones; run `dvc repro eval`"
        )
    if contest.folder == root / CHAMPION_COPY:
        write_jsonl(contest.folder / PRESENT, answers)


def against_champion(
    contest: Contest, theirs: Sequence[Prediction], bootstrap: Bootstrap, min_clusters: int
) -> Comparison:
    """The candidate against the champion's answers to the same questions."""
    name = "the champion" if contest.champion is None else f"the champion {contest.champion.entry}"
    return compare((contest.entry, contest.answers), (name, theirs), bootstrap, min_clusters)


def against_baselines(
    contest: Contest, registry: ModelRegistry, bootstrap: Bootstrap, min_clusters: int
) -> list[Comparison]:
    """The candidate against its base model with retrieval, and against the best sentence.

    An entry that RLHF made has no answers of the base model: those in the evaluation of the entry that it
    started from are taken.

    Raises:
        DataError: Answers of a baseline to these questions are missing.
    """
    sources = _sources(contest, registry)
    rows = [row for name in sources for row in _evaluated(name, registry.root)]
    found = []
    for cell, title in BASELINES.items():
        theirs = [row for row in rows if row.cell == cell]
        if not covers(theirs, contest.answers):
            raise DataError(
                f"no evaluation of {' or '.join(sources)} holds answers of cell {cell} to the present test "
                "questions; add it to eval.cells and run `dvc repro eval`"
            )
        found.append(compare((contest.entry, contest.answers), (title, theirs), bootstrap, min_clusters))
    return found


def baselines_apart(contest: Contest, registry: ModelRegistry) -> str:
    """Says so where candidate and baselines were run by different engines; "" where by one."""
    folders = {name: evaluation_folder(name, registry.root) for name in _sources(contest, registry)}
    return told_apart({name: engine_of(folder) for name, folder in folders.items() if folder.is_dir()})


def _sources(contest: Contest, registry: ModelRegistry) -> list[str]:
    """Entries whose evaluations hold the baselines' answers."""
    started_from = (read_entry(registry.root / MODELS / contest.entry).model_extra or {}).get("sft")
    return [contest.entry, *([started_from] if isinstance(started_from, str) else [])]


def _evaluated(name: str, root: Path) -> list[Prediction]:
    path = evaluation_folder(name, root) / PREDICTIONS
    return read_jsonl(path, Prediction) if path.is_file() else []


def _kept(asked: Sequence[Prediction], registry: ModelRegistry) -> tuple[list[Prediction] | None, str]:
    """The champion's answers to these questions and their engine; no answers where some are missing."""
    try:
        answers, engine = answered(COPY, registry)
    except DataError:  # it was forced without an evaluation
        answers, engine = [], LOCAL
    if answers and covers(answers, asked):
        return answers, engine
    later = registry.root / CHAMPION_COPY / PRESENT
    answers = read_jsonl(later, Prediction) if later.is_file() else []
    made_here = control_engine(registry.root / CHAMPION_COPY)  # in the precision of its own evaluation
    return answers if answers and covers(answers, asked) else None, made_here
