"""What a corpus costs: `python -m bench.scale [--pages N] [--pdfs N] [--pages-per-pdf N] [--cores N]`.

Each step of ingest, and the rules that make questions, are run on whole PDFs of data/raw, smallest first,
until they have `--pages` pages, and its processor seconds (of this process and of those that it starts) and
bytes are told by the page. They are multiplied up to `--pdfs` files of `--pages-per-pdf` pages. What does not
grow in proportion is measured at two sizes: the graph of a Chroma folder, whose rows cost more the more there
are. Seconds differ from machine to machine; run it where it is to run.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import pypdfium2

from mark.config import PARAMS, DataPrep, Ingest, Retrieval, load_section
from mark.data_prep.candidates import cheap_fault, make_candidates
from mark.data_prep.phrases import Casing
from mark.data_prep.rules import chosen_rules
from mark.data_prep.spool import Spool
from mark.errors import DataError, MarkError
from mark.files import CHUNKS, EMBEDDER, EMBEDDINGS, PAGES, RAW, TOKEN_VECTORS, read_jsonl
from mark.ingest.chunk import Source, chunk
from mark.ingest.clean import CleanDocument, clean
from mark.ingest.embed import embed_document, embedded_texts
from mark.ingest.index import build_collection, embedder_sha256
from mark.ingest.layout import RawDocument
from mark.ingest.outputs import Outputs
from mark.ingest.pdf import read_pdfs
from mark.ingest.report import make_report
from mark.models.embedder import Embedder
from mark.records import Chunk, Page
from mark.retrieval import Retriever
from mark.retrieval.dense import ExactSearch

Found = TypeVar("Found")
SHARED = frozenset(  # done by as many workers as there are
    {"reading", "cleaning and cutting", "embedding", "making questions", "token vectors"}
)
GRAPH = (2_000, 8_000)  # rows of the two graphs; random vectors, which are harder than texts'
DIMENSION = 384
SEED = 7
HASHED_MB = 256
SEARCHED = 100_000  # vectors of the exact search


@dataclass(frozen=True)
class Sizes:
    """Of the corpus that is asked about."""

    pdfs: int
    pages_per_pdf: int
    cores: int

    @property
    def pages(self) -> int:
        """All of them."""
        return self.pdfs * self.pages_per_pdf


@dataclass(frozen=True)
class Measured:
    """What the sample took.

    Attributes:
        pages: Of the sample that hold text.
        chunks: Of them.
        seconds: Step -> processor seconds a page.
        file_bytes: What is kept -> bytes a page.
        graph: Rows of a Chroma folder -> processor seconds a row at that size.
        start: Processor seconds a page until a server that starts has read chunks and made its keyword index.
        memory: Bytes a page that it then holds, vectors included.
        search_s: Seconds of one exact search in a million vectors.
        hash_s: Seconds in which DVC hashes a gigabyte.
    """

    pages: int
    chunks: int
    seconds: dict[str, float]
    file_bytes: dict[str, float]
    graph: dict[int, float]
    start: float
    memory: float
    search_s: float
    hash_s: float

    @property
    def chunks_per_page(self) -> float:
        """Of the sample."""
        return self.chunks / self.pages

    def graph_s(self, rows: float) -> float:
        """Seconds in which a graph of so many rows is built: a row costs more by each doubling."""
        (few, cheap), (many, dear) = sorted(self.graph.items())
        slope = (dear - cheap) / math.log2(many / few)
        # the mean over rows of cheap + slope * log2(row / few)
        return rows * max(cheap, cheap + slope * (math.log2(rows / few) - 1 / math.log(2)))


class Clock:
    """Processor seconds of steps, those of the same name added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, step: str, work: Callable[[], Found]) -> Found:
        """Do a part of a step."""
        started = _processor_s()
        found = work()
        self.seconds[step] = self.seconds.get(step, 0.0) + _processor_s() - started
        return found


