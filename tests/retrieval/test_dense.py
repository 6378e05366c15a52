"""Chroma against exact search, on real chunks of three small PDFs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mark.errors import DataError
from mark.ingest import ingest_pdfs
from mark.ingest.index import build_collection
from mark.ingest.vector_store import open_store
from mark.retrieval import Retriever
from mark.retrieval.dense import ChromaVectors, ExactSearch, StoredSearch, cosines_with
from mark.retrieval.serving import open_chroma
from tests.retrieval.test_retriever import ingest_settings, settings

QUESTIONS = [
    "How high may the annual fee of the club be?",
    "Who repairs the roof, and how soon?",
    "How long does the Club Statute let the board serve?",
    "Under the Records Policy, when may an employee inspect records?",
    "What does rent mean?",
    "zebra",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, three_pdfs: Path, tiny_bert_dir: Path) -> Path:
    root = tmp_path_factory.mktemp("served")
    ingest_pdfs(ingest_settings(), three_pdfs, tiny_bert_dir, root / "data")
    build_collection(root / "data", root / "chroma_db", "pdf_docs")
    return root / "data"


@pytest.mark.parametrize("late", [0.0, 1.5])
def test_both_find_the_same(data: Path, tiny_bert_dir: Path, late: float) -> None:
    chosen = settings(fusion="score", candidates=6, document_weight=0.7, late_weight=late)
    exact = Retriever.open(data, tiny_bert_dir, chosen)
    served = Retriever.open(
        data, tiny_bert_dir, chosen, open_chroma(data, data.parent / "chroma_db", "pdf_docs")
    )
    few = sorted(exact.chunks)[:4]
    for allowed in (None, few):
        for one, two in zip(
            exact.search(QUESTIONS, 5, allowed), served.search(QUESTIONS, 5, allowed), strict=True
        ):
            assert [hit.chunk.chunk_id for hit in one] == [hit.chunk.chunk_id for hit in two]
            # cosines of the random embedder lie within 1e-3: scaling magnifies their last digit
            assert [hit.score for hit in one] == pytest.approx([hit.score for hit in two], abs=3e-3)
            assert [hit.dense for hit in one] == pytest.approx([hit.dense for hit in two], abs=1e-5)
    assert exact.cosines(QUESTIONS[:1], [few]) == served.cosines(QUESTIONS[:1], [few])


def test_an_approximate_index_agrees_with_exact_search_on_thousands(tmp_path: Path) -> None:
    """3,000 vectors in loose groups, as chunks of documents are; Chroma looks at far fewer than all."""
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(60, 32))
    vectors = groups[rng.integers(60, size=3000)] + 0.7 * rng.normal(size=(3000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = [f"{i:016x}" for i in range(3000)]
    collection = open_store(str(tmp_path)).create_collection("made", embedding_function=None)
    collection.add(ids=ids, embeddings=vectors)
    questions = vectors[::60] + 0.1 * rng.normal(size=(50, 32)).astype(np.float32)
    questions /= np.linalg.norm(questions, axis=1, keepdims=True)
    nearest = [np.argsort(-row)[:10].tolist() for row in questions @ vectors.T]
    served = StoredSearch(ChromaVectors(collection), ids).scores(questions, 10, [None] * 50)
    found = [np.argsort(-row)[:10].tolist() for row in served]
    assert all(np.isinf(row).any() for row in served)  # it did not look at everything
    assert sum(one == two for one, two in zip(nearest, found, strict=True)) >= 48


def test_a_collection_of_other_chunks_is_refused(data: Path, tiny_bert_dir: Path) -> None:
    chroma = data.parent / "chroma_db"
    with pytest.raises(DataError, match="holds no collection other_docs; run `mark ingest`"):
        Retriever.open(data, tiny_bert_dir, settings(), open_chroma(data, chroma, "other_docs"))
    index = data / "index.json"
    before = index.read_text()
    try:
        index.write_text(before.replace('"key": "', '"key": "0'))
        with pytest.raises(DataError, match="belongs to other chunks than index"):
            Retriever.open(data, tiny_bert_dir, settings(), open_chroma(data, chroma, "pdf_docs"))
    finally:
        index.write_text(before)


def test_barred_chunks_are_never_scored() -> None:
    found = ExactSearch(np.eye(3, dtype=np.float32))
    question = np.array([[0.6, 0.8, 0.0]], dtype=np.float32)
    (row,) = found.scores(question, 3, [np.array([False, True, False])])
    assert row.tolist() == [pytest.approx(0.6), -np.inf, 0.0]
    assert cosines_with(found, question[0], [1, 0]) == pytest.approx([0.8, 0.6])
