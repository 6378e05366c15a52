"""What RLHF reads, where its by-products go, and the key of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mark.config import Paths, Rlhf
from mark.errors import DataError, MarkError
from mark.evaluation.calibration import Calibrations
from mark.evaluation.precision import answering_dtype
from mark.evaluation.questions import HANDWRITTEN
from mark.evaluation.results import DEVELOPMENT
from mark.files import (
    ADAPTER,
    CHUNKS,
    EMBEDDER,
    HANDWRITTEN_DEV,
    HANDWRITTEN_TEST,
    MODELS,
    PLOTS,
    PRACTICE_PASSAGES,
    REPORTS,
    TEST_SFT,
    TRAIN_SFT,
    VAL_SFT,
    git_root,
    read_json,
    read_jsonl,
    sha256_file,
    sha256_text,
)
from mark.models.loading import entry_base
from mark.models.source_file import read_source
from mark.records import Chunk, Example, HandwrittenQuestion, Prediction
from mark.rlhf.answered import TUNED_CELL
from mark.rlhf.feedback import ACCEPTED, AcceptedFeedback, Encode, TestQuestions, read_accepted
from mark.train.hardware import training_device

POLICY = "rl_trained_lora"  # the entry that RLHF makes
CONTROL = "sft_continued_lora"  # the control arm: fine-tuning gone on with for as many steps
_PACKAGE = Path(__file__).resolve().parents[1]
_CODE = (
    "rlhf/*.py",
    "train/*.py",
    "answering/*.py",
    "models/*.py",
    "evaluation/metrics.py",
    "evaluation/questions.py",
    "evaluation/significance.py",
    "data_prep/passage_copies.py",
    "data_prep/question_index.py",
    "data_prep/set_index.py",
    "data_prep/similarity.py",
    "prompting.py",
    "records.py",
    "untrusted.py",
)
_LIBRARIES = ("accelerate", "peft", "scikit-learn", "torch", "transformers", "trl")


@dataclass(frozen=True)
class RlhfInputs:
    """Files that RLHF reads and folders for what it leaves beside the entries."""

    data: Path  # train, val and test rows, chunks
    sft: Path  # the fine-tuned entry
    feedback: Path  # reviewed feedback
    handwritten_test: Path  # only to keep its questions out of the feedback
    calibration: Path  # eval's: names the validation questions
    embedder: Path
    checkpoints: Path  # holds one folder a run key
    plots: Path  # gets <entry>.json

    @classmethod
    def of_project(cls, entry: str, paths: Paths, here: Path = Path()) -> RlhfInputs:
        """The project's own files below `here`; checkpoints lie at the main root."""
        return cls(
            data=here / TRAIN_SFT.parent,
            sft=here / MODELS / entry,
            feedback=here / ACCEPTED,
            handwritten_test=here / HANDWRITTEN_TEST,
            calibration=here / REPORTS / "eval" / entry / "calibration.json",
            embedder=here / EMBEDDER,
            checkpoints=git_root() / paths.checkpoints,
            plots=here / PLOTS / "train",
        )

    def check(self, settings: Rlhf) -> None:
        """Check that everything is there.

        Args:
            settings: The rlhf section.

        Raises:
            DataError: A file is missing.
            ModelError: The fine-tuned entry is missing, or its base can be no reward model.
            MarkError: TRL is not installed.
        """
        for name, stage in (
            (TRAIN_SFT.name, "data_prep"),
            (VAL_SFT.name, "data_prep"),
            (CHUNKS.name, "ingest"),
        ):
            if not (self.data / name).is_file():
                raise DataError(f"{self.data / name} is missing; run `dvc repro {stage}`")
        for path in (self.calibration, self.development):
            if not path.is_file():
                raise DataError(f"{path} is missing; run `dvc repro eval`")
        base = entry_base(self.sft)
        if settings.reward_model.enabled:
            from mark.rlhf.reward_model import check_architecture

            check_architecture(read_source(base).architecture)
        if find_spec("trl") is None:
            raise MarkError("TRL is not installed: run `pip install 'trl>=1.16,<2'`")

    def train(self) -> list[Example]:
        """The training examples."""
        return read_jsonl(self.data / TRAIN_SFT.name, Example)

    def validation(self) -> list[Example]:
        """What a checkpoint is chosen by: the validation examples that eval fitted its thresholds on (all
        where it used none of them), and the hand-written development questions with what eval retrieved.
        """
        used = set(Calibrations.read(self.calibration).question_ids)
        rows = read_jsonl(self.data / VAL_SFT.name, Example)
        return [*([row for row in rows if row.example_id in used] or rows), *self._development()]

    def _development(self) -> list[Example]:
        asked = [row for row in read_jsonl(self.development, Prediction) if row.cell == TUNED_CELL]
        if not asked:
            raise DataError(
                f"{self.development} holds no answer of {TUNED_CELL}; put it into eval.cells and "
                "run `dvc repro eval`"
            )
        return [
            Example(
                example_id=row.example_id, split="val", question=row.question, contexts=row.contexts,
                answers=row.answers, quote=None, page=None, kind=row.kind, style=row.style,
                rule_id=row.rule_id, document=row.document, section=row.section, source_chunk=None,
            )
            for row in asked
            if row.rule_id == HANDWRITTEN
        ]  # fmt: skip

    @property
    def development(self) -> Path:
        """Eval's answers to the development questions, beside its calibration."""
        return self.calibration.with_name(DEVELOPMENT)

    def passages(self) -> dict[str, Chunk]:
        """Every passage that an example may show, by chunk id."""
        files = [self.data / CHUNKS.name, self.data / PRACTICE_PASSAGES.name]
        return {c.chunk_id: c for path in files if path.is_file() for c in read_jsonl(path, Chunk)}

    def accepted(self) -> list[AcceptedFeedback]:
        """The reviewed feedback."""
        return read_accepted(self.feedback)

    @cached_property
    def sft_record(self) -> dict[str, Any]:
        """entry.json of the fine-tuned entry."""
        record: dict[str, Any] = read_json(self.sft / "entry.json")
        return record

    def sft_sha256(self) -> str:
        """Of the fine-tuned adapter."""
        return sha256_file(self.sft / ADAPTER)

    def data_sha256(self) -> str:
        """One hash of all that is read but models."""
        names = (TRAIN_SFT, VAL_SFT, TEST_SFT, CHUNKS, PRACTICE_PASSAGES)
        files = [self.data / name.name for name in names]
        files += [self.feedback, self.handwritten_test, self.data / HANDWRITTEN_DEV.name]
        files += [self.calibration, self.development]
        return sha256_text("\n".join(sha256_file(path) for path in files if path.is_file()))


