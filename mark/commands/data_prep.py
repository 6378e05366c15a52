"""`mark data-prep`: the stage, or questions from a collection that the user names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mark.commands.dvc import dvc, refuse_stage_output
from mark.config import Ingest, Retrieval, load_section
from mark.errors import ConfigError
from mark.files import TRAIN_SFT, VAL_SFT


@dataclass(frozen=True)
class PrepRequest:
    """What `mark data-prep` was asked for; all None = the DVC stage."""

    collection: str | None
    out_dir: Path | None
    top_k: int | None
    max_samples: int | None


def run_data_prep(request: PrepRequest, root: Path) -> str:
    """Run the stage, or `SFTDataGenerator` on a collection.

    Raises:
        ConfigError: Flags that only make sense together with --out-dir came without it.
    """
    if request.out_dir is None:
        if (request.collection, request.top_k, request.max_samples) != (None, None, None):
            raise ConfigError(
                "--collection, --top-k and --max-samples need --out-dir DIR; for the DVC stage set "
                "retrieval.top_k and data_prep.max_samples with `mark params`"
            )
        dvc(["repro", "-s", "data_prep"], root)
        return "data_prep: up to date"
    if request.out_dir.exists() and not request.out_dir.is_dir():
        raise ConfigError(f"--out-dir {request.out_dir} is a file; choose a folder")
    targets = [request.out_dir / TRAIN_SFT.name, request.out_dir / VAL_SFT.name]
    refuse_stage_output(targets, root)
    from mark.data_prep.generator import SFTDataGenerator

    settings = load_section(Ingest, "ingest", root / "params.yaml")
    retrieval = load_section(Retrieval, "retrieval", root / "params.yaml")
    generator = SFTDataGenerator(str(root / settings.chroma_path), request.collection or settings.collection)
    asked = {"top_k": request.top_k, "max_samples": request.max_samples}
    given = {name: value for name, value in asked.items() if value is not None}
    train, val = generator.generate_dataset(**{"top_k": retrieval.top_k, **given})
    generator.save_jsonl(train, targets[0])
    generator.save_jsonl(val, targets[1])
    return (
        f"{len(train)} training and {len(val)} validation examples in {request.out_dir}; "
        f"`mark train --data {request.out_dir} --config FILE` trains on them"
    )
