"""`mark retrieval`: how well the right passages are found for the questions of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mark.config import PARAMS, Eval, Ingest, Retrieval, load_section, load_seed, read_params, validate
from mark.errors import ConfigError, DataError
from mark.evaluation.questions import Question, from_example, from_handwritten, from_practice
from mark.evaluation.report import retrieval_line
from mark.evaluation.retrieval import DEPTH, Ranked, Tree, retrieval_metrics
from mark.evaluation.significance import Bootstrap, choose_clusters
from mark.files import CHUNKS, EMBEDDER, HANDWRITTEN_TEST
from mark.records import Chunk, Example, HandwrittenQuestion, PracticeQuestion
from mark.retrieval import Hit, Retriever
from mark.retrieval.serving import open_search
from mark.seeding import derived_seed


def run_retrieval(files: Sequence[Path], changes: Sequence[str], chroma: bool, root: Path) -> str:
    """Search for every answerable question and say how often its passage was found.

    Args:
        files: JSONL of examples, hand-written or practice questions.
        changes: `key=value` laid over section `retrieval`, e.g. `late_weight=0`.
        chroma: Search through the Chroma collection, and say where it differs from exact search.
        root: The project's root.

    Returns:
        What to print: for each file the metrics with intervals.

    Raises:
        ConfigError: A change names no key or no valid value.
        DataError: A file is missing, has a bad row or no answerable question on a document of the corpus, or
            is the test set.
    """
    settings = changed_settings(changes, root)
    exact = Retriever.open(root / CHUNKS.parent, root / EMBEDDER, settings)
    served = None
    if chroma:
        ingest = load_section(Ingest, "ingest", root / PARAMS)
        collection = open_search(root / CHUNKS.parent, ingest, root)
        served = Retriever.open(root / CHUNKS.parent, root / EMBEDDER, settings, collection)
    return "\n".join(_table(file, exact, served, root) for file in files)


def changed_settings(changes: Sequence[str], root: Path) -> Retrieval:
    """Section `retrieval` of params.yaml with some values changed."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    odd = [change for change in changes if "=" not in change]
    if odd:
        raise ConfigError(f"--set {odd[0]}: give key=value, e.g. --set late_weight=0")
    values: Any = read_params(root / PARAMS).get("retrieval")
    try:
        merged = OmegaConf.merge(values, OmegaConf.from_dotlist(list(changes)))
    except OmegaConfBaseException as fault:
        raise ConfigError(f"--set: {str(fault).splitlines()[0]}") from None
    return validate(Retrieval, OmegaConf.to_container(merged), "retrieval", Path("--set"))


def read_answerable(file: Path, chunks: Sequence[Chunk]) -> tuple[list[Question], int]:
    """The answerable questions on documents of a corpus, and how many are on other documents.

    Raises:
        DataError: The file is missing, a folder or no text, has a bad row, holds no such question, or is the
            test set.
    """
    if file.name == HANDWRITTEN_TEST.name:
        raise DataError(f"{file} is for the eval stage alone; tune on data/handwritten_dev.jsonl")
    known = {chunk.document for chunk in chunks}
    asked, foreign = [], 0
    for number, line in enumerate(_lines(file), start=1):
        question = _question(line, f"{file}, line {number}", chunks) if line.strip() else None
        if question is None or question.kind != "answerable":
            continue
        if question.document in known:
            asked.append(question)
        else:
            foreign += 1
    if not asked:
        raise DataError(f"{file} holds no answerable question on a document of the corpus")
    return asked, foreign


def _lines(file: Path) -> list[str]:
    if file.is_dir():
        raise DataError(f"{file} is a folder; give a JSONL file of questions such as data/practice.jsonl")
    if not file.is_file():
        raise DataError(f"{file} is missing; give a file such as data/practice.jsonl")
    try:
        return file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise DataError(
            f"{file} is no UTF-8 text; give a JSONL file of questions such as data/practice.jsonl"
        ) from None


def _question(line: str, where: str, chunks: Sequence[Chunk]) -> Question:
    try:
        return from_handwritten(HandwrittenQuestion.model_validate_json(line), chunks)
    except ValidationError:
        pass
    try:
        return from_practice(PracticeQuestion.model_validate_json(line), chunks)
    except ValidationError:
        pass
    try:
        return from_example(Example.model_validate_json(line))
    except ValidationError as fault:
        if fault.errors()[0]["type"] == "json_invalid":
            raise DataError(
                f"{where} is no JSON: {line[:40]!r}; give a JSONL file of questions such as "
                "data/practice.jsonl"
            ) from None
        raise DataError(
            f"{where}: neither an example nor a hand-written or practice question; give a file such as "
            "data/practice.jsonl"
        ) from None


def _table(file: Path, exact: Retriever, served: Retriever | None, root: Path) -> str:
    measured = measure(file, exact, served, root)
    lines = [f"{file.name}: {measured.counts}", f"  {retrieval_line(measured.metrics)}"]
    if measured.agreement is not None:
        lines.append(f"  Chroma: {measured.agreement}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Measured:
    """How well one retriever finds the passages of one file's questions."""

    counts: str  # questions and clusters, for people
    metrics: Tree  # of `retrieval_metrics`
    agreement: str | None  # of Chroma's lists with those of exact search


def measure(file: Path, exact: Retriever, served: Retriever | None, root: Path) -> Measured:
    """Search for every answerable question of a file.

    Args:
        file: JSONL of questions.
        exact: Exact search over the corpus.
        served: The same through Chroma, then measured in its place.
        root: The project's root.

    Raises:
        DataError: See `read_answerable`.
    """
    settings = load_section(Eval, "eval", root / PARAMS)
    asked, foreign = read_answerable(file, list(exact.chunks.values()))
    depth = max(DEPTH, *settings.recall_at)
    texts = [question.question for question in asked]
    found, agreed = exact.search(texts, depth), None
    if served is not None:
        through = served.search(texts, depth)
        found, agreed = through, agreement(found, through)
    ids = [[hit.chunk.chunk_id for hit in hits] for hits in found]
    rows = [Ranked.of(question, one, exact.chunks) for question, one in zip(asked, ids, strict=True)]
    clusters = choose_clusters(
        [q.document for q in asked], [q.section for q in asked], [q.id for q in asked], settings.min_clusters
    )
    seed = derived_seed(load_seed(root / PARAMS), "bootstrap")
    bootstrap = Bootstrap(settings.bootstrap_samples, settings.confidence, seed)
    unknown = sum(not question.gold for question in asked)
    counts = f"{len(asked)} answerable questions in {len(set(clusters))} clusters"
    counts += f", {unknown} of unknown passage (counted as missed)" if unknown else ""
    counts += f", {foreign} on other documents left out" if foreign else ""
    return Measured(counts, retrieval_metrics(rows, clusters, settings.recall_at, bootstrap), agreed)


def agreement(exact: Sequence[Sequence[Hit]], served: Sequence[Sequence[Hit]]) -> str:
    """How often two searches give the same chunks in the same order.

    Two lists that differ only among equal scores count as ties; the others miss candidates.
    """
    same = ties = other = 0
    for one, two in zip(exact, served, strict=True):
        if [hit.chunk.chunk_id for hit in one] == [hit.chunk.chunk_id for hit in two]:
            same += 1
        elif [round(hit.score, 4) for hit in one] == [round(hit.score, 4) for hit in two]:
            ties += 1
        else:
            other += 1
    counts = f"{same} of {len(exact)} lists equal exact search"
    return f"{counts}, {ties} differ in ties, {other} in candidates missed"
