"""What training reads, where its by-products go, and the key of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from mark.config import Paths, Train
from mark.errors import DataError, MarkError
from mark.files import (
    BASE_MODELS,
    CHUNKS,
    PASSAGES,
    PLOTS,
    PRACTICE_PASSAGES,
    TRAIN_SFT,
    VAL_SFT,
    git_root,
    read_jsonl,
    sha256_file,
    sha256_text,
)
from mark.records import Chunk

_PACKAGE = Path(__file__).resolve().parents[1]
_CODE = ("train/*.py", "models/*.py", "prompting.py", "records.py")
_LIBRARIES = ("accelerate", "peft", "torch", "transformers")


@dataclass(frozen=True)
class TrainInputs:
    """Files that training reads and folders for what it leaves beside the entry."""

    train_file: Path  # records.Example rows
    val_file: Path  # the same; may hold no rows
    chunks_file: Path  # records.Chunk rows, resolve the examples' contexts
    practice_file: Path  # the same, for contexts that are no chunks of the corpus; may be missing
    base_folder: Path  # models/base/<name>
    checkpoints: Path  # holds one folder a run key
    logs: Path  # TensorBoard and dvclive
    plots: Path  # gets <entry>.json

    @classmethod
    def of_project(cls, base: str, paths: Paths, here: Path = Path()) -> TrainInputs:
        """The project's own files below `here`.

        Checkpoints and logs lie at the main root, even under `dvc exp run --temp`.
        """
        root = git_root()
        return cls(
            train_file=here / TRAIN_SFT,
            val_file=here / VAL_SFT,
            chunks_file=here / CHUNKS,
            practice_file=here / PRACTICE_PASSAGES,
            base_folder=here / BASE_MODELS / base,
            checkpoints=root / paths.checkpoints,
            logs=root / paths.logs,
            plots=here / PLOTS / "train",
        )

    def on(self, folder: Path) -> TrainInputs:
        """The same training on the examples and passages of another folder."""
        return replace(
            self,
            train_file=folder / TRAIN_SFT.name,
            val_file=folder / VAL_SFT.name,
            chunks_file=folder / PASSAGES,
            practice_file=folder / PRACTICE_PASSAGES.name,
        )

    def check(self) -> None:
        """Check that everything that training needs is there.

        Raises:
            DataError: A data file is missing.
            MarkError: PEFT is not installed.
        """
        for path in (self.train_file, self.val_file):
            if not path.is_file():
                raise DataError(
                    f"Training data not found: {path}; run `dvc repro data_prep` "
                    "(or `mark run --stage data_prep --confirm`)"
                )
        if not self.chunks_file.is_file():
            raise DataError(
                f"Passages not found: {self.chunks_file}; run `mark ingest` or `dvc repro ingest`"
            )
        if find_spec("peft") is None:
            raise MarkError("PEFT is not installed: run `pip install peft`")

    def data_sha256(self) -> str:
        """One hash of the examples and passages."""
        files = (self.train_file, self.val_file, self.chunks_file, self.practice_file)
        return sha256_text("\n".join(sha256_file(path) for path in files if path.is_file()))

    def passages(self) -> dict[str, Chunk]:
        """Every passage that an example may show, by chunk id."""
        files = [path for path in (self.chunks_file, self.practice_file) if path.is_file()]
        return {chunk.chunk_id: chunk for path in files for chunk in read_jsonl(path, Chunk)}


def params_sha256(settings: Train, seed: int) -> str:
    """One hash of the train section and the seed."""
    return sha256_text(json.dumps({"train": settings.model_dump(), "seed": seed}, sort_keys=True))


def run_key(inputs: TrainInputs, settings: Train, seed: int) -> str:
    """A hash of parameters, code and inputs: equal keys continue each other's checkpoints."""
    code = [path for pattern in _CODE for path in sorted(_PACKAGE.glob(pattern))]
    parts = [params_sha256(settings, seed), inputs.data_sha256()]
    parts += [f"{path.name} {sha256_file(path)}" for path in code]
    parts += [f"{name} {version(name)}" for name in _LIBRARIES]
    parts.append(sha256_file(inputs.base_folder / "SOURCE.json"))
    return sha256_text("\n".join(parts))
