"""The refusal thresholds of every model, fitted on validation questions in one and the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mark.answering.refusal import Calibration, fit
from mark.errors import DataError
from mark.evaluation.cells import Answer, score_unrefused
from mark.evaluation.questions import Question
from mark.files import REPORTS, read_json

LOCAL = "local"  # the engine that runs a model in its own process
Precision = Literal["float32", "bfloat16"]  # of the weights that answer
# Answers in two precisions agree up to these. Greedy decoding turns a near tie into other words, so equal
# texts are not asked for: two implementations in one precision differ in as many (docs/speed.md).
_LEAST_F1 = 0.8
_MOST_NATS = 0.05
_MOST_REFUSAL = 0.1


class PrecisionCheck(BaseModel):
    """Answers in bfloat16 against those in float32."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: int
    same_text: int  # answers that are equal
    token_f1: float  # of one answer against the other, mean
    logprob_difference: float  # of the mean log probability of equal texts, nats a token, mean
    refusal_difference: float  # of the refusal's probability, the largest

    @property
    def agrees(self) -> bool:
        """Whether bfloat16 may answer in float32's place."""
        return (
            self.token_f1 >= _LEAST_F1
            and self.logprob_difference <= _MOST_NATS
            and self.refusal_difference <= _MOST_REFUSAL
        )


class Calibrations(BaseModel):
    """What eval learnt from validation questions; rlhf and serving read it, never test metrics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: str
    adapter_sha256: str | None = None  # of the adapter that answered; None in files of older versions
    engine: str = LOCAL  # that answered; else as `RemoteEngine.name` has it
    base: str
    question_ids: list[str]  # the validation questions that were used
    precision_check: PrecisionCheck | None = None  # where the machine would rather answer in bfloat16
    answers_in: Precision | None = None  # None = a server answered, and in files of older versions
    thresholds: dict[str, Calibration]  # base, base_retrieval, tuned, tuned_retrieval, extractive

    @classmethod
    def read(cls, path: Path) -> Calibrations:
        """Read reports/eval/<entry>/calibration.json.

        Raises:
            DataError: Missing or damaged.
        """
        try:
            return cls.model_validate(read_json(path))
        except ValueError as fault:
            raise DataError(f"{path}: {str(fault).splitlines()[0]}; run `dvc repro eval`") from None


@dataclass(frozen=True)
class Thresholds:
    """Refusal rules of one model, None where it was never calibrated."""

    without: Calibration | None
    retrieval: Calibration | None
    engine: str = LOCAL  # whose answers they were fitted on
    answers_in: Precision | None = None  # the precision of those answers, where it is known


def thresholds_of(name: str, root: Path) -> Thresholds:
    """From the evaluation of the entry, or of the first one that asked this base model.

    Args:
        name: Of an entry, a base model, or `extractive`.
        root: The project's root.

    Raises:
        DataError: A calibration file is damaged.
    """
    for path in sorted((root / REPORTS / "eval").glob("*/calibration.json")):
        found = Calibrations.read(path)
        kept = found.thresholds
        if name == "extractive" and name in kept:
            return Thresholds(None, kept[name])
        role = "tuned" if found.entry == name else "base" if found.base == name else None
        if role is not None and not kept.keys().isdisjoint((role, f"{role}_retrieval")):
            rules = kept.get(role), kept.get(f"{role}_retrieval")
            return Thresholds(*rules, found.engine, found.answers_in)
    return Thresholds(None, None)


def calibrate(questions: Sequence[Question], answers: Mapping[str, Answer]) -> Calibration:
    """Fit one refusal rule.

    Args:
        questions: Validation questions.
        answers: By question id.
    """
    scores = [score_unrefused(question, answers[question.id]) for question in questions]
    evidence = [answers[question.id].evidence for question in questions]
    return fit(evidence, scores, [question.kind for question in questions])