def measure(files: Sequence[Path], raw: Path, embedder: Path, scratch: Path) -> Measured:
    """Run every step on some PDFs.

    Args:
        files: The sample.
        raw: Their folder.
        embedder: Folder of the embedding model.
        scratch: An empty folder.

    Raises:
        DataError: None of them holds text.
    """
    clock, data = Clock(), scratch / "data"
    pages, chunks = _ingest(clock, files, raw, embedder, data)
    clock.time("making questions", lambda: _ask(read_jsonl(data / CHUNKS.name, Chunk)))
    build_collection(data, scratch / "chroma_db", "pdf_docs")
    retrieval = load_section(Retrieval, "retrieval", PARAMS)
    plain = retrieval.model_copy(update={"late_weight": 0.0})
    before, held = _processor_s(), _resident()
    kept = Retriever.open(data, embedder, plain)
    start, memory = _processor_s() - before, _resident() - held
    assert len(kept.chunks) == chunks
    if retrieval.late_weight > 0:
        both = Clock()
        both.time("open", lambda: Retriever.open(data, embedder, retrieval))
        clock.seconds["token vectors"] = max(0.0, both.seconds["open"] - start)
    sizes = {
        "PDFs": sum(path.stat().st_size for path in files),
        **{path.name: (data / path.name).stat().st_size for path in (PAGES, CHUNKS, EMBEDDINGS)},
        "chroma_db": _folder_bytes(scratch / "chroma_db"),
        "token vectors": _folder_bytes(data / TOKEN_VECTORS.name),
    }
    return Measured(
        pages=pages,
        chunks=chunks,
        seconds={step: taken / pages for step, taken in clock.seconds.items()},
        file_bytes={name: size / pages for name, size in sizes.items() if size},
        graph={rows: _graph_s(rows, scratch / f"graph{rows}") / rows for rows in GRAPH},
        start=start / pages,
        memory=max(0.0, memory) / pages,
        search_s=_search_s(),
        hash_s=_hash_s(scratch / "hashed"),
    )


def _ingest(clock: Clock, files: Sequence[Path], raw: Path, embedder: Path, data: Path) -> tuple[int, int]:
    """The steps of ingest one by one; pages with text, and chunks."""
    settings = load_section(Ingest, "ingest", PARAMS)
    found = clock.time("reading", lambda: [one for _, one in read_pdfs(list(files), raw, settings)])
    documents = [one for one in found if isinstance(one, RawDocument)]
    if not documents:
        raise DataError(f"none of {len(files)} PDFs in {raw} can be read")
    model = Embedder(embedder, settings.embed_batch)
    model.encode(["once before it is timed"])
    pages = 0
    with Outputs(data) as outputs:
        for document in documents:
            cleaned, chunks = clock.time("cleaning and cutting", partial(_cut, document, model, settings))
            texts = embedded_texts(chunks)
            embed = partial(embed_document, model, texts, settings.embed_batch, lambda _: None)
            vectors = clock.time("embedding", embed)
            rows = _pages(document, cleaned)
            pages += len(rows)
            clock.time("writing files", partial(outputs.add, rows, chunks, vectors))
        report = make_report("pdf", [], [], [])
        clock.time("writing files", lambda: outputs.commit(report, embedder_sha256(embedder)))
    return pages, outputs.chunks


def _ask(chunks: Sequence[Chunk]) -> int:
    """All questions that the rules make, sifted and spooled as data_prep does; how many are sound."""
    settings = load_section(DataPrep, "data_prep", PARAMS)
    ordered = sorted(chunks, key=lambda chunk: (chunk.document, chunk.start, chunk.chunk_id))
    casing = Casing(chunk.text for chunk in ordered)
    with Spool({chunk.chunk_id: chunk for chunk in ordered}, SEED) as spool:
        for candidate, _ in make_candidates(ordered, chosen_rules(settings.rules), casing, SEED):
            if cheap_fault(candidate, settings) is None:
                spool.add("train", candidate)
        return spool.count("train")


def _cut(document: RawDocument, model: Embedder, settings: Ingest) -> tuple[CleanDocument, list[Chunk]]:
    cleaned = clean(document.pages)
    source = Source(document.doc_id, document.document, document.title)
    return cleaned, chunk(source, cleaned, settings.chunk_tokens, model.count_tokens)


def _pages(document: RawDocument, cleaned: CleanDocument) -> list[Page]:
    return [
        Page(
            doc_id=document.doc_id, document=document.document, title=document.title, page=page.page,
            label=page.label, text=page.text, offset=page.offset, raw_map=page.raw_map,
        )
        for page in cleaned.pages
    ]  # fmt: skip


def _processor_s() -> float:
    """Processor seconds of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _graph_s(rows: int, folder: Path) -> float:
    """Processor seconds in which Chroma takes up so many random unit vectors, in a process of its own."""
    code = (
        "import sys, time, numpy as np\n"
        "rows, dimension = int(sys.argv[2]), int(sys.argv[3])\n"
        "vectors = np.random.default_rng(0).normal(size=(rows, dimension)).astype(np.float32)\n"
        "vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)\n"
        "import chromadb\n"
        "client = chromadb.PersistentClient(path=sys.argv[1], "
        "settings=chromadb.Settings(anonymized_telemetry=False))\n"
        "place = client.create_collection('rows', embedding_function=None, "
        "configuration={'hnsw': {'space': 'cosine'}})\n"
        "started = time.process_time()\n"
        "for at in range(0, rows, 1000):\n"
        "    part = vectors[at:at + 1000]\n"
        "    place.add(ids=[str(at + n) for n in range(len(part))], embeddings=part)\n"
        "print(time.process_time() - started)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(rows), str(DIMENSION)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def _search_s() -> float:
    """Seconds of one question against a million vectors, from a tenth of them."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(SEARCHED, DIMENSION)).astype(np.float32)
    search, question = ExactSearch(vectors), vectors[:1]
    search.scores(question, 10, [None])
    started = time.process_time()
    for _ in range(5):
        search.scores(question, 10, [None])
    return (time.process_time() - started) / 5 * 1_000_000 / SEARCHED


