"""Weights with code in them: a pickle in a model folder, an entry, an embedder, a checkpoint, an array, Chroma."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mark.errors import DataError, MarkError
from mark.ingest.index import build_collection, read_embeddings, read_index
from mark.models.embedder import Embedder
from mark.models.loading import load_base, load_entry
from mark.models.reranker import CrossEncoder
from mark.models.source_file import verify_model
from mark.models.sources import fetch_model
from mark.retrieval.serving import open_chroma
from mark.train import train
from mark.train.checkpoints import is_complete, mark_complete
from tests.conftest import ROOT
from tests.ingest.test_collection import TEXTS, data_folder
from tests.models.test_loading import project
from tests.models.test_sources import source
from tests.train.small import make_inputs, settings

__all__ = ["project"]

PICKLES = ("pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "model.ckpt", "adapter_model.bin")
Plant = Callable[[Path], None]


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        """The file."""
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        """What a loader that trusts the file calls."""
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Where the code in the pickles would leave its mark."""
    return tmp_path / "the-pickle-was-run"


@pytest.fixture
def plant(marker: Path) -> Plant:
    """Writes the pickle, in PyTorch's form and in the plain one by turns; first shows that it works."""
    for load, path in ((torch_load, marker.parent / "a.pt"), (plain_load, marker.parent / "b.pkl")):
        write(path, marker)
        load(path)
        assert marker.exists()
        marker.unlink()
        path.unlink()

    def planted(path: Path) -> None:
        write(path, marker)

    return planted


def write(path: Path, marker: Path) -> None:
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(Touch(marker)))
    else:
        torch.save(Touch(marker), path)


def torch_load(path: Path) -> None:
    torch.load(path, weights_only=False)


def plain_load(path: Path) -> None:
    pickle.loads(path.read_bytes())  # noqa: S301  (that is the point)


