"""The fused ranking, its filters and its checks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mark.config import Ingest, Retrieval
from mark.errors import ConfigError, DataError
from mark.ingest import ingest_pdfs
from mark.models.reranker import CrossEncoder
from mark.records import Chunk
from mark.retrieval import Retriever
from mark.retrieval.dense import ExactSearch
from mark.retrieval.late import TokenIndex
from mark.retrieval.retriever import Parts

TEXTS = ["bread is fresh", "rolls are round", "cake is sweet", "bread and cake"]


class AxisEncoder:
    """Questions as vectors by hand: one axis a chunk, by the word that a question holds."""

    def encode(self, texts: Sequence[str], truncate: bool = False) -> np.ndarray:
        axes = {"fresh": 0, "round": 1, "sweet": 2}
        return np.stack([np.eye(4, dtype=np.float32)[axes.get(text.split()[-1], 3)] for text in texts])

    def encode_tokens(
        self, texts: Sequence[str], truncate: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """One axis a letter: equal words are equal tokens."""
        ids = [np.array([ord(word[0]) - ord("a") for word in text.lower().split()]) for text in texts]
        return [(row, np.eye(26, dtype=np.float32)[row]) for row in ids]


def settings(**changes: object) -> Retrieval:
    values: dict[str, object] = {
        "top_k": 4, "candidates": 3, "fusion": "rank", "rrf_k": 10, "dense_weight": 1.0, "bm25_weight": 1.0,
        "document_weight": 0.0, "late_weight": 0.0, "reranker": None,
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
    parts = Parts(ExactSearch(np.eye(4, dtype=np.float32)), AxisEncoder())
    return Retriever(chunks, parts, settings(**changes))


def test_two_rankings_become_one():
    (hits,) = retriever().search(["bread that is sweet"], k=3)
    # dense: cake (cosine 1), then the equals by chunk id: a = "bread and cake", b = "rolls are round".
    # keywords: cake ("sweet" is in one chunk), then "bread" in two chunks of equal length: a before d.
    # cake 1/11 + 1/11; a 1/12 + 1/12; b 1/13 and d 1/13: b before d by id
    assert [hit.chunk.text for hit in hits] == ["cake is sweet", "bread and cake", "rolls are round"]
    assert [hit.score for hit in hits] == pytest.approx([2 / 11, 2 / 12, 1 / 13])
    assert [hit.dense for hit in hits] == [1.0, 0.0, 0.0]
    assert hits[0].bm25 > hits[1].bm25 > hits[2].bm25 == 0.0


class CountingEncoder(AxisEncoder):
    """Notes what it embeds."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str], truncate: bool = False) -> np.ndarray:
        self.seen += texts
        return super().encode(texts, truncate)


def test_passages_of_other_corpora_are_embedded_once():
    chunks = list(retriever().chunks.values())
    encoder = CountingEncoder()
    own = Retriever(chunks[:2], Parts(ExactSearch(np.eye(4, dtype=np.float32)[:2]), encoder), settings())
    wanted = [chunks[2], chunks[0], chunks[3], chunks[1]]
    expected = np.eye(4, dtype=np.float32)[[2, 0, 3, 1]]
    assert (own.vectors_of(wanted) == expected).all()
    assert (own.vectors_of(wanted[::-1]) == expected[::-1]).all()
    assert [hit.chunk for hit in own.over(wanted[:1]).search(["so sweet"], k=4)[0]] == [chunks[2]]
    assert encoder.seen == [chunks[2].embedded_text, chunks[3].embedded_text, "so sweet"]


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
            "engine": "local", "ray": {"address": None, "workers": 0, "threads": 1}, "store": "chroma", "chroma_path": "chroma_db", "collection": "pdf_docs",
            "chroma": {"url": None, "token_env": None}, "pgvector": {"url": None, "index": "hnsw"},
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


def named_law(document: str, title: str, name: str, text: str) -> Chunk:
    return Chunk(
        chunk_id=name * 16, doc_id=document[0] * 64, document=document, title=title, heading_path=[], section="",
        pages=[1], start=0, end=len(text), text=text,
    )  # fmt: skip


