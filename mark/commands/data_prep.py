"""`mark data-prep`: the stage, or questions from a collection that the user names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mark.commands.dvc import dvc, refuse_stage_output
from mark.config import DataPrep, Ingest, Retrieval, load_section, load_seed
from mark.errors import ConfigError
from mark.files import CHUNKS, HELD_OUT, TRAIN_SFT, VAL_SFT, read_jsonl
from mark.records import Chunk

if TYPE_CHECKING:
    from mark.data_prep.llm.writer import QuestionWriter


@dataclass(frozen=True)
class PrepRequest:
    """What `mark data-prep` was asked for; all None = the DVC stage."""

    collection: str | None
    out_dir: Path | None
    top_k: int | None
    max_samples: int | None
    estimate: bool = False  # say what the language model would cost, and stop
    confirm: bool = False  # agree to that


def run_data_prep(request: PrepRequest, root: Path) -> str:
    """Run the stage, or `SFTDataGenerator` on a collection.

    Raises:
        ConfigError: Flags that only make sense together, or with data_prep.llm.enabled, came alone.
    """
    if request.estimate or request.confirm:
        _check_llm_flags(request, root)
    if request.out_dir is None:
        if (request.collection, request.top_k, request.max_samples) != (None, None, None):
            raise ConfigError(
                "--collection, --top-k and --max-samples need --out-dir DIR; for the DVC stage set "
                "retrieval.top_k and data_prep.max_samples with `mark params`"
            )
        if request.estimate:
            return _estimate(root)
        if request.confirm:
            _fetch(root)
        dvc(["repro", "-s", "data_prep"], root)
        return "data_prep: up to date"
    if request.out_dir.exists() and not request.out_dir.is_dir():
        raise ConfigError(f"--out-dir {request.out_dir} is a file; choose a folder")
    targets = [request.out_dir / TRAIN_SFT.name, request.out_dir / VAL_SFT.name]
    refuse_stage_output(targets, root)
    from mark.data_prep.generator import GeneratorSettings, SFTDataGenerator

    settings = load_section(Ingest, "ingest", root / "params.yaml")
    retrieval = load_section(Retrieval, "retrieval", root / "params.yaml")
    wired = GeneratorSettings.from_params(root)
    if request.confirm:
        wired = replace(wired, data_prep=wired.data_prep.with_llm(confirmed=True))
    generator = SFTDataGenerator(
        str(root / settings.chroma_path), request.collection or settings.collection, wired
    )
    asked = {"top_k": request.top_k, "max_samples": request.max_samples}
    given = {name: value for name, value in asked.items() if value is not None}
    train, val = generator.generate_dataset(**{"top_k": retrieval.top_k, **given})
    generator.save_jsonl(train, targets[0])
    generator.save_jsonl(val, targets[1])
    return (
        f"{len(train)} training and {len(val)} validation examples in {request.out_dir}; "
        f"`mark train --data {request.out_dir} --config FILE` trains on them"
    )


def _check_llm_flags(request: PrepRequest, root: Path) -> None:
    if request.estimate and request.confirm:
        raise ConfigError("--estimate and --confirm contradict each other; give one of them")
    if not load_section(DataPrep, "data_prep", root / "params.yaml").llm.enabled:
        raise ConfigError(
            "--estimate and --confirm are for questions by a language model; data_prep.llm.enabled is false: "
            "switch it on with `mark params data_prep.llm.enabled=true ...` (docs/llm.md)"
        )
    if request.estimate and request.out_dir is not None:
        raise ConfigError("--estimate is for the DVC stage; with --out-dir leave --confirm out to see it")


def _estimate(root: Path) -> str:
    """What the stage would send now."""
    from mark.data_prep.llm.endpoint import host_of

    writer, passages = _writer(root, confirmed=False)
    llm = load_section(DataPrep, "data_prep", root / "params.yaml").llm
    return f"{host_of(llm)}, model {llm.model}: {writer.estimate(passages)}. Nothing was sent."


def _fetch(root: Path) -> None:
    """Fill the cache, so that the stage, which runs next, sends nothing."""
    writer, passages = _writer(root, confirmed=True)
    writer.write(passages)


def _writer(root: Path, confirmed: bool) -> tuple[QuestionWriter, list[Chunk]]:
    """The stage's writer and the passages that it would be given."""
    from mark.data_prep.build import lay_out, training_passages
    from mark.data_prep.llm.writer import writer_for
    from mark.data_prep.split import HeldOut

    params = root / "params.yaml"
    settings, seed = load_section(DataPrep, "data_prep", params), load_seed(params)
    held_out = HeldOut.read(root / HELD_OUT)
    corpus, _ = lay_out([], read_jsonl(root / CHUNKS, Chunk), settings, held_out, seed)
    writer = writer_for(settings, root, seed, confirmed)
    assert writer is not None
    return writer, training_passages(corpus)
