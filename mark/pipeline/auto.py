"""AutoPipeline: a question in, a checked answer out, by the path that the eval stage measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import RLock

import torch

from mark.answering.engine import Request
from mark.config import Retrieval, project_params
from mark.errors import ConfigError, MarkError, ModelError
from mark.evaluation.cells import (
    CELLS,
    Decision,
    decide,
    extractive,
    from_generation,
    request_for,
)
from mark.evaluation.cells import Answer as Proposal
from mark.evaluation.questions import Question
from mark.files import CHUNKS, git_root
from mark.ingest.index import read_index
from mark.models.faults import first_line
from mark.pipeline.answer import Answer, Context, Seconds
from mark.pipeline.checking import Checked, QuoteCheck
from mark.pipeline.choice import Answerer, Limits, candidates, without_model, working
from mark.pipeline.disclosure import InstructionGuard
from mark.pipeline.documents import Documents
from mark.pipeline.draft import Draft, Listener
from mark.pipeline.journal import Journal
from mark.pipeline.question import checked_question
from mark.pipeline.usage import Usage, count_usage
from mark.prompting import REFUSAL
from mark.records import Chunk

log = logging.getLogger(__name__)

_CELL = CELLS["tuned_retrieval"]  # the cell of the grid that serving is
_FAULTS = (RuntimeError, MemoryError)  # a GPU out of memory is a RuntimeError
Proposed = tuple[Answerer, Proposal]  # who answers, and what
LOADING = RLock()  # transformers patches its own classes while it loads: two threads leave them patched


class AutoPipeline:
    """Answers questions about the project's documents; loads once, may be shared by threads.

    Example:
        >>> from mark import AutoPipeline
        >>> AutoPipeline().process_query("Who keeps the accounts?").text
    """

    def __init__(
        self,
        root: Path | None = None,
        model: str | None = None,
        top_k: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Open the documents and the model.

        Args:
            root: The project's root; by default found from the working folder.
            model: The name of an entry or a base model, or `extractive`; None = by `serve.policy`.
            top_k: Passages a question; None = `retrieval.top_k`.
            dtype: Of the weights; None = what the hardware does best, as in the eval stage.

        Raises:
            ConfigError: A setting or `top_k` is out of range.
            DataError: Nothing was ingested.
            ModelError: `model` does not load, or the embedder is missing.
            EndpointError: `serve.server` runs the models and cannot be asked.
        """
        self._root = git_root() if root is None else root
        params = project_params(self._root)
        self._serve, self._ingest = params.serve, params.ingest
        self._retrieval = _with_top_k(params.retrieval, top_k)
        limits = Limits(
            max_seq_length=params.train.max_seq_length,
            max_new_tokens=params.eval.max_new_tokens,
            batch_size=params.serve.batch_size,
            server=params.serve.server if params.serve.engine == "openai" else None,
        )
        self._lock = RLock()
        self._journal = Journal(self._root, params.serve.journal)
        read_index(self._root / CHUNKS.parent)  # what is missing is said before anything is loaded
        left = iter(candidates(self._serve, self._root, model))
        self._next: Callable[[], Answerer] = lambda: working(left, self._root, limits, dtype)
        with LOADING:
            self._answerer = self._next()
            self._documents = self._open()

    @property
    def model(self) -> str:
        """The name of the model that answers."""
        return self._answerer.name

    def process_query(self, question: str, listener: Listener | None = None) -> Answer:
        """Answer one question.

        Args:
            question: In plain language; on its own, without what was asked before.
            listener: Called after each token with the new piece of the answer, "" where it is held back: a
                draft that the refusal rule has not seen. Quotations are held back until they are checked.
                What it raises ends the writing.

        Raises:
            DataError: The question is empty or too long.
        """
        return self._process([question], listener)[0]

    def process_queries(self, questions: Sequence[str]) -> list[Answer]:
        """Answer many questions together, in their order; the answers are those of `process_query`.

        Raises:
            DataError: A question is empty or too long.
        """
        return self._process(questions, None)

    def usage(self, answer: Answer) -> Usage:
        """Tokens of the last answers of this pipeline."""
        with self._lock:
            return count_usage(answer, self._answerer)

    def _process(self, questions: Sequence[str], listener: Listener | None) -> list[Answer]:
        limit = self._serve.max_question_chars
        texts = [checked_question(question, limit) for question in questions]
        if not texts:
            return []
        with self._lock:
            self._refresh()
            marks = [time.perf_counter()]
            asked = self._documents.contexts_for(texts, self._retrieval.top_k)
            marks.append(time.perf_counter())
            draft = None if listener is None else self._draft(asked[0], listener)
            proposals = self._propose(asked, draft)
            marks.append(time.perf_counter())
            checked = [self._decide(*one) for one in zip(texts, proposals, strict=True)]
            if draft is not None:
                draft.finish(proposals[0][1].text)
            marks.append(time.perf_counter())
            seconds = _seconds(marks, len(texts))
            answers = [
                self._answer(text, proposed, *result, seconds)
                for text, proposed, result in zip(texts, proposals, checked, strict=True)
            ]
        self._journal.write(answers)
        return answers

    def _refresh(self) -> None:
        """Open the documents again where ingest has changed them; half-written ones have to wait."""
        if not self._documents.changed():
            return
        log.info("the documents have changed: opening them again")
        try:
            with LOADING:
                self._documents = self._open()
        except MarkError as fault:
            log.warning("answering from the documents as they were: %s", first_line(fault))

    def _open(self) -> Documents:
        return Documents.open(self._root, self._retrieval, self._ingest, self._serve.search)

    def _propose(self, asked: Sequence[Question], draft: Draft | None) -> list[Proposed]:
        """Answers before refusal and checks, each with who gave it; a failed batch is asked one by one."""
        try:
            return self._generate(asked, draft)
        except _FAULTS as fault:
            self._may_fail(fault)
        if len(asked) > 1:
            return [one for question in asked for one in self._propose([question], None)]
        return self._again(asked, draft)

    def _again(self, asked: Sequence[Question], draft: Draft | None) -> list[Proposed]:
        """Once more; the model gives way only where it is at fault, not where this question is."""
        while True:
            try:
                return self._generate(asked, draft)
            except _FAULTS as fault:
                self._may_fail(fault)
                if not _out_of_memory(fault) and self._works():
                    return self._extract(asked)
                with LOADING:
                    self._answerer = self._next()

    def _may_fail(self, fault: BaseException) -> None:
        """Log the fault of a model that another one can stand in for.

        Raises:
            ModelError: It was asked for by name.
        """
        used = self._answerer
        log.warning("%s failed while answering: %s", used.name, first_line(fault))
        if used.engine is None:
            raise fault
        if used.rule == "asked_for":
            raise ModelError(f"{used.name} failed while answering ({first_line(fault)})") from fault

    def _works(self) -> bool:
        """Whether the model still answers a plain question."""
        assert self._answerer.engine is not None
        try:
            self._answerer.engine.generate([Request("Who?")], label=None)
        except _FAULTS:
            return False
        return True

    def _extract(self, asked: Sequence[Question]) -> list[Proposed]:
        """The best sentence, for a question that the model fails at."""
        note = f"{self._answerer.name} failed at this question: this is the best sentence of the passages."
        stand_in = replace(without_model(self._root, "fallback"), note=note)
        chunks, top_k = self._documents.retriever.chunks, self._retrieval.top_k
        return [(stand_in, extractive(question, chunks, top_k)) for question in asked]

    def _generate(self, asked: Sequence[Question], draft: Draft | None) -> list[Proposed]:
        chunks, top_k = self._documents.retriever.chunks, self._retrieval.top_k
        engine, neutral = self._answerer.engine, self._answerer.neutral
        if engine is None or neutral is None:
            return [(self._answerer, extractive(question, chunks, top_k)) for question in asked]
        harmless = {i: neutral.chunk(chunks[i]) for question in asked for i in question.contexts or ()}
        requests = [
            request_for(_with_text(question, neutral.text(question.question)), _CELL, harmless, top_k)
            for question in asked
        ]
        engine.listener = None if draft is None else draft.hear
        try:
            found = engine.generate(requests, label=None)
        finally:
            engine.listener = None
        answers = [from_generation(*one) for one in zip(asked, requests, found, strict=True)]
        return [(self._answerer, answer) for answer in answers]

    def _decide(self, question: str, proposed: Proposed) -> tuple[Decision, Checked]:
        used, proposal = proposed
        decision = decide(proposal, used.calibration)
        shown = [passage.chunk_id for passage in proposal.passages]
        if not decision.refused and self._guard_of(question, shown, bool(shown)).discloses(decision.text):
            decision = Decision(REFUSAL, True, decision.probability)
        if decision.refused:
            return decision, Checked(decision.text, [], supported=False, removed=0)
        checked = self._check_of(shown).check(decision.text)
        if checked.removed == 0 or any(char.isalnum() for char in checked.text):
            return decision, checked
        # nothing but invented quotations
        return Decision(REFUSAL, True, decision.probability), Checked(REFUSAL, [], False, checked.removed)

    def _draft(self, asked: Question, listener: Listener) -> Draft:
        shown = asked.contexts or ()
        with_passages = None if shown else False  # a long question may leave no room for them
        guard = self._guard_of(asked.question, shown, with_passages)
        return Draft(self._check_of(shown), guard, listener)

    def _guard_of(
        self, question: str, chunk_ids: Sequence[str], with_passages: bool | None
    ) -> InstructionGuard:
        chunks = [self._documents.retriever.chunks[i] for i in chunk_ids]
        told = [question, *(text for chunk in chunks for text in (chunk.heading, chunk.text))]
        return InstructionGuard(told, with_passages)

    def _check_of(self, chunk_ids: Sequence[str]) -> QuoteCheck:
        chunks = self._documents.retriever.chunks
        return QuoteCheck([chunks[i] for i in chunk_ids], self._documents.pages)

    def _answer(
        self, question: str, proposed: Proposed, decision: Decision, checked: Checked, seconds: Seconds
    ) -> Answer:
        used, proposal = proposed
        notes = [used.note] if used.note else []
        if checked.removed:
            notes.append(f"{checked.removed} quotations were taken out: the passages do not hold them.")
        chunks = self._documents.retriever.chunks
        return Answer(
            question=question,
            text=checked.text,
            quotes=checked.quotes,
            refused=decision.refused,
            supported=checked.supported,
            refusal_probability=round(decision.probability, 6),
            refusal_calibrated=used.calibration is not None,
            contexts=[_context(chunks[p.chunk_id], p.text) for p in proposal.passages],
            model=used.name,
            model_sha256=used.sha256,
            engine=used.ran_by,
            rule=used.rule,
            notes=notes,
            seconds=seconds,
        )


