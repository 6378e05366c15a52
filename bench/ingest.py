"""Reading and embedding against what one would use instead: `python -m bench.ingest`.

Pages a second of the reader (in processes of its own, with limits and printed lines) against pypdf and
pdfplumber in a loop; chunks a second of the embedder against sentence-transformers' `encode` with its
defaults; questions a second of data_prep; and how time and memory of the whole stage grow with the number of
documents.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.project import Project
from bench.rows import Pair, Row, alone, alternate, compared, limited, show, unmeasured

PAGES_PYPDF, PAGES_PLUMBER = "ingest: pages, against pypdf", "ingest: pages, against pdfplumber"
CHUNKS = "ingest: chunks embedded"
QUESTIONS = "ingest: questions made and sifted"
EXPONENT, MEMORY = (
    "ingest: exponent of time over documents, 1x to 16x",
    "ingest: memory of the writing process at 16x over 1x",
)
NAMES = (PAGES_PYPDF, PAGES_PLUMBER, CHUNKS, QUESTIONS, EXPONENT, MEMORY)
ROUNDS = 3
EMBEDDED = 256  # chunks
DOCUMENTS = 4  # of the corpus at 1x
PAGES = 12  # of each


def rows() -> Iterator[Row]:
    """All of this machine."""
    yield from _pages()
    yield _chunks()
    yield _questions()
    yield from _growth()


def _pages() -> Iterator[Row]:
    from mark.config import PARAMS, Ingest, load_section
    from mark.errors import DataError
    from mark.files import RAW
    from mark.ingest.pdf import read_pdfs

    settings = load_section(Ingest, "ingest", PARAMS)
    files = sorted(RAW.glob("*.pdf"), key=lambda path: path.stat().st_size)
    if not files:
        raise DataError(f"{RAW} holds no PDF; run `dvc repro corpus`")
    file = files[0]
    pages = len(list(_pypdf(file)))

    def ours() -> None:
        for _ in read_pdfs([file], RAW, settings):
            pass

    for name, package, read in ((PAGES_PYPDF, "pypdf", _pypdf), (PAGES_PLUMBER, "pdfplumber", _plumber)):
        try:
            __import__(package)
        except ImportError:
            yield unmeasured(name, "pages/s", package, None, f"the package {package} is not installed")
            continue
        seconds = alternate(ours, lambda read=read: list(read(file)), ROUNDS)  # type: ignore[misc]
        speed = Pair(*(tuple(pages / s for s in taken) for taken in (seconds.ours, seconds.peer)))
        yield compared(name, speed, "pages/s", f"{package} in a loop", None, f"{file.name}, {pages} pages")


def _pypdf(file: Path) -> Iterator[str]:
    from pypdf import PdfReader

    yield from (page.extract_text() for page in PdfReader(file).pages)


def _plumber(file: Path) -> Iterator[str]:
    import pdfplumber

    with pdfplumber.open(file) as opened:
        yield from (page.extract_text() for page in opened.pages)


def _chunks() -> Row:
    from sentence_transformers import SentenceTransformer

    from mark.files import EMBEDDER
    from mark.ingest.embed import embed_document, embedded_texts
    from mark.models.embedder import Embedder

    chunks = sorted(Project().chunks.values(), key=lambda chunk: chunk.chunk_id)[:EMBEDDED]
    texts = embedded_texts(chunks)
    model, peer = Embedder(EMBEDDER), SentenceTransformer(str(EMBEDDER), device="cpu")
    vectors = embed_document(model, texts, 32, lambda _: None)
    cosines = (vectors * peer.encode(texts, normalize_embeddings=True)).sum(axis=1)
    seconds = alternate(
        lambda: embed_document(model, texts, 32, lambda _: None), lambda: peer.encode(texts), ROUNDS
    )
    speed = Pair(*(tuple(len(texts) / s for s in taken) for taken in (seconds.ours, seconds.peer)))
    note = f"least cosine of a chunk's two vectors {float(np.min(cosines)):.5f}"
    return compared(CHUNKS, speed, "chunks/s", "sentence-transformers' encode, its defaults", None, note)


def _questions() -> Row:
    """data_prep on the project's chunks, models loaded and files written each time; no peer."""
    from mark.config import PARAMS, DataPrep, Retrieval, load_section, load_seed
    from mark.data_prep import prepare
    from mark.files import CHUNKS as CHUNKS_FILE
    from mark.files import EMBEDDER

    settings, retrieval = (
        load_section(kind, name, PARAMS) for kind, name in ((DataPrep, "data_prep"), (Retrieval, "retrieval"))
    )
    speeds = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            made = prepare(CHUNKS_FILE.parent, EMBEDDER, settings, retrieval, load_seed(), Path(folder))
            speeds.append(made.questions.asked / (time.perf_counter() - started))
    note = f"of {made.questions.asked} questions {made.questions.kept} were kept"
    return alone(QUESTIONS, speeds, "questions/s", note)


def _growth() -> Iterator[Row]:
    """Each size in a process of its own, so that its memory is its own."""
    found = {}
    for times in (1, 4, 16):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[times] = pool.apply(_ingested, (times * DOCUMENTS,))
    seconds = {times: taken for times, (taken, _) in found.items()}
    exponent = math.log(seconds[16] / seconds[1]) / math.log(16)
    shown = ", ".join(f"{times}x {taken:.1f} s" for times, taken in seconds.items())
    yield limited(EXPONENT, [exponent], "", 1.1, f"{DOCUMENTS} documents of {PAGES} pages at 1x; {shown}")
    ratio = found[16][1] / found[1][1]
    shown = ", ".join(f"{times}x {peak} MB" for times, (_, peak) in found.items())
    yield limited(MEMORY, [ratio], "times", 1.25, shown)


def _ingested(documents: int) -> tuple[float, int]:
    """Seconds and peak megabytes of ingesting so many made-up documents."""
    from mark.config import PARAMS, Ingest, load_section
    from mark.files import EMBEDDER
    from mark.ingest import ingest_pdfs

    settings = load_section(Ingest, "ingest", PARAMS)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        raw.mkdir()
        for number in range(documents):
            _write(raw / f"act{number:03d}.pdf", number)
        started = time.perf_counter()
        ingest_pdfs(settings, raw, EMBEDDER, Path(folder) / "data")
        taken = time.perf_counter() - started
    return taken, _peak_mb()


def _peak_mb() -> int:
    """Of this process alone: ru_maxrss would start at the parent's peak."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(
            line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
        )
        return int(line.split()[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20


def _write(path: Path, number: int) -> None:
    """A PDF of numbered articles with words of its own."""
    import random

    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

    rng, styles = random.Random(number), getSampleStyleSheet()
    words = ("tenant", "landlord", "member", "board", "fee", "notice", "report", "record", "person", "judge")
    story: list[Any] = [Paragraph(f"Act {number}", styles["Title"])]
    for article in range(1, 2 * PAGES + 1):
        drawn = [(rng.choice(words), rng.randint(1, 999), rng.choice(words)) for _ in range(40)]
        body = " ".join(f"The {who} {number} shall give {what}." for who, number, what in drawn)
        story.append(Paragraph(f"Article {article} {rng.choice(words)}", styles["Heading2"]))
        story.append(Paragraph(body, styles["BodyText"]))
        if article % 2 == 0:
            story.append(PageBreak())
    SimpleDocTemplate(str(path), title=f"Act {number}").build(story)


if __name__ == "__main__":
    show(rows())
