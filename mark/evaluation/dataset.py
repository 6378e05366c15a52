"""`mark eval --model NAME --dataset FILE`: one model on any file of questions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from mark.answering.engine import Engine
from mark.answering.merging import for_inference
from mark.answering.refusal import Calibration
from mark.answering.remote import RemoteEngine, model_folder, remote_engine
from mark.config import PARAMS, Eval, Retrieval, load_section, load_seed, load_value
from mark.errors import DataError
from mark.evaluation.calibration import LOCAL, Thresholds, thresholds_of
from mark.evaluation.cells import CELLS, from_generation, predict, request_for
from mark.evaluation.inputs import brought_passages, check_contexts, with_contexts
from mark.evaluation.precision import dtype_of_model
from mark.evaluation.questions import Question, from_example, from_handwritten
from mark.evaluation.report import dataset_text
from mark.evaluation.significance import Bootstrap, choose_clusters
from mark.evaluation.summary import cell_metrics, quotes_gold, rounded
from mark.files import CHUNKS, EMBEDDER, PASSAGES, REPORTS, read_jsonl, write_json
from mark.models.loading import load_model
from mark.records import Chunk, Example, HandwrittenQuestion, Prediction
from mark.retrieval import Retriever
from mark.seeding import derived_seed

log = logging.getLogger(__name__)


def evaluate_dataset(name: str, dataset: Path, root: Path) -> str:
    """Evaluate a base model or an entry on a file of questions.

    Writes reports/eval_<name>_<time>.json with metrics and predictions. Questions with contexts are answered
    from them, hand-written ones from what the retriever finds. The refusal threshold is the one that the
    eval stage fitted for the model; without one, the model refuses where greedy decoding does.

    Args:
        name: Of the model, as `mark.load_model` takes it.
        dataset: JSONL of `Example` or `HandwrittenQuestion` rows.
        root: The project's root.

    Returns:
        What to print.

    Raises:
        DataError: A row is neither, or a file is missing.
        ModelError: There is no such model.
        EndpointError: `eval.server` is to answer and cannot.
    """
    params = root / PARAMS
    settings = load_section(Eval, "eval", params)
    questions, chunks = read_questions(dataset, root, load_section(Retrieval, "retrieval", params))
    engine, answered = _engine(name, root, settings, int(load_value("train", "max_seq_length", params)))
    thresholds = thresholds_of(name, root)
    if thresholds == Thresholds(None, None):
        log.info("%s was never calibrated (`dvc repro eval`): it refuses where greedy decoding does", name)
    elif thresholds.engine != answered["engine"]:
        log.warning(
            "the refusal rule of %s was fitted on answers of the engine %s, %s answers now",
            name, thresholds.engine, answered["engine"],
        )  # fmt: skip
    predictions = _answer(engine, questions, chunks, thresholds)
    metrics = _metrics(predictions, questions, chunks, settings, load_seed(params))
    report = {
        "model": name,
        "dataset": dataset.name,
        "questions": len(questions),
        **answered,
        "refusal_threshold": {
            "without": None if thresholds.without is None else thresholds.without.threshold,
            "retrieval": None if thresholds.retrieval is None else thresholds.retrieval.threshold,
        },
        "metrics": metrics,
        "predictions": [row.model_dump(mode="json") for row in predictions],
    }
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    target = root / REPORTS / f"eval_{name}_{moment}.json"
    write_json(target, report)
    return f"{dataset_text(name, dataset.name, len(questions), metrics)}\n{target}"


def _engine(
    name: str, root: Path, settings: Eval, max_seq_length: int
) -> tuple[Engine | RemoteEngine, dict[str, str]]:
    """What answers, and what the report says of it."""
    if settings.engine == "openai":
        folder = model_folder(name, root)
        there = remote_engine(
            folder, name, settings.server, "eval.server", max_seq_length, settings.max_new_tokens
        )
        return there, {"engine": there.name, "engine_model": there.model}
    model, tokenizer, device = load_model(name, root, torch.float32)
    model = for_inference(model, dtype_of_model(name, root, device))
    here = Engine(model, tokenizer, max_seq_length, settings.max_new_tokens, settings.batch_size)
    return here, {"engine": LOCAL, "precision": str(model.dtype).removeprefix("torch.")}


def read_questions(
    dataset: Path, root: Path, retrieval: Retrieval
) -> tuple[list[Question], Mapping[str, Chunk]]:
    """The questions of a file, contexts filled in, and the chunks that they name.

    Raises:
        DataError: A row is neither an example nor a hand-written question (names the line), there is no
            row, or a context is not among the chunks.
    """
    rows = _rows(dataset)
    retriever = _retriever(dataset, root, retrieval)
    chunks = list(retriever.chunks.values())
    asked = [from_example(row) if isinstance(row, Example) else from_handwritten(row, chunks) for row in rows]
    brought = brought_passages(root / CHUNKS.parent)  # of practice questions
    known = {**retriever.chunks, **{chunk.chunk_id: chunk for chunk in brought}}
    check_contexts(asked, known)
    return with_contexts(asked, retriever, retrieval.top_k, brought), known


def _retriever(dataset: Path, root: Path, retrieval: Retrieval) -> Retriever:
    """Over the passages beside the file where it brings some, else over the project's corpus."""
    beside = dataset.parent / PASSAGES
    if beside.is_file():
        return Retriever.embedding(read_jsonl(beside, Chunk), root / EMBEDDER, retrieval)
    return Retriever.open(root / CHUNKS.parent, root / EMBEDDER, retrieval)


