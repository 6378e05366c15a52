"""The cross-encoder: order of texts, batches, and folders that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mark.config import WeightSource
from mark.errors import ModelError
from mark.models.reranker import CrossEncoder
from mark.models.sources import store_reranker
from tests.retrieval.conftest import random_reranker  # noqa: F401  (a fixture)

TEXTS = ["The fee is 60 euros.", "The chair calls the meeting.", "", "The fee " * 200]


def source(folder: Path) -> WeightSource:
    return WeightSource.model_validate(
        {"source": "path", "wheel": None, "repo_id": None, "revision": None, "path": str(folder),
         "weights_sha256": None, "architecture": None, "licence": "none"}
    )  # fmt: skip


def test_scores_do_not_depend_on_the_batch(random_reranker: Path) -> None:  # noqa: F811
    one = CrossEncoder(random_reranker, batch=1).scores("How high is the fee?", TEXTS)
    all_ = CrossEncoder(random_reranker, batch=8).scores("How high is the fee?", TEXTS)
    assert one.shape == (4,) and len(set(np.round(one, 5).tolist())) == 4
    np.testing.assert_allclose(one, all_, atol=1e-5)
    other = CrossEncoder(random_reranker).scores("Who calls the meeting?", TEXTS)
    assert np.abs(other - one).max() > 1e-4  # the question is read


def test_it_is_stored_or_noted_as_none(random_reranker: Path, tmp_path: Path) -> None:  # noqa: F811
    store_reranker(source(random_reranker), tmp_path / "reranker", seed=0)
    assert (tmp_path / "reranker/SOURCE.json").is_file()
    CrossEncoder(tmp_path / "reranker")
    store_reranker(None, tmp_path / "reranker", seed=0)
    assert [path.name for path in (tmp_path / "reranker").iterdir()] == ["NONE"]
    with pytest.raises(ModelError, match="is missing; run `dvc repro base_model`"):
        CrossEncoder(tmp_path / "reranker")


def test_an_embedder_is_no_reranker(tiny_bert_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no cross-encoder with one output"):
        store_reranker(source(tiny_bert_dir), tmp_path / "reranker", seed=0)