def test_a_named_document_comes_first():
    chunks = [
        named_law("bread-law", "Bread Law (BRL)", "a", "Fines are high"),
        named_law("cake-law", "Cake Law (CKL)", "b", "Fines are low"),
    ]
    parts = Parts(ExactSearch(np.eye(4, dtype=np.float32)[:2]), AxisEncoder())
    words = settings(dense_weight=0.0, fusion="score", candidates=2)
    unaware = Retriever(chunks, parts, words)
    aware = Retriever(chunks, parts, words.model_copy(update={"document_weight": 0.7}))
    question = ["Are high bread fines barred under the CKL?"]
    # three words are in the other document, two in the one that is named
    assert [hit.chunk.document for hit in unaware.search(question, 2)[0]] == ["bread-law", "cake-law"]
    (hits,) = aware.search(question, 2)
    assert [hit.chunk.document for hit in hits] == ["cake-law", "bread-law"]
    # everywhere: 1 and, as the last of two candidates, 0; in the named document its only chunk has 1
    assert [hit.score for hit in hits] == pytest.approx([0.3 * 0 + 0.7 * 1, 0.3 * 1])


def test_the_closer_look_reorders_candidates():
    chunks = [
        named_law("law", "Law", name, text)
        for name, text in [("a", "apples eggs"), ("b", "bread figs"), ("c", "cakes figs")]
    ]
    tokens = TokenIndex.build(chunks, AxisEncoder())
    parts = Parts(ExactSearch(np.eye(4, dtype=np.float32)[:3]), AxisEncoder(), tokens)
    found = Retriever(chunks, parts, settings(bm25_weight=0.0, fusion="score", late_weight=3.0))
    # dense: "fresh" is the first axis: a 1, b 0, c 0. Tokens c, f: a none, b f, c both.
    (hits,) = found.search(["cream fresh"], 3)
    assert [hit.chunk.chunk_id[0] for hit in hits] == ["c", "b", "a"]
    # c: 0 + 3 * 1; b: 0 + 3 * w(f) / (w(c) + w(f)), in 1 and 2 of 3 chunks; a: 1 + 0
    rare, frequent = np.log(1 + 3 / 2), np.log(1 + 3 / 3)
    expected = [3.0, 3 * frequent / (rare + frequent), 1.0]
    assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-5)


def test_a_reranker_has_the_last_word(tmp_path):
    class Shortest:
        def scores(self, question: str, texts: Sequence[str]) -> np.ndarray:
            return np.array([-len(text) for text in texts], dtype=np.float32)

    source = {
        "source": "path", "wheel": None, "repo_id": None, "revision": None, "path": "x",
        "weights_sha256": None, "architecture": None, "licence": "none",
    }  # fmt: skip
    reranker = {"weights": source, "candidates": 2, "batch_size": 4}
    plain = retriever()
    (before,) = plain.search(["bread that is sweet"], 3)
    parts = Parts(ExactSearch(np.eye(4, dtype=np.float32)), AxisEncoder(), reranker=Shortest())
    found = Retriever(list(plain.chunks.values()), parts, settings(reranker=reranker))
    (after,) = found.search(["bread that is sweet"], 3)
    # "cake is sweet" is shorter than "bread and cake": they stay; the third is beyond the two candidates
    assert [hit.chunk.text for hit in after] == ["cake is sweet", "bread and cake", "rolls are round"]
    longest = Parts(parts.dense, parts.encoder, reranker=Longest())
    (after,) = Retriever(list(plain.chunks.values()), longest, settings(reranker=reranker)).search(
        ["bread that is sweet"], 3
    )
    assert [hit.chunk.text for hit in after] == ["bread and cake", "cake is sweet", before[2].chunk.text]


class Longest:
    """A stand-in order for the cross-encoder."""

    def scores(self, question: str, texts: Sequence[str]) -> np.ndarray:
        return np.array([len(text) for text in texts], dtype=np.float32)


def test_opens_with_a_reranker_and_token_vectors(tmp_path, three_pdfs, tiny_bert_dir, random_reranker):
    data, models = tmp_path / "data", tmp_path / "models"
    ingest_pdfs(ingest_settings(), three_pdfs, tiny_bert_dir, data)
    models.mkdir()
    (models / "embedder").symlink_to(tiny_bert_dir)
    (models / "reranker").symlink_to(random_reranker)
    source = {
        "source": "path", "wheel": None, "repo_id": None, "revision": None, "path": str(random_reranker),
        "weights_sha256": None, "architecture": None, "licence": "none",
    }  # fmt: skip
    both = settings(late_weight=1.0, reranker={"weights": source, "candidates": 3, "batch_size": 2})
    question = "How high may the annual fee be?"
    (hits,) = Retriever.open(data, models / "embedder", both).search([question], 3)
    texts = [hit.chunk.embedded_text for hit in hits]
    scores = CrossEncoder(random_reranker).scores(question, texts)
    assert len(hits) == 3 and list(scores) == sorted(scores, reverse=True)
    assert (data / "token_vectors/meta.json").is_file()