def refusal(call: Callable[[], object]) -> str:
    """The one line that a user sees."""
    with pytest.raises(MarkError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def without_weights(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    for path in target.glob("*.safetensors"):
        path.unlink()
    return target


@pytest.mark.parametrize("name", PICKLES)
def test_a_folder_that_holds_only_a_pickle_is_refused(
    name: str, tiny_llama_dir: Path, tiny_bert_dir: Path, tmp_path: Path, plant: Plant, marker: Path
) -> None:
    base = without_weights(tiny_llama_dir, tmp_path / "base")
    encoder = without_weights(tiny_bert_dir, tmp_path / "encoder")
    for folder in (base, encoder):
        plant(folder / name)
    fetched = refusal(lambda: fetch_model(source("path", path=str(base)), tmp_path / "made", 0))
    assert fetched == f"{base} holds only pickle weights, never loaded; convert them to safetensors"
    assert not (tmp_path / "made").exists()
    for folder, load in ((base, load_base), (encoder, Embedder), (encoder, CrossEncoder)):
        said = refusal(lambda folder=folder, load=load: load(folder))  # type: ignore[misc]
        assert said.startswith(f"{folder} cannot be loaded ("), said
        assert said.endswith("run `dvc repro -f base_model`")
    assert not marker.exists()


def test_a_pickle_beside_the_weights_is_neither_copied_nor_loaded(
    tiny_llama_dir: Path, tiny_bert_dir: Path, tmp_path: Path, plant: Plant, marker: Path
) -> None:
    for model, load in ((tiny_llama_dir, load_base), (tiny_bert_dir, Embedder)):
        folder = tmp_path / model.name
        shutil.copytree(model, folder)
        for name in PICKLES:
            plant(folder / name)
        load(folder)
        said = refusal(lambda folder=folder: verify_model(folder))  # type: ignore[misc]
        assert said == f"{folder}: adapter_model.bin is not named in SOURCE.json; remove it"
        fetch_model(source("path", path=str(folder)), tmp_path / "made", 0)
        assert {p.name for p in (tmp_path / "made").iterdir()} == {p.name for p in model.iterdir()}
    assert not marker.exists()


def test_an_entry_is_refused_or_loaded_without_its_pickles(project: Path, plant: Plant, marker: Path) -> None:
    entry = project / "models/random_lora"
    for name in (*PICKLES, "training_args.bin", "optimizer.pt"):
        plant(entry / name)
    load_entry(entry)
    (entry / "adapter_model.safetensors").unlink()
    said = refusal(lambda: load_entry(entry))
    assert said == f"{entry} holds no adapter_model.safetensors; run `dvc repro train` (or `dvc pull`)"
    for path in (project / "models/base/random").glob("*.safetensors"):
        path.rename(entry / "adapter_model.safetensors")
    plant(project / "models/base/random/pytorch_model.bin")
    assert "cannot be loaded" in refusal(lambda: load_entry(entry))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_a_checkpoint_with_code_in_it_runs_none(
    name: str, tiny_llama_dir: Path, tmp_path: Path, plant: Plant, marker: Path
) -> None:
    """Its hashes are right, as only somebody who may write this folder can make them."""
    make_inputs(tmp_path, tiny_llama_dir)
    run = interrupted(tmp_path)
    for checkpoint in run.glob("checkpoint-*"):
        plant(checkpoint / name)
        mark_complete(checkpoint)
        assert is_complete(checkpoint)
    if name == "training_args.bin":  # written for people, never read
        trained(tmp_path)
    else:
        said = refusal(lambda: trained(tmp_path))
        wanted = f"a checkpoint in {run} holds code, which is never loaded; find out who put it there, remove"
        assert said == f"{wanted} that folder and run it again"
    assert not marker.exists()


def interrupted(folder: Path, at: int = 5) -> Path:
    """A run that ended in the step after `at`, of which each second one has a checkpoint; their folder."""
    from mark.train.trainer import AnswerTrainer

    step, done = AnswerTrainer.training_step, []

    def failing(self: Any, *arguments: Any, **named: Any) -> Any:
        done.append(1)
        if self.state.global_step == at:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    AnswerTrainer.training_step = failing  # type: ignore[method-assign]
    try:
        trained(folder)
    except KeyboardInterrupt:
        pass
    finally:
        AnswerTrainer.training_step = step  # type: ignore[method-assign]
    (run,) = (path for path in (folder / ".ckpt").iterdir() if path.is_dir())
    return run


def trained(folder: Path) -> None:
    from mark.train import TrainInputs

    paths = [folder / "data" / f"{name}.jsonl" for name in ("train", "val", "chunks", "none")]
    inputs = TrainInputs(
        *paths, folder / "models/base/tiny", folder / ".ckpt", folder / "logs", folder / "plots"
    )
    train(inputs, settings(epochs=2, evals_per_epoch=4), 7, folder / "models/tiny_lora", confirmed=True)


def test_an_array_of_objects_is_damage(tmp_path: Path, marker: Path) -> None:
    data = data_folder(tmp_path, TEXTS)
    np.save(data / "embeddings.npy", np.array([Touch(marker)], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"embeddings\.npy is damaged .*; run `dvc repro ingest`"):
        read_embeddings(data, read_index(data))
    assert not marker.exists()


def test_chroma_unpickles_nothing(tmp_path: Path, marker: Path) -> None:
    """Older versions of Chroma kept an index's metadata as a pickle."""
    data, folder = data_folder(tmp_path / "data", TEXTS), tmp_path / "chroma_db"
    build_collection(data, folder, "pdf_docs")
    for segment in [path for path in folder.iterdir() if path.is_dir()]:
        (segment / "index_metadata.pickle").write_bytes(pickle.dumps(Touch(marker)))
    said = refusal(lambda: open_chroma(data, folder, "pdf_docs"))
    assert said.startswith(f"Chroma cannot read collection pdf_docs in {folder} (")
    build_collection(data, folder, "pdf_docs")
    open_chroma(data, folder, "pdf_docs")
    assert not marker.exists()


def test_no_loader_of_ours_trusts_a_pickle() -> None:
    for path in [*(ROOT / "mark").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for word in ("import pickle", "joblib", "torch.load(", "allow_pickle=True", "trust_remote_code=True"):
            assert word not in text, f"{path}: {word}"