def _with_top_k(settings: Retrieval, top_k: int | None) -> Retrieval:
    if top_k is None:
        return settings
    if not 1 <= top_k <= 20:
        raise ConfigError(f"top_k: {top_k} found, 1 to 20 passages are allowed")
    return settings.model_copy(update={"top_k": top_k})


def _out_of_memory(fault: BaseException) -> bool:
    """On a GPU, or on a CPU, where torch raises a plain RuntimeError."""
    named = isinstance(fault, MemoryError | torch.OutOfMemoryError)
    return named or "can't allocate memory" in str(fault)


def _with_text(question: Question, text: str) -> Question:
    return question if text == question.question else replace(question, question=text)


def _context(chunk: Chunk, shown: str) -> Context:
    return Context(
        chunk_id=chunk.chunk_id,
        document=chunk.document,
        title=chunk.title,
        heading=" > ".join(chunk.heading_path),
        pages=chunk.pages,
        text=shown,
    )


def _seconds(marks: Sequence[float], questions: int) -> Seconds:
    """The stretches between four moments, for one of several questions."""
    parts = [(after - before) / questions for before, after in pairwise(marks)]
    retrieval, generation, checks = parts
    total = (marks[-1] - marks[0]) / questions
    return Seconds(retrieval=retrieval, generation=generation, checks=checks, total=total)