def _hash_s(path: Path) -> float:
    """Seconds in which DVC's hash, MD5, reads a gigabyte that lies in the page cache."""
    with path.open("wb") as stream:
        for _ in range(HASHED_MB):
            stream.write(os.urandom(1 << 20))
    started = time.process_time()
    with path.open("rb") as stream:
        hashlib.file_digest(stream, "md5")
    return (time.process_time() - started) * 1024 / HASHED_MB


def lines(measured: Measured, sizes: Sizes) -> Iterator[str]:
    """What is printed.

    Args:
        measured: Of the sample.
        sizes: Of the corpus that is asked about.
    """
    chunks = sizes.pages * measured.chunks_per_page
    each = f"{measured.chunks_per_page:.1f} a page"
    yield f"measured on {measured.pages} pages, {measured.chunks} chunks ({each})"
    size = f"{sizes.pages:,} pages, {chunks:,.0f} chunks"
    yield f"for {sizes.pdfs:,} PDFs of {sizes.pages_per_pdf} pages: {size}"
    yield from _steps(measured, sizes, chunks)
    yield from _kept(measured, sizes)
    start = f"{measured.start * sizes.pages / 3600:,.1f} h until it answers"
    yield f"a server that starts: {start}, {measured.memory * sizes.pages / 1e9:,.1f} GB of memory"
    yield f"exact search: {measured.search_s * chunks / 1e6:,.2f} s a question on one core"


def _steps(measured: Measured, sizes: Sizes, chunks: float) -> Iterator[str]:
    yield ""
    yield f"{'step':<26}{'ms a page':>12}{'core hours':>14}{f'hours on {sizes.cores} cores':>22}"
    graph = measured.graph_s(chunks)
    total = 0.0
    for step, seconds in [*measured.seconds.items(), ("graph of a Chroma folder", graph / sizes.pages)]:
        hours = seconds * sizes.pages / 3600
        total += hours
        told = f"{hours / sizes.cores:,.1f}" if step in SHARED else f"{hours:,.1f} on one"
        yield f"{step:<26}{1000 * seconds:>12.2f}{hours:>14,.1f}{told:>22}"
    yield f"{'all':<26}{'':>12}{total:>14,.1f}"
    of = ", ".join(f"{1000 * cost:.2f} ms at {rows:,}" for rows, cost in sorted(measured.graph.items()))
    yield f"a row of the graph: {of}, {1000 * graph / chunks:.2f} ms on average at {chunks:,.0f}"


def _kept(measured: Measured, sizes: Sizes) -> Iterator[str]:
    yield ""
    yield f"{'kept':<26}{'KB a page':>12}{'GB':>14}"
    for name, size in measured.file_bytes.items():
        yield f"{name:<26}{size / 1024:>12.2f}{size * sizes.pages / 1e9:>14,.1f}"
    outs = sum(measured.file_bytes.get(path.name, 0.0) for path in (PAGES, CHUNKS, EMBEDDINGS))
    gigabytes = outs * sizes.pages / 1e9
    hours, speed = gigabytes * measured.hash_s / 3600, 1 / measured.hash_s
    yield ""
    yield f"DVC: hashing the {gigabytes:,.1f} GB of ingest's outs takes {hours:,.2f} h at {speed:.2f} GB/s"


def sample(raw: Path, pages: int) -> list[Path]:
    """PDFs of a folder, smallest first, until they have so many pages.

    Raises:
        DataError: There is none.
    """
    found, have = [], 0
    for path in sorted(raw.rglob("*.pdf"), key=lambda path: (path.stat().st_size, path)):
        if have >= pages:
            break
        found.append(path)
        have += len(pypdfium2.PdfDocument(path))
    if not found:
        raise DataError(f"{raw} holds no PDF; run `dvc repro corpus base_model`")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, default=200, help="of the sample")
    parser.add_argument("--pdfs", type=int, default=1_000_000)
    parser.add_argument("--pages-per-pdf", type=int, default=20)
    parser.add_argument("--cores", type=int, default=64, help="of all workers of a cluster together")
    given = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            measured = measure(sample(RAW, given.pages), RAW, EMBEDDER, Path(folder))
    except MarkError as fault:
        sys.stderr.write(f"bench.scale: {fault}\n")
        return fault.exit_code
    told = f"{os.cpu_count()} cores here, load {os.getloadavg()[0]:.1f}"
    for line in (told, *lines(measured, Sizes(given.pdfs, given.pages_per_pdf, given.cores))):
        sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
