"""The fused ranking, its filters and its checks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mark.config import Ingest, Retrieval
from mark.errors import ConfigError, DataError
from mark.ingest import ingest_pdfs
from mark.records import Chunk
from mark.retrieval import Retriever

TEXTS = ["bread is fresh", "rolls are round", "cake is sweet", "bread and cake"]


class AxisEncoder:
    """Questions as vectors by hand: one axis a chunk, by the word that a question holds."""

    def encode(self, texts: Sequence[str], truncate: bool = False) -> np.ndarray:
        axes = {"fresh": 0, "round": 1, "sweet": 2}
        return np.stack([np.eye(4, dtype=np.float32)[axes.get(text.split()[-1], 3)] for text in texts])


def settings(**changes: object) -> Retrieval:
    values: dict[str, object] = {
        "top_k": 4, "candidates": 3, "fusion": "rank", "rrf_k": 10, "dense_weight": 1.0, "bm25_weight": 1.0
    }  # fmt: skip
    return Retrieval.model_validate(values | changes)


def retriever(**changes: object) -> Retriever:
    chunks = [
        Chunk(
            chunk_id=name * 16, doc_id="d" * 64, document="x", title="Law", heading_path=[], section="",
            pages=[1], start=0, end=len(text), text=text,
        )
        for name, text in zip("dbca", TEXTS, strict=True)
    ]  # fmt: skip
    return Retriever(chunks, np.eye(4, dtype=np.float32), AxisEncoder(), settings(**changes))


def test_two_rankings_become_one():
    (hits,) = retriever().search(["bread that is sweet"], k=3)
    # dense: cake (cosine 1), then the equals by chunk id: a = "bread and cake", b = "rolls are round".
    # keywords: cake ("sweet" is in one chunk), then "bread" in two chunks of equal length: a before d.
    # cake 1/11 + 1/11; a 1/12 + 1/12; b 1/13 and d 1/13: b before d by id
    assert [hit.chunk.text for hit in hits] == ["cake is sweet", "bread and cake", "rolls are round"]
    assert [hit.score for hit in hits] == pytest.approx([2 / 11, 2 / 12, 1 / 13])
    assert [hit.dense for hit in hits] == [1.0, 0.0, 0.0]
    assert hits[0].bm25 > hits[1].bm25 > hits[2].bm25 == 0.0


def test_scores_instead_of_ranks():
    (hits,) = retriever(fusion="score").search(["bread that is sweet"], k=3)
    # dense of the 3 candidates: cake 1, a and b 0. Keywords, 3 candidates: cake 1 (the best), a and d, the
    # two equal last ones, 0. Equal sums follow the ids.
    assert [hit.chunk.text for hit in hits] == ["cake is sweet", "bread and cake", "rolls are round"]
    assert [hit.score for hit in hits] == pytest.approx([2.0, 0.0, 0.0])


def test_one_ranking_alone():
    (dense,) = retriever(bm25_weight=0.0).search(["bread that is round"], k=1)
    (words,) = retriever(dense_weight=0.0).search(["bread that is nice"], k=4)
    assert dense[0].chunk.text == "rolls are round"
    assert [hit.chunk.text for hit in words] == ["bread and cake", "bread is fresh"]  # no shared word: no hit
    with pytest.raises(ConfigError, match="both 0"):
        retriever(dense_weight=0.0, bm25_weight=0.0)


def test_only_allowed_chunks():
    found = retriever()
    (hits,) = found.search(["bread that is sweet"], k=4, allowed=["b" * 16, "d" * 16])
    assert {hit.chunk.chunk_id for hit in hits} == {"b" * 16, "d" * 16}
    assert found.search(["bread"], k=4, allowed=[]) == [[]]
    assert found.search([], k=4) == []
    assert len(found.search(["bread that is sweet"], k=100)[0]) == 4


def test_a_batch_gives_what_single_questions_give():
    found = retriever()
    questions = ["bread that is sweet", "what is round", "fresh cake is fresh", "zebra"]
    assert found.search(questions, k=4) == [found.search([question], k=4)[0] for question in questions]


def ingest_settings() -> Ingest:
    return Ingest.model_validate(
        {
            "source": "pdf", "input": "data/raw", "chunk_tokens": 64, "workers": 2, "timeout_s": 60.0,
            "memory_mb": 2048, "max_file_mb": 50, "max_pages": 100, "min_page_chars": 20,
            "reader": "pdfium", "ocr": "never", "ocr_languages": "eng", "ocr_page_timeout_s": 60.0,
            "ocr_max_chars": 300, "ocr_image_share": 0.6, "embed_batch": 16, "cache_mb": 64,
            "chroma_path": "chroma_db", "collection": "pdf_docs",
        }
    )  # fmt: skip


def test_opens_what_ingest_wrote(tmp_path, three_pdfs, tiny_bert_dir):
    ingest_pdfs(ingest_settings(), three_pdfs, tiny_bert_dir, tmp_path)
    found = Retriever.open(tmp_path, tiny_bert_dir, settings(dense_weight=0.0))
    (hits,) = found.search(["How high may the annual fee of the club be?"], k=1)
    assert (hits[0].chunk.document, hits[0].chunk.section) == ("statute", "Article 4")
    assert found.chunks[hits[0].chunk.chunk_id] == hits[0].chunk


def test_parts_that_do_not_belong_together_are_refused(tmp_path, three_pdfs, tiny_bert_dir):
    import shutil

    ingest_pdfs(ingest_settings(), three_pdfs, tiny_bert_dir, tmp_path)
    other = tmp_path / "other"
    shutil.copytree(tiny_bert_dir, other)
    with (other / "model.safetensors").open("ab") as handle:
        handle.write(b"\0")
    with pytest.raises(DataError, match="come from another embedder"):
        Retriever.open(tmp_path, other, settings())
    lines = (tmp_path / "chunks.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "chunks.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match=r"chunks.jsonl holds \d+ chunks, index.json says"):
        Retriever.open(tmp_path, tiny_bert_dir, settings())
    (tmp_path / "chunks.jsonl").unlink()
    with pytest.raises(DataError, match="is missing; run `dvc repro`"):
        Retriever.open(tmp_path, tiny_bert_dir, settings())


def test_cosines_of_given_chunks():
    # "sweet" is axis 2, the axis of the third chunk, "c": cosine 1; "d" is the first: 0
    found = retriever().cosines(["what is sweet", "nothing"], [["c" * 16, "d" * 16], []])
    assert found == [{"c" * 16: 1.0, "d" * 16: 0.0}, {}]