def params_sha256(settings: Rlhf, seed: int) -> str:
    """One hash of the rlhf section and the seed."""
    return sha256_text(json.dumps({"rlhf": settings.recorded(), "seed": seed}, sort_keys=True))


def run_key(inputs: RlhfInputs, settings: Rlhf, seed: int) -> str:
    """A hash of parameters, code and inputs: equal keys continue each other's checkpoints."""
    code = [path for pattern in _CODE for path in sorted(_PACKAGE.glob(pattern))]
    parts = [params_sha256(settings, seed), inputs.data_sha256(), inputs.sft_sha256()]
    parts += [f"{path.name} {sha256_file(path)}" for path in code]
    parts += [f"{name} {version(name)}" for name in _LIBRARIES]
    parts.append(sha256_file(entry_base(inputs.sft) / "SOURCE.json"))
    parts.append(str(answering_dtype(inputs.calibration, training_device())))  # answers are drawn in it
    return sha256_text("\n".join(parts))


def held_out_questions(data: Path, handwritten: Path, encode: Encode | None) -> TestQuestions:
    """The questions that no feedback may repeat; their answers are not looked at.

    Args:
        data: Folder of test_sft.jsonl and handwritten_dev.jsonl; either may be missing.
        handwritten: handwritten_test.jsonl, likewise.
        encode: Unit vectors of texts; None = wording only.
    """
    asked: list[str] = []
    if (data / TEST_SFT.name).is_file():
        asked += [row.question for row in read_jsonl(data / TEST_SFT.name, Example)]
    for path in (handwritten, data / HANDWRITTEN_DEV.name):  # a checkpoint is chosen by the latter
        if path.is_file():
            asked += [row.question for row in read_jsonl(path, HandwrittenQuestion)]
    return TestQuestions(asked, encode)
