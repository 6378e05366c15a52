"""Evaluating one entry: every cell answers the same questions; thresholds come from validation only."""

from __future__ import annotations

import gc
import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mark.answering.engine import Engine, Generation, Request
from mark.answering.merging import for_inference
from mark.answering.remote import RemoteEngine, remote_engine
from mark.config import Eval, Retrieval
from mark.errors import ModelError
from mark.evaluation.calibration import LOCAL, Calibrations, Precision, PrecisionCheck, calibrate
from mark.evaluation.cells import (
    CELLS,
    Answer,
    Cell,
    extractive,
    from_generation,
    predict,
    request_for,
)
from mark.evaluation.development import development, development_rows
from mark.evaluation.inputs import Asked, EvalInputs, gather
from mark.evaluation.precision import CHECKED, compared
from mark.evaluation.questions import Question, stratified
from mark.evaluation.significance import Bootstrap
from mark.evaluation.summary import rounded, summarise
from mark.files import ADAPTER, read_json, sha256_file
from mark.models.loading import entry_base, load_base, load_entry, preferred_dtype
from mark.models.source_file import storage_in
from mark.records import Prediction
from mark.seeding import derived_seed

log = logging.getLogger(__name__)

_PROBE = "Article 1. This text is read by the base model before and after its cells."


@dataclass(frozen=True)
class EvalResult:
    """All that an evaluation found.

    Attributes:
        entry: Its name.
        predictions: One a cell and test question.
        development: One a calibrated cell and development question; sweeps compare these.
        metrics: The content of metrics/eval_<entry>.json.
        calibrations: The content of calibration.json.
        seconds_per_answer: By model and context; for the timing report only.
    """

    entry: str
    predictions: list[Prediction]
    development: list[Prediction]
    metrics: dict[str, Any]
    calibrations: Calibrations
    seconds_per_answer: dict[str, float]


@dataclass
class _Run:
    """The questions and settings of a run, and what it has found so far."""

    asked: Asked
    settings: Eval
    top_k: int
    max_seq_length: int
    continued: bool  # trained on from another entry, whose evaluation holds the base model's cells
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)  # (cell, question id)
    seconds: dict[str, float] = field(default_factory=dict)
    precision_check: PrecisionCheck | None = None
    answers_in: Precision | None = None

    @property
    def cells(self) -> list[Cell]:
        cells = [CELLS[name] for name in self.settings.cells]
        return [cell for cell in cells if cell.model != "base" or not self.continued]


def evaluate(inputs: EvalInputs, settings: Eval, retrieval: Retrieval, max_seq_length: int) -> EvalResult:
    """Evaluate one entry against its base model and the extractive baseline.

    An entry that was trained on from another one (RLHF) leaves the base model's
    cells to that one's evaluation.

    Args:
        inputs: Where data and models lie.
        settings: Section `eval`.
        retrieval: Section `retrieval`.
        max_seq_length: Tokens of prompt and answer together.

    Returns:
        Predictions, metrics and thresholds; the same for the same inputs and seed.

    Raises:
        DataError: A data file is missing or damaged.
        LeakError: A test question was trained on.
        ModelError: A model cannot be loaded, or the base cells were not answered by the plain base model.
        EndpointError: `eval.server` is to answer and cannot.
    """
    continued = "sft" in read_json(inputs.entry / "entry.json")
    run = _Run(gather(inputs, settings, retrieval), settings, retrieval.top_k, max_seq_length, continued)
    for question in [*run.asked.test, *run.asked.validation]:
        run.answers["extractive", question.id] = extractive(question, run.asked.chunks, run.top_k)
    answered = _answered_there(run, inputs) if settings.engine == "openai" else _answered_here(run, inputs)
    calibrations = _calibrations(run, inputs, answered["engine"])
    predictions = [
        predict(
            question,
            cell.name,
            run.answers[cell.name, question.id],
            calibrations.thresholds[cell.calibration],
            run.asked.chunks,
        )
        for cell in run.cells
        for question in run.asked.test
    ]
    metrics = summarise(predictions, run.asked, settings, calibrations, inputs.seed)
    bootstrap = Bootstrap(
        settings.bootstrap_samples, settings.confidence, derived_seed(inputs.seed, "bootstrap")
    )
    developed = development_rows(run.asked.validation, run.answers, calibrations.thresholds, run.asked.chunks)
    metrics["development"] = rounded(development(developed, bootstrap))
    metrics |= answered
    return EvalResult(inputs.entry.name, predictions, developed, metrics, calibrations, run.seconds)