def _rows(dataset: Path) -> list[Example | HandwrittenQuestion]:
    rows: list[Example | HandwrittenQuestion] = []
    for number, line in enumerate(dataset.read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            rows.append(_row(line, f"{dataset}, line {number}"))
    if not rows:
        raise DataError(f"{dataset} holds no question; give a file such as data/val_sft.jsonl")
    return rows


def _row(line: str, where: str) -> Example | HandwrittenQuestion:
    faults = []
    for kind in (Example, HandwrittenQuestion):
        try:
            return kind.model_validate_json(line)
        except ValidationError as fault:
            first = fault.errors()[0]
            faults.append((fault.error_count(), ".".join(map(str, first["loc"])), first["msg"]))
    _, key, message = min(faults)
    raise DataError(
        f"{where}: neither an example nor a hand-written question ({key or 'row'}: {message}); "
        "give a file such as data/val_sft.jsonl"
    )


def _answer(
    engine: Engine | RemoteEngine,
    questions: Sequence[Question],
    chunks: Mapping[str, Chunk],
    thresholds: Thresholds,
) -> list[Prediction]:
    cell = CELLS["base_retrieval"]  # its passages are the contexts; no contexts, no passages
    requests = [request_for(q, cell, chunks, len(q.contexts or ())) for q in questions]
    found = engine.generate(requests)
    return [
        predict(q, "dataset", from_generation(q, request, answer), _rule(thresholds, q), chunks)
        for q, request, answer in zip(questions, requests, found, strict=True)
    ]


def _rule(thresholds: Thresholds, question: Question) -> Calibration | None:
    return thresholds.retrieval if question.contexts else thresholds.without


def _metrics(
    rows: Sequence[Prediction],
    questions: Sequence[Question],
    chunks: Mapping[str, Chunk],
    settings: Eval,
    seed: int,
) -> dict[str, Any]:
    clusters = choose_clusters(
        [q.document for q in questions],
        [q.section for q in questions],
        [q.id for q in questions],
        settings.min_clusters,
    )
    bootstrap = Bootstrap(settings.bootstrap_samples, settings.confidence, derived_seed(seed, "bootstrap"))
    gold = [quotes_gold(row, q, chunks) for row, q in zip(rows, questions, strict=True)]
    return {**rounded(cell_metrics(rows, gold, clusters, bootstrap)), "clusters": len(set(clusters))}
