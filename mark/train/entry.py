"""An entry: the trained adapter with everything that is needed to load and judge it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from mark.files import ADAPTER, BASE_MODELS, whole_folder, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ADAPTER_CONFIG = "adapter_config.json"


class Entry(BaseModel):
    """What entry.json holds: nothing of the machine, the day or the place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    name: str  # the folder's name
    base: str  # models/base/<base>
    base_sha256: str  # of the base's weights, from its SOURCE.json
    architecture: str  # config.model_type of the base
    random: bool  # the base is random: refused by promotion
    data_sha256: str  # of training rows, validation rows and passages
    params_sha256: str  # of params and seed
    params: dict[str, Any]  # the train section
    seed: int
    examples: int  # training rows
    steps: int  # optimiser steps
    best_step: int  # of the checkpoint that became the entry
    train_loss: float  # mean over all steps, nats an answer token
    val_loss: float | None  # of the best step; None without validation rows
    trainable_parameters: int
    max_seq_length: int  # tokens
    precision: Literal["fp32", "bf16"]  # of the matrix products in training


@dataclass(frozen=True)
class TrainResult:
    """What a run of training gave; all but the entry is of this session and never part of an output."""

    entry: Entry
    tokens_per_s: float  # real tokens a second of optimiser steps
    peak_memory_mb: int  # resident; on a GPU allocated there
    seconds: float  # validation and loading included


def write_entry(
    out: Path,
    checkpoint: Path,
    tokenizer: PreTrainedTokenizerBase,
    entry: Entry,
    curves: list[dict[str, int | float | str]],
) -> None:
    """Write the entry's folder, whole or not at all; equal runs give equal bytes.

    Args:
        out: `models/<name>`; replaced.
        checkpoint: The best one, complete.
        tokenizer: The base's.
        entry: Its record.
        curves: Rows of the loss plot.
    """
    with whole_folder(out) as work:
        shutil.copyfile(checkpoint / ADAPTER, work / ADAPTER)
        write_json(work / ADAPTER_CONFIG, _portable_config(checkpoint / ADAPTER_CONFIG, entry.base))
        tokenizer.save_pretrained(work)
        write_json(work / "entry.json", entry.model_dump())
        write_json(work / "curves.json", curves)


def _portable_config(path: Path, base: str) -> dict[str, Any]:
    """peft keeps module names in sets, whose order changes from run to run, and the base's path."""
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key in ("target_modules", "modules_to_save", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    config["inference_mode"] = True
    config["base_model_name_or_path"] = (BASE_MODELS / base).as_posix()
    return config
