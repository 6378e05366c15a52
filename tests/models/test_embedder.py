"""Embeddings: unit length, independent of batching, equal to sentence-transformers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mark.errors import ModelError
from mark.models.loading import Embedder

TEXTS = [
    "The controller shall erase personal data without undue delay.",
    "Fees",
    "The general meeting shall be called by the chair at least once a year, or when members ask for it.",
    "",
    "Ça coûte 60 €",
]


def test_shape_and_order(tiny_bert_dir: Path) -> None:
    embedder = Embedder(tiny_bert_dir, batch=2)
    vectors = embedder.encode(TEXTS)
    assert vectors.shape == (5, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(embedder.encode(TEXTS[::-1])[::-1], vectors, atol=1e-5)
    one_by_one = np.concatenate([Embedder(tiny_bert_dir, batch=64).encode([text]) for text in TEXTS])
    np.testing.assert_allclose(one_by_one, vectors, atol=1e-5)
    assert embedder.encode([]).shape == (0, 32)
    # bytes and two special tokens: "Fees" = 4 + 2, "" = 2
    assert embedder.count_tokens(["Fees", ""]) == [6, 2]


def test_length_limit(tiny_bert_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "e"
    shutil.copytree(tiny_bert_dir, folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 10}')
    embedder = Embedder(folder)
    assert embedder.max_tokens == 10
    embedder.encode(["12345678"])  # 8 + 2
    with pytest.raises(
        ModelError, match=r"a text of 11 tokens exceeds the embedder's 10 .*lower ingest.chunk_tokens"
    ):
        embedder.encode(["a", "123456789"])
    cut = embedder.encode(["a", "123456789"], truncate=True)
    np.testing.assert_allclose(cut, embedder.encode(["a", "12345678"]), atol=1e-6)
    (folder / "sentence_bert_config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"sentence_bert_config\.json is damaged"):
        Embedder(folder)


def test_damaged(tiny_bert_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is missing; run `dvc repro base_model`"):
        Embedder(tmp_path / "none")
    folder = tmp_path / "e"
    shutil.copytree(tiny_bert_dir, folder)
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Embedder(folder)


def test_minilm_equals_sentence_transformers(minilm_dir: Path) -> None:
    from sentence_transformers import SentenceTransformer, models

    reader = models.Transformer(str(minilm_dir), max_seq_length=256)
    pooling = models.Pooling(reader.get_embedding_dimension(), pooling_mode="mean")
    reference = SentenceTransformer(modules=[reader, pooling, models.Normalize()], device="cpu")
    embedder = Embedder(minilm_dir)
    assert (embedder.max_tokens, embedder.dimension) == (256, 384)
    texts = [*TEXTS, "law " * 200]
    np.testing.assert_allclose(embedder.encode(texts), reference.encode(texts), atol=1e-5)
    with pytest.raises(ModelError, match="exceeds the embedder's 256"):
        embedder.encode(["law " * 300])
    cut = embedder.encode(["law " * 300], truncate=True)
    np.testing.assert_allclose(cut, reference.encode(["law " * 300]), atol=1e-5)
