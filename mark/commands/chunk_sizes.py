"""`mark retrieval --chunk-tokens`: how well passages are found in chunks of other sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mark.commands.plots import check_folder, draw_one
from mark.commands.retrieval import Measured, changed_settings, measure
from mark.commands.tables import aligned
from mark.config import PARAMS, Ingest, load_section, validate
from mark.errors import ConfigError, DataError
from mark.files import EMBEDDER, INGEST_CACHE, write_json
from mark.ingest import ingest
from mark.records import Example
from mark.retrieval import Retriever

_SHOWN = (1, 3, 5, 10)  # k of recall@k, where eval.recall_at has them
Row = dict[str, Any]


@dataclass(frozen=True)
class ChunkSizes:
    """What `mark retrieval --chunk-tokens` was asked for."""

    sizes: str  # numbers with commas
    files: Sequence[Path]  # JSONL of questions
    changes: Sequence[str]  # `key=value` laid over section `retrieval`
    chroma: bool
    out: Path  # gets recall.json and index.html


def run_chunk_sizes(request: ChunkSizes, root: Path) -> str:
    """Cut, embed and search the corpus once a size, beside the stages' files, which stay as they are.

    Args:
        request: What was asked for.
        root: The project's root.

    Returns:
        A table for each file of questions, and where the plot stands.

    Raises:
        ConfigError: A size is no number that `ingest.chunk_tokens` may have.
        DataError: See `mark.commands.retrieval.read_answerable` and `mark.ingest.ingest`.
    """
    if request.chroma:
        raise ConfigError(
            "--chroma and --chunk-tokens contradict each other: Chroma holds one size of chunks"
        )
    check_folder(request.out)
    for file in request.files:
        _refuse_examples(file)
    settings = load_section(Ingest, "ingest", root / PARAMS)
    wanted = [_sized(settings, text) for text in dict.fromkeys(request.sizes.split(","))]
    heads: dict[Path, str] = {}
    found: list[Row] = []
    for one in wanted:
        for file, chunks, measured in _measured(one, request, root):
            heads.setdefault(file, f"{file}: {measured.counts}")
            found += _rows(file, one.chunk_tokens, chunks, measured)
    write_json(request.out / "recall.json", found)
    page = draw_one(_plot(found), request.out, root)
    tables = [line for file, head in heads.items() for line in [head, *_table(file, found), ""]]
    return "\n".join(
        [*tables, f"{page} draws it without the network, recall.json beside it holds the numbers"]
    )


def _refuse_examples(file: Path) -> None:
    """Examples name their chunk by its content, and another cut makes others."""
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n") if file.is_file() else []:
        try:
            Example.model_validate_json(line)
        except ValidationError:
            continue
        raise DataError(
            f"{file} holds examples, which belong to chunks of one size; give hand-written or practice "
            "questions, e.g. data/practice.jsonl"
        )


def _sized(settings: Ingest, text: str) -> Ingest:
    try:
        size = int(text)
    except ValueError:
        raise ConfigError(f"--chunk-tokens {text!r}: give numbers with commas, e.g. 60,100,140") from None
    return validate(Ingest, settings.model_dump() | {"chunk_tokens": size}, "ingest", Path("--chunk-tokens"))


def _measured(settings: Ingest, request: ChunkSizes, root: Path) -> Iterator[tuple[Path, int, Measured]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ingest(settings, root / settings.input, root / EMBEDDER, folder, root / INGEST_CACHE)
        retriever = Retriever.open(folder, root / EMBEDDER, changed_settings(request.changes, root))
        for file in request.files:
            yield file, len(retriever.chunks), measure(file, retriever, None, root)


def _rows(file: Path, size: int, chunks: int, measured: Measured) -> list[Row]:
    metrics = measured.metrics
    return [
        {
            "questions": file.as_posix(),
            "chunk_tokens": size,
            "chunks": chunks,
            "passages": k,
            "recall": metrics[f"recall_at_{k}"],
            "low": metrics[f"recall_at_{k}_low"],
            "high": metrics[f"recall_at_{k}_high"],
        }
        for k in _SHOWN
        if f"recall_at_{k}" in metrics
    ]


def _table(file: Path, rows: Sequence[Row]) -> list[str]:
    own = [row for row in rows if row["questions"] == file.as_posix()]
    passages = sorted({row["passages"] for row in own})
    lines = [["chunk tokens", "chunks", *(f"recall@{k}" for k in passages)]]
    for size in dict.fromkeys(row["chunk_tokens"] for row in own):
        of_size = {row["passages"]: row for row in own if row["chunk_tokens"] == size}
        cells = [
            f"{100 * of_size[k]['recall']:.0f} ({100 * of_size[k]['low']:.0f}-{100 * of_size[k]['high']:.0f})"
            for k in passages
        ]
        lines.append([str(size), str(next(iter(of_size.values()))["chunks"]), *cells])
    return [f"  {line}" for line in aligned(lines)]


def _plot(rows: Sequence[Row]) -> dict[str, Any]:
    size = {"field": "chunk_tokens", "type": "quantitative", "title": "tokens a chunk, at most"}
    colour = {"field": "passages", "type": "nominal", "title": "recall at"}
    band = {
        "y": {"field": "low", "type": "quantitative", "title": "answerable questions, with interval"},
        "y2": {"field": "high"},
        "color": colour,
    }
    line = {"y": {"field": "recall", "type": "quantitative"}, "color": colour}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": "The right passage among the first k, by chunk size",
        "data": {"values": list(rows)},
        "facet": {"field": "questions", "type": "nominal", "title": None},
        "columns": 2,
        "spec": {
            "width": 360,
            "height": 280,
            "encoding": {"x": size},
            "layer": [
                {"mark": {"type": "errorbar", "ticks": True}, "encoding": band},
                {"mark": {"type": "line", "point": True}, "encoding": line},
            ],
        },
    }
