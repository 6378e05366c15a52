"""Which model answers: the one asked for, the champion, the first of the list that loads, or none."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mark.answering.merging import for_inference
from mark.answering.refusal import Calibration
from mark.answering.remote import RemoteEngine, model_folder, remote_engine
from mark.config import AnswerServer, Serve
from mark.errors import ConfigError, EndpointError, GuardError, MarkError, ModelError
from mark.evaluation.calibration import LOCAL, Calibrations, Thresholds, thresholds_of
from mark.evaluation.engines import CALIBRATION
from mark.evaluation.precision import dtype_of_model
from mark.files import BASE_MODELS, CHAMPION, CHAMPION_COPY, MODELS
from mark.models.faults import USE_FAULTS, first_line
from mark.models.loading import load_model, preferred_dtype
from mark.models.source_file import base_sha256, read_source
from mark.pipeline.answer import Rule
from mark.pipeline.streaming import StreamingEngine
from mark.registry.champion import Champion, read_champion
from mark.registry.evaluated import of_another_adapter, stale_evaluation
from mark.registry.promotion import champion_folder
from mark.registry.view import adapter_sha256
from mark.untrusted import Neutraliser

log = logging.getLogger(__name__)

EXTRACTIVE = "extractive"
_OF_THE_SERVER = (EndpointError, ConfigError, GuardError)  # faults that every model would meet
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")


@dataclass(frozen=True)
class Candidate:
    """A model that may answer.

    Attributes:
        name: As it is reported.
        folder: As `load_model` takes it.
        rule: Why it stands where it stands.
        sha256: The adapter that it must hold; None: any.
    """

    name: str
    folder: str
    rule: Rule
    sha256: str | None = None


@dataclass(frozen=True)
class Limits:
    """What an engine needs to know, as the eval stage has it."""

    max_seq_length: int  # tokens, prompt and answer
    max_new_tokens: int
    batch_size: int
    server: AnswerServer | None = None  # that runs the models; None: this process does


@dataclass(frozen=True)
class Answerer:
    """A loaded model with its refusal rule.

    Attributes:
        name: Of the model.
        sha256: Of the adapter or of the base's weights; None without a model.
        rule: Why it answers.
        engine: None: the extractive answer.
        neutral: Makes text harmless for its prompt; None without a model.
        calibration: Its refusal rule; None: it refuses where greedy decoding does.
        note: Why there is no calibration, or that it is of another engine; "" where there is one.
    """

    name: str
    sha256: str | None
    rule: Rule
    engine: StreamingEngine | RemoteEngine | None
    neutral: Neutraliser | None
    calibration: Calibration | None
    note: str

    @property
    def ran_by(self) -> str:
        """The name of the engine."""
        return self.engine.name if isinstance(self.engine, RemoteEngine) else LOCAL


def candidates(serve: Serve, root: Path, asked_for: str | None = None) -> list[Candidate]:
    """Models in the order in which they are tried; the extractive answer is not among them.

    Args:
        serve: Section `serve`.
        root: The project's root.
        asked_for: The only candidate, where given.
    """
    if asked_for is not None:
        return [Candidate(asked_for, asked_for, "asked_for")]
    champion = _champion(root) if serve.policy == "auto" else None
    found = [] if champion is None else [champion]
    return found + [Candidate(name, name, "priority") for name in serve.priority]


def _champion(root: Path) -> Candidate | None:
    """The promoted entry; None where there is none or the file is damaged (logged)."""
    try:
        champion: Champion | None = read_champion(root)
    except MarkError as fault:
        log.warning("%s: it is ignored", first_line(fault))
        return None
    if champion is None:
        return None
    if not _NAME.fullmatch(champion.entry):
        log.warning("%s names no model (%r) and is ignored", root / CHAMPION, champion.entry)
        return None
    folder = champion_folder(root, champion)
    name = champion.entry if folder is None else folder.name
    return Candidate(champion.entry, name, "champion", champion.adapter_sha256)


def working(tried: Iterator[Candidate], root: Path, limits: Limits, dtype: torch.dtype | None) -> Answerer:
    """The first candidate that loads, else the extractive answer; the others are logged.

    Args:
        tried: Taken from until one loads.
        root: The project's root.
        limits: Of prompts and batches.
        dtype: Of the weights; None = what the hardware does best.

    Raises:
        ModelError: The model that was asked for by name does not load.
        EndpointError: The server that runs the models cannot be asked: no other model could be either.
    """
    for candidate in tried:
        if candidate.name == EXTRACTIVE:
            return without_model(root, candidate.rule)
        try:
            return _load(candidate, root, limits, dtype)
        except (MarkError, *USE_FAULTS) as fault:
            if limits.server is not None and isinstance(fault, _OF_THE_SERVER):
                raise
            if candidate.rule == "asked_for":
                raise fault if isinstance(fault, MarkError) else _broken(candidate, fault) from None
            missing = not any((root / place / candidate.folder).exists() for place in (MODELS, BASE_MODELS))
            why = "there is no such model" if missing else first_line(fault)
            log.log(logging.INFO if missing else logging.WARNING, "%s is skipped: %s", candidate.name, why)
    log.warning("no model loads: the best sentence of the best passage answers")
    return without_model(root, "fallback")


def _load(candidate: Candidate, root: Path, limits: Limits, dtype: torch.dtype | None) -> Answerer:
    if not _NAME.fullmatch(candidate.folder):
        raise ModelError(f"{candidate.name!r} is no name of a model; give one such as transformer_lora")
    sha256 = _sha256(root, candidate.folder)
    if candidate.sha256 not in (None, sha256):
        raise ModelError(
            f"models/{candidate.folder} holds another adapter than {CHAMPION} names; "
            f"`mark models promote {candidate.name}` promotes it anew"
        )
    engine: StreamingEngine | RemoteEngine
    if limits.server is None:
        engine, ran_by = _here(candidate, root, limits, dtype), LOCAL
    else:
        engine = _there(candidate, root, limits, limits.server)
        ran_by = engine.name
    calibration, note = _refusal_rule(candidate, sha256, root, ran_by)
    return Answerer(
        name=candidate.name,
        sha256=sha256,
        rule=candidate.rule,
        engine=engine,
        neutral=Neutraliser(engine.tokenizer),
        calibration=calibration,
        note=note,
    )


def _here(candidate: Candidate, root: Path, limits: Limits, dtype: torch.dtype | None) -> StreamingEngine:
    model, tokenizer, device = load_model(candidate.folder, root, torch.float32)
    if dtype is None:
        dtype = _dtype(candidate, root, device)
    model = for_inference(model, dtype)
    log.info("%s is merged and answers in %s", candidate.name, dtype)
    return StreamingEngine(model, tokenizer, limits.max_seq_length, limits.max_new_tokens, limits.batch_size)


def _dtype(candidate: Candidate, root: Path, device: torch.device) -> torch.dtype:
    """As eval answered; a damaged calibration is told where the refusal rule is read."""
    copied = candidate.folder == CHAMPION_COPY.name
    try:
        return dtype_of_model(candidate.folder if copied else candidate.name, root, device)
    except MarkError:
        return preferred_dtype(device)


def _there(candidate: Candidate, root: Path, limits: Limits, server: AnswerServer) -> RemoteEngine:
    folder = model_folder(candidate.folder, root)
    engine = remote_engine(
        folder, candidate.name, server, "serve.server", limits.max_seq_length, limits.max_new_tokens
    )
    log.info("%s answers through %s as %s", candidate.name, engine.name, engine.model)
    return engine


def without_model(root: Path, rule: Rule) -> Answerer:
    """The extractive answer."""
    calibration, note = _refusal_rule(Candidate(EXTRACTIVE, EXTRACTIVE, rule), None, root)
    return Answerer(EXTRACTIVE, None, rule, None, None, calibration, note)


def _refusal_rule(
    candidate: Candidate, sha256: str | None, root: Path, engine: str = LOCAL
) -> tuple[Calibration | None, str]:
    """The calibration that eval fitted for answers from passages; None and the reason where there is none.

    One that was fitted on answers of another engine is used, and a note says so: the model is the same, its
    numbers are not to the last digit.
    """
    until = "it never refuses" if candidate.name == EXTRACTIVE else "it refuses where greedy decoding does"
    try:
        found, stale, fitted_on = _calibration(candidate, sha256, root)
    except MarkError as fault:
        log.warning("%s", first_line(fault))
        return None, f"The calibration of {candidate.name} is damaged: {until}."
    if stale:
        return None, f"The calibration of {candidate.name} is of another adapter (`dvc repro eval`): {until}."
    if found is None:
        return None, f"{candidate.name} was never calibrated (`dvc repro eval`): {until}."
    if not found.fitted:
        counts = f"{found.answerable} answerable and {found.unanswerable} unanswerable validation questions"
        return None, f"The refusal rule of {candidate.name} could not be fitted ({counts}): {until}."
    if candidate.name != EXTRACTIVE and fitted_on != engine:
        return found, (
            f"The refusal rule of {candidate.name} was fitted on answers of the engine {fitted_on}, "
            f"{engine} answers now (`dvc repro eval` with that engine fits it anew)."
        )
    return found, ""


def _calibration(
    candidate: Candidate, sha256: str | None, root: Path
) -> tuple[Calibration | None, bool, str]:
    """What was fitted, None where nothing was; whether another adapter was answering then; which engine."""
    copy = root / CHAMPION_COPY
    if candidate.folder == CHAMPION_COPY.name and (copy / CALIBRATION).is_file() and sha256 is not None:
        kept = Calibrations.read(copy / CALIBRATION)
        return kept.thresholds.get("tuned_retrieval"), of_another_adapter(copy, sha256), kept.engine
    found: Thresholds = thresholds_of(candidate.name, root)
    if found.retrieval is None or sha256 is None or _is_base(root, candidate.folder):
        return found.retrieval, False, found.engine
    return found.retrieval, stale_evaluation(candidate.name, sha256, root) is not None, found.engine


def _is_base(root: Path, name: str) -> bool:
    return (root / BASE_MODELS / name / "config.json").is_file()


def _sha256(root: Path, name: str) -> str | None:
    """Of an entry its adapter, of a base its weights; None where there is no such model."""
    if _is_base(root, name):
        return base_sha256(read_source(root / BASE_MODELS / name))
    folder = root / MODELS / name
    return adapter_sha256(folder) if folder.is_dir() else None


def _broken(candidate: Candidate, fault: BaseException) -> ModelError:
    return ModelError(f"{candidate.name} cannot be loaded ({first_line(fault)}); choose another --model")
