"""Examples from a Chroma collection, as the runbook calls them: `SFTDataGenerator`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mark.config import DataPrep, Ingest, Retrieval, project_params
from mark.errors import DataError
from mark.files import (
    COLLECTION_SNAPSHOT,
    EMBEDDER,
    HELD_OUT,
    PAGES,
    PASSAGES,
    git_root,
    read_jsonl,
    write_jsonl,
)
from mark.records import Chunk, Example, Page


@dataclass(frozen=True)
class GeneratorSettings:
    """The sections that the generator reads; `from_params` takes them from params.yaml."""

    data_prep: DataPrep
    retrieval: Retrieval
    ingest: Ingest
    seed: int
    embedder: Path
    held_out: Path  # may be missing

    @classmethod
    def from_params(cls, root: Path) -> GeneratorSettings:
        """Read params.yaml of a project.

        Raises:
            ConfigError: The file or a section is missing or wrong.
        """
        params = project_params(root)
        return cls(
            params.data_prep, params.retrieval, params.ingest, params.seed, root / EMBEDDER, root / HELD_OUT
        )


def _without_test(prep: DataPrep, top_k: int, max_samples: int, val_split: float) -> DataPrep:
    """The settings for a training and a validation split alone, with questions made here only."""
    return prep.model_copy(
        update={
            "max_samples": max_samples,
            "max_val": round(max_samples * val_split),
            "max_test": 0,
            "val_share": val_split,
            "test_share": 0.0,
            "held_out_documents": [],
            "practice_share": 0.0,
            "val_unanswerable_share": prep.unanswerable_share,
            "train_passages": top_k,
            "round_trip_k": max(prep.round_trip_k, top_k),
        }
    )


class SFTDataGenerator:
    """Makes training and validation examples from a Chroma collection, ours or the user's.

    The collection is read once from a copy and never changed; its texts are chunked and embedded
    as ingest does it.
    """

    def __init__(
        self,
        chroma_path: str = "chroma_db",
        collection: str = "pdf_docs",
        settings: GeneratorSettings | None = None,
    ) -> None:
        """Remember what to read.

        Args:
            chroma_path: A Chroma folder or the URL of a Chroma server.
            collection: The collection's name.
            settings: None = params.yaml of the project around the current folder.
        """
        self._chroma_path = chroma_path
        self._collection = collection
        self._settings = settings
        self._chunks: dict[str, Chunk] = {}

    def generate_dataset(
        self, top_k: int = 4, max_samples: int = 1000, val_split: float = 0.1
    ) -> tuple[list[Example], list[Example]]:
        """Make the examples.

        Args:
            top_k: Passages in a prompt.
            max_samples: Most training examples.
            val_split: Share of the sections (documents, where there are many) for validation, in
                [0, 1); also of `max_samples`.

        Returns:
            Training and validation rows. Sections that hand-written test questions cite appear in
            neither.

        Raises:
            DataError: No such collection, or no question could be made.
        """
        if top_k < 1 or max_samples < 1 or not 0 <= val_split < 1:
            raise DataError(
                f"top_k {top_k}, max_samples {max_samples}, val_split {val_split} found; "
                "give top_k >= 1, max_samples >= 1 and 0 <= val_split < 1"
            )
        from mark.data_prep.build import Material, build_dataset
        from mark.data_prep.engine import engine_of
        from mark.data_prep.llm.writer import writer_for
        from mark.data_prep.rewriting import rewriter_of
        from mark.data_prep.split import HeldOut
        from mark.ingest import ingest_collection
        from mark.ingest.snapshot import snapshot_collection
        from mark.retrieval import Retriever

        settings = self._settings or GeneratorSettings.from_params(git_root())
        prep = _without_test(settings.data_prep, top_k, max_samples, val_split)
        with tempfile.TemporaryDirectory(prefix="mark-data-prep-") as temporary:
            data = Path(temporary)
            snapshot = data / COLLECTION_SNAPSHOT.name
            snapshot_collection(self._chroma_path, self._collection, snapshot)
            ingest_collection(settings.ingest, snapshot, settings.embedder, data)
            with engine_of(prep) as engine:
                make_tokens = engine.token_vectors(settings.embedder)
                retriever = Retriever.open(
                    data, settings.embedder, settings.retrieval, make_tokens=make_tokens
                )
                material = Material(
                    read_jsonl(data / PAGES.name, Page),
                    retriever,
                    HeldOut.read(settings.held_out),
                    writer=writer_for(prep, git_root(), settings.seed),
                    rewrite=rewriter_of(prep, git_root()),
                    engine=engine,
                )
                dataset = build_dataset(material, prep, top_k, settings.seed)
        self._chunks |= retriever.chunks
        return dataset.rows["train"], dataset.rows["val"]

    def save_jsonl(self, rows: Sequence[Example], path: str | Path) -> int:
        """Write examples, one JSON object a line, and beside them passages.jsonl with what they show.

        Args:
            rows: Of `generate_dataset`; rows of several calls may share a folder.
            path: The file of the examples.

        Returns:
            How many examples were written.
        """
        beside = Path(path).parent / PASSAGES
        known = {chunk.chunk_id: chunk for chunk in read_jsonl(beside, Chunk)} if beside.is_file() else {}
        shown = {chunk_id for row in rows for chunk_id in row.contexts} & self._chunks.keys()
        known |= {chunk_id: self._chunks[chunk_id] for chunk_id in shown}
        write_jsonl(beside, [known[chunk_id] for chunk_id in sorted(known)])
        return write_jsonl(Path(path), rows)
