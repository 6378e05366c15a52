"""Questions with answers from passages: rules, filters, splits, leak check, ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mark.config import DataPrep, Retrieval

if TYPE_CHECKING:
    from mark.data_prep.ledger import Ledger

__all__ = ["prepare"]


def prepare(
    data: Path, embedder: Path, settings: DataPrep, retrieval: Retrieval, seed: int, out: Path
) -> Ledger:
    """Make train_sft.jsonl, val_sft.jsonl, test_sft.jsonl, practice_passages.jsonl and ledger.json.

    Args:
        data: Folder of ingest's outputs, of practice.jsonl and, where it exists, held_out_sections.json.
        embedder: The embedding model that ingest used.
        settings: The section `data_prep`.
        retrieval: The section `retrieval`: the contexts are what this retriever returns.
        seed: The run's seed.
        out: Where the five files go.

    Returns:
        The ledger as written.

    Raises:
        MarkError: See `mark.data_prep.build.build_dataset`.
    """
    from mark.data_prep.build import Material, build_dataset
    from mark.data_prep.engine import engine_of
    from mark.data_prep.llm.writer import writer_for
    from mark.data_prep.practice import read_practice
    from mark.data_prep.rewriting import rewriter_of
    from mark.data_prep.split import HeldOut
    from mark.files import (
        HELD_OUT,
        LEDGER,
        PAGES,
        PRACTICE,
        PRACTICE_PASSAGES,
        TEST_SFT,
        TRAIN_SFT,
        VAL_SFT,
        git_root,
        read_jsonl,
        write_json,
        write_jsonl,
    )
    from mark.records import Page
    from mark.retrieval import Retriever

    with engine_of(settings) as engine:
        retriever = Retriever.open(data, embedder, retrieval, make_tokens=engine.token_vectors(embedder))
        material = Material(
            pages=read_jsonl(data / PAGES.name, Page),
            retriever=retriever,
            held_out=HeldOut.read(data / HELD_OUT.name),
            practice=read_practice(data / PRACTICE.name, settings.practice_share),
            writer=writer_for(settings, git_root(), seed),
            rewrite=rewriter_of(settings, embedder.parent.parent),  # of this experiment, not of `DVC_ROOT`
            engine=engine,
        )
        dataset = build_dataset(material, settings, retrieval.top_k, seed)
    write_jsonl(out / TRAIN_SFT.name, dataset.rows["train"])
    write_jsonl(out / VAL_SFT.name, dataset.rows["val"])
    write_jsonl(out / TEST_SFT.name, dataset.rows["test"])
    write_jsonl(out / PRACTICE_PASSAGES.name, dataset.passages)
    write_json(out / LEDGER.name, dataset.ledger.model_dump(mode="json"))
    return dataset.ledger
