"""The files of a run, read for a page: size and types are checked, faults are told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from mark.compare.results import plot_rows
from mark.errors import MarkError
from mark.evaluation.results import bar_rows
from mark.files import CHAMPION, METRICS, PLOTS
from mark.models.faults import first_line
from mark.registry.champion import Champion, read_champion
from mark.serve.errors import told

Found = TypeVar("Found")

MAX_BYTES = 4 << 20  # of one file


class Bar(BaseModel):
    """One measured value with its interval."""

    label: str = Field(validation_alias=AliasChoices("label", "model", "cell", "arm"))
    questions: str | None = None  # handwritten or rule_made
    metric: str
    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat


class RefusalPoint(BaseModel):
    """What a threshold would do on the validation questions."""

    model: str
    threshold: FiniteFloat
    mean_f1: FiniteFloat
    refusal_recall: FiniteFloat
    false_refusals: FiniteFloat


class KlPoint(BaseModel):
    """A checkpoint of one arm of RLHF on validation questions."""

    arm: str
    step: int
    kl: FiniteFloat  # to the fine-tuned model, nats an answer
    reward: FiniteFloat


class TrainPoint(BaseModel):
    """What was logged at one step: a loss of one split, or RLHF's validation."""

    step: int
    split: str | None = None
    loss: FiniteFloat | None = None
    val_reward: FiniteFloat | None = None
    val_kl: FiniteFloat | None = None


class Gain(BaseModel):
    """A paired difference; its interval decides."""

    over: str
    metric: str
    difference: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    smallest_detectable: FiniteFloat


class StoredGain(BaseModel):
    """The same without names."""

    difference: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    smallest_detectable: FiniteFloat

    def named(self, over: str, metric: str) -> Gain:
        """With its names."""
        return Gain(over=over, metric=metric, **self.model_dump())


_Values = dict[str, FiniteFloat]


class StoredComparison(BaseModel):
    """metrics/compare.json below `compare`."""

    models: list[str]
    entries: list[str]
    rows: dict[str, dict[str, _Values]]
    gain: dict[str, dict[str, StoredGain]]
    verdict: dict[str, str]
    reason: dict[str, str]
    best: str
    judged: str
    questions: int
    clusters: int
    seen_in_training: dict[str, int]
    unseen_documents: dict[str, _Values]
    unseen_questions: int

    @model_validator(mode="after")
    def _is_whole(self) -> StoredComparison:
        try:
            self.bars(), self.unseen()  # each value needs its interval
        except KeyError as fault:
            raise ValueError(f"{fault} is missing") from None
        return self

    def bars(self) -> list[Bar]:
        """The rows of plots/compare.json, models in the table's order."""
        ranks = {name: rank for rank, name in enumerate(self.models)}
        rows = [Bar.model_validate(row) for row in plot_rows(self.model_dump())]
        return sorted(rows, key=lambda row: ranks.get(row.label, len(ranks)))

    def unseen(self) -> list[Bar]:
        """Token F1 on documents that training has not seen."""
        return [
            Bar.model_validate(row)
            for label, values in self.unseen_documents.items()
            for row in bar_rows(values, ("token_f1",), {"label": label})
        ]


class StoredGroup(BaseModel):
    """RLHF's report on one group of questions."""

    questions: int
    clusters: int
    gain: dict[str, dict[str, StoredGain]]


class RlhfOutcome(BaseModel):
    """What came of RLHF, as it is stored and as it is shown."""

    method: str
    pairs: int
    steps: int
    kept: Literal["sft", "rlhf"]
    verdict: str
    reason: str
    too_few_to_judge: bool


class StoredRlhf(RlhfOutcome):
    """metrics/rlhf.json below `rlhf`."""

    verdict_on: Literal["all", "handwritten"]
    all: StoredGroup | None = None
    handwritten: StoredGroup | None = None


class ComparisonFile(BaseModel):
    """metrics/compare.json."""

    compare: StoredComparison


class RlhfFile(BaseModel):
    """metrics/rlhf.json."""

    rlhf: StoredRlhf


class RunReader:
    """Reads the fixed files of a run; what is missing or damaged becomes a note.

    Attributes:
        missing: Files that are not there.
        notes: One line for each file that cannot be shown: what is wrong, and what makes it.
    """

    def __init__(self, root: Path) -> None:
        """Nothing is read yet."""
        self._root = root
        self.missing: list[str] = []
        self.notes: list[str] = []

    def comparison(self) -> StoredComparison | None:
        """metrics/compare.json."""
        found = self._read(METRICS / "compare.json", TypeAdapter(ComparisonFile), "compare")
        return None if found is None else found.compare

    def rlhf(self) -> StoredRlhf | None:
        """metrics/rlhf.json."""
        found = self._read(METRICS / "rlhf.json", TypeAdapter(RlhfFile), "rlhf_report")
        return None if found is None else found.rlhf

    def rows(self, name: str, kind: TypeAdapter[list[Found]], stage: str) -> list[Found]:
        """A file of plots/, none where it cannot be read.

        Args:
            name: Below plots/, without .json.
            kind: What its rows are.
            stage: The DVC stage that writes it.
        """
        return self._read(PLOTS / f"{name}.json", kind, stage) or []

    def champion(self) -> Champion | None:
        """The promoted entry."""
        try:
            return read_champion(self._root)
        except MarkError as fault:
            self.notes.append(told(fault, self._root))
        except (OSError, RecursionError) as fault:
            self.notes.append(f"{CHAMPION} cannot be read: {first_line(fault)}")
        return None

    def _read(self, path: Path, kind: TypeAdapter[Found], stage: str) -> Found | None:
        remedy = f"`dvc repro -f {stage}` makes it anew"
        try:
            with (self._root / path).open("rb") as stream:
                content = stream.read(MAX_BYTES + 1)
        except FileNotFoundError:
            self.missing.append(path.as_posix())
            self.notes.append(f"{path} is missing; run `dvc repro {stage}` (or `dvc pull`) to make it")
            return None
        except OSError as fault:
            self.notes.append(f"{path} cannot be read: {fault.strerror or fault}")
            return None
        if len(content) > MAX_BYTES:
            self.notes.append(f"{path} has more than {MAX_BYTES >> 20} MiB and is not shown; {remedy}")
            return None
        try:
            return kind.validate_json(content)
        except ValidationError as fault:
            first = fault.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "content"
            self.notes.append(f"{path} is damaged ({where}: {first['msg']}); {remedy}")
            return None
