"""The project's own model and data, as the bench modules use them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mark.config import Train
    from mark.records import Chunk, Example


class Project:
    """What `dvc repro data_prep` left in the present folder.

    Raises:
        MarkError: Where something is missing, at its first use.
    """

    @cached_property
    def base(self) -> Path:
        """The base model's folder."""
        from mark.config import PARAMS, Model, load_section
        from mark.files import BASE_MODELS

        return BASE_MODELS / load_section(Model, "model", PARAMS).name

    @cached_property
    def train(self) -> Train:
        """The train section."""
        from mark.config import PARAMS, Train, load_section

        return load_section(Train, "train", PARAMS)

    @cached_property
    def examples(self) -> list[Example]:
        """Training examples."""
        from mark.files import TRAIN_SFT, read_jsonl
        from mark.records import Example

        return read_jsonl(TRAIN_SFT, Example)

    @cached_property
    def chunks(self) -> dict[str, Chunk]:
        """Every passage that an example may show, by id."""
        from mark.config import PARAMS, Paths, load_section
        from mark.train import TrainInputs

        return TrainInputs.of_project(self.base.name, load_section(Paths, "paths", PARAMS)).passages()

    @cached_property
    def tokenizer(self) -> Any:
        """The base model's."""
        from mark.models.loading import load_tokenizer

        return load_tokenizer(self.base)