def _answered_here(run: _Run, inputs: EvalInputs) -> dict[str, Any]:
    """Answer all cells with models in this process; what the metrics say of them."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = _precision(run, inputs, device)
    _say(run, str(dtype))
    base_proved = _base_cells(run, inputs, dtype, device)
    _tuned_cells(run, inputs, dtype, device)
    answered: dict[str, Any] = {"engine": LOCAL, "precision": str(dtype).removeprefix("torch.")}
    if run.precision_check is not None:
        answered["precision_check"] = run.precision_check.model_dump()
    return answered | ({"base_probe_equal": True} if base_proved else {})


def _precision(run: _Run, inputs: EvalInputs, device: torch.device) -> torch.dtype:
    """What all cells are answered in: bfloat16 where the hardware has it and the tuned answers agree.

    An arm of RLHF answers as the entry that it went on from, which it is compared with.
    """
    dtype = preferred_dtype(device)
    told: Precision | None = read_json(inputs.entry / "entry.json").get("answers_in")
    as_they_are = storage_in(
        entry_base(inputs.entry)
    ).placed  # in 4 bits or spread: no other weights to compare
    if dtype == torch.bfloat16 and told is None and not as_they_are:
        run.precision_check = _check_precision(run, inputs, dtype, device)
        told = "float32" if run.precision_check is not None and not run.precision_check.agrees else None
    run.answers_in = "float32" if dtype == torch.float32 or told == "float32" else "bfloat16"
    return torch.float32 if run.answers_in == "float32" else dtype


def _check_precision(
    run: _Run, inputs: EvalInputs, low: torch.dtype, device: torch.device
) -> PrecisionCheck | None:
    """Some of the tuned model's answers in both precisions; None where it is asked nothing."""
    cells = [cell for cell in run.cells if cell.model == "tuned"]
    asked = stratified(run.asked.validation, CHECKED, lambda question: question.kind)
    requests = dict.fromkeys(
        request_for(q, CELLS[cell.calibration], run.asked.chunks, run.top_k)
        for cell in cells[-1:]
        for q in asked
    )
    if not requests:
        return None
    answers = []
    for kind in (torch.float32, low):
        model, tokenizer = load_entry(inputs.entry, torch.float32, device)
        answers.append(_local(run, for_inference(model, kind), tokenizer).generate(list(requests), str(kind)))
        del model
        gc.collect()
    return compared(*answers)


def _answered_there(run: _Run, inputs: EvalInputs) -> dict[str, Any]:
    """Answer all cells through `eval.server`; what the metrics say of it.

    That the base model's cells were answered by the plain model cannot be proved from here; that another
    model answered the tuned cells can.
    """
    folders = {"base": inputs.base, "tuned": inputs.entry}
    engines = {
        name: _remote(run, folder)
        for name, folder in folders.items()
        if any(cell.model == name for cell in run.cells)
    }
    if len(engines) == 2:
        _check_apart(engines["base"], engines["tuned"])
    kinds = {engine.name for engine in engines.values()} or {LOCAL}
    _say(run, ", ".join(sorted(kinds)))
    for name, engine in engines.items():
        _answer_cells(run, name, engine)
    models = {name: engine.model for name, engine in engines.items()}
    return {"engine": "+".join(sorted(kinds)), "engine_models": models}


def _remote(run: _Run, folder: Path) -> RemoteEngine:
    settings = run.settings
    return remote_engine(
        folder, folder.name, settings.server, "eval.server", run.max_seq_length, settings.max_new_tokens
    )


def _check_apart(base: RemoteEngine, tuned: RemoteEngine) -> None:
    """A server that passes over the name of the model would answer all cells with one."""
    if base.fingerprint == tuned.fingerprint:
        raise ModelError(
            f"{base.server.host} answers to the last digit alike as {base.model} and as {tuned.model}: the "
            "adapter is not loaded under that name (vLLM: --enable-lora --lora-modules NAME=FOLDER)"
        )


def _say(run: _Run, by: str) -> None:
    log.info(
        "eval: %d test and %d validation questions, %s", len(run.asked.test), len(run.asked.validation), by
    )


def _base_cells(run: _Run, inputs: EvalInputs, dtype: torch.dtype, device: torch.device) -> bool:
    """Answer the base model's cells, and prove that no adapter took part; False where there are none."""
    if not any(cell.model == "base" for cell in run.cells):
        return False
    model, tokenizer = load_base(inputs.base, dtype, device)
    before = probe_sha256(model, tokenizer)
    _answer_cells(run, "base", _local(run, model, tokenizer))
    after = probe_sha256(model, tokenizer)
    adapted = has_adapter(model)
    del model
    gc.collect()
    fresh, tokenizer = load_base(inputs.base, dtype, device)
    proved = not adapted and before == after == probe_sha256(fresh, tokenizer)
    if not proved:
        raise ModelError(
            f"the base cells were not answered by the plain model of {inputs.base} "
            f"(adapter layers: {adapted}, logits {before[:8]} before, {after[:8]} after); report this bug"
        )
    return proved


def _tuned_cells(run: _Run, inputs: EvalInputs, dtype: torch.dtype, device: torch.device) -> None:
    if not any(cell.model == "tuned" for cell in run.cells):
        return
    model, tokenizer = load_entry(inputs.entry, torch.float32, device)
    _answer_cells(run, "tuned", _local(run, for_inference(model, dtype), tokenizer))
    gc.collect()


def _local(run: _Run, model: Any, tokenizer: Any) -> Engine:
    settings = run.settings
    return Engine(model, tokenizer, run.max_seq_length, settings.max_new_tokens, settings.batch_size)


def has_adapter(model: Any) -> bool:
    """Whether a model holds adapter layers of peft."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


def probe_sha256(model: Any, tokenizer: Any) -> str:
    """Hash of a model's logits on a fixed text: equal weights, equal hash."""
    ids = tokenizer(_PROBE, return_tensors="pt")["input_ids"].to(model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits.float().cpu()
    return hashlib.sha256(logits.numpy().tobytes()).hexdigest()


def _answer_cells(run: _Run, name: str, engine: Engine | RemoteEngine) -> None:
    """All cells of one model, test and validation questions, each distinct prompt once."""
    cells = [cell for cell in run.cells if cell.model == name]
    for shown in (False, True):
        group = [cell for cell in cells if (cell.context != "without") is shown]
        jobs = _jobs(run, group)
        if not jobs:
            continue
        label = f"{name} {'with' if shown else 'without'} passages"
        started = time.monotonic()
        found = _by_request(engine, [request for _, _, request in jobs], label)
        run.seconds[label] = round((time.monotonic() - started) / len(found), 3)
        for cell_name, question, request in jobs:
            run.answers[cell_name, question.id] = from_generation(question, request, found[request])


def _by_request(
    engine: Engine | RemoteEngine, requests: Sequence[Request], label: str
) -> dict[Request, Generation]:
    unique = list(dict.fromkeys(requests))
    return dict(zip(unique, engine.generate(unique, label), strict=True))


def _jobs(run: _Run, cells: Sequence[Cell]) -> list[tuple[str, Question, Request]]:
    """Cell name, question and request: test questions in each cell, validation ones for each threshold."""
    chunks, k = run.asked.chunks, run.top_k
    jobs = [(cell.name, q, request_for(q, cell, chunks, k)) for cell in cells for q in run.asked.test]
    for name in sorted({cell.calibration for cell in cells}):
        jobs += [(name, q, request_for(q, CELLS[name], chunks, k)) for q in run.asked.validation]
    return jobs


def _calibrations(run: _Run, inputs: EvalInputs, engine: str) -> Calibrations:
    """A threshold for each cell that is not an oracle cell."""
    thresholds = {}
    for name in sorted({cell.calibration for cell in run.cells}):
        answers = {q.id: run.answers[name, q.id] for q in run.asked.validation}
        thresholds[name] = calibrate(run.asked.validation, answers)
    return Calibrations(
        entry=inputs.entry.name,
        adapter_sha256=sha256_file(inputs.entry / ADAPTER),
        engine=engine,
        base=inputs.base.name,
        question_ids=[question.id for question in run.asked.validation],
        precision_check=run.precision_check,
        answers_in=run.answers_in,
        thresholds=thresholds,
    )
