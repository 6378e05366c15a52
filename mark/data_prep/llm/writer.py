"""Passages in, drafts of questions out: chooses, masks, asks what the cache does not know, reads replies."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mark.answering.quotes import find_quote, fold
from mark.config import SETUP_MODE, DataPrep, setup_mode
from mark.data_prep.candidates import MAX_QUESTION_WORDS, Candidate
from mark.data_prep.llm.account import Account
from mark.data_prep.llm.cache import Reply, ReplyCache
from mark.data_prep.llm.endpoint import Endpoint, Stopped, host_of, read_key
from mark.data_prep.llm.estimate import Estimate, estimate
from mark.data_prep.llm.masking import Masked, chosen_finder, has_unknown_mark, mask
from mark.data_prep.llm.prompts import first_messages, request_body, second_messages
from mark.data_prep.llm.replies import Item, Parsed, parse_reply
from mark.data_prep.phrases import content_words, dangles
from mark.data_prep.sentences import statements
from mark.data_prep.unanswerable import Foreign
from mark.errors import GuardError
from mark.files import LLM_CACHE
from mark.prompting import Passage
from mark.records import Chunk
from mark.seeding import derived_seed

log = logging.getLogger(__name__)

RULE = "llm"  # rule_id of the examples
FILTERED = "content_filter"
_LEAST_CHARS = 40  # of a passage worth a request; characters, since not every script parts its words
_LEAST_CONTENT_WORDS = 3  # of a question, as in `cheap_fault`
_SHORT_WORDS = 10  # a longer answer counts as full


@dataclass(frozen=True)
class Drafts:
    """What the model wrote, before any filter of data_prep."""

    candidates: list[tuple[Candidate, str | None]] = field(default_factory=list)  # with a fault found here
    foreign: list[Foreign] = field(default_factory=list)
    account: Account | None = None


@dataclass(frozen=True)
class _Task:
    """One passage and its first request."""

    chunk: Chunk
    masked: Masked
    body: dict[str, Any]


@dataclass(frozen=True)
class _Answer:
    """The reply that counts."""

    parsed: Parsed | None
    filtered: bool
    again: bool


class QuestionWriter:
    """Asks the endpoint of `data_prep.llm` for questions; with a full cache it sends nothing."""

    def __init__(self, settings: DataPrep, cache_folder: Path, seed: int, confirmed: bool = False) -> None:
        """Remember what to ask; nothing is sent or read yet.

        Args:
            settings: The section `data_prep`.
            cache_folder: Where replies are kept between runs.
            seed: The run's seed; it orders passages and spreads pauses, and is not sent.
            confirmed: The user saw the estimate and agreed (`--confirm`).
        """
        self._prep = settings
        self._llm = settings.llm
        self._cache = ReplyCache(cache_folder)
        self._seed = seed
        self._confirmed = confirmed or settings.llm.confirmed

    def estimate(self, chunks: Sequence[Chunk]) -> Estimate:
        """What `write` would send for these passages now.

        Raises:
            ConfigError: Masking is on and what it needs is missing.
        """
        return self._estimate(self._tasks(chunks))

    def write(self, chunks: Sequence[Chunk]) -> Drafts:
        """Questions about passages.

        Args:
            chunks: Of the training split alone, without copies of held-out text.

        Returns:
            Drafts in the order of the chosen passages, the same whether replies are new or cached.

        Raises:
            GuardError: Something would be sent and the estimate is not confirmed.
            ConfigError: Masking or the key is missing.
            EndpointError: The endpoint refused or failed; replies so far are kept.
        """
        tasks = self._tasks(chunks)
        planned = self._estimate(tasks)
        if planned.requests:
            self._check(planned)
            self._send(tasks, planned)
        return self._drafts(tasks)

    def _tasks(self, chunks: Sequence[Chunk]) -> list[_Task]:
        find = chosen_finder(self._llm)
        tasks = []
        for chunk in chosen_passages(chunks, self._llm.max_passages, self._seed):
            masked = mask((chunk.title, " > ".join(chunk.heading_path), chunk.text), find)
            title, heading, text = masked.texts
            messages = first_messages(
                (title, heading, text), list(masked.values), self._llm, self._prep.max_answer_words
            )
            tasks.append(_Task(chunk, masked, request_body(messages, self._llm)))
        return tasks

    def _estimate(self, tasks: Sequence[_Task]) -> Estimate:
        pending: dict[str, dict[str, Any]] = {}
        cached = 0
        for task in tasks:
            missing = self._missing(task)
            if missing is None:
                cached += 1
            else:
                pending[ReplyCache.key(missing)] = missing
        return estimate(list(pending.values()), cached, self._llm)

    def _missing(self, task: _Task) -> dict[str, Any] | None:
        """The next request about a passage that the cache does not hold."""
        first = self._cache.get(task.body)
        if first is None:
            return task.body
        if _settled(first):
            return None
        again = self._second(task, first)
        return again if self._cache.get(again) is None else None

    def _second(self, task: _Task, first: Reply) -> dict[str, Any]:
        return request_body(second_messages(task.body["messages"], first.text), self._llm)

    def _check(self, planned: Estimate) -> None:
        """Refuse to send what nobody agreed to."""
        host = host_of(self._llm)
        if setup_mode():
            raise GuardError(f"nothing is sent to {host} while {SETUP_MODE} is set; unset it to send")
        if not self._confirmed:
            raise GuardError(
                f"data_prep.llm would send to {host}: {planned}; agree with `mark data-prep --confirm`, "
                "or with data_prep.llm.confirmed=true for `dvc repro`"
            )

    def _send(self, tasks: Sequence[_Task], planned: Estimate) -> None:
        """Fill the cache; one process at a time, so that nothing is paid for twice."""
        from filelock import FileLock

        key = read_key(self._llm)
        names = {
            "presidio": "masked",
            "patterns": "masked by patterns (names of people stay)",
            "none": "NOT masked",
        }
        log.info(
            "data_prep.llm sends passages of the training split, %s, to %s (model %s): %s",
            names[self._llm.masking], host_of(self._llm), self._llm.model, planned,
        )  # fmt: skip
        self._cache.make_folder()
        with FileLock(self._cache.folder / "lock"), _opened(Endpoint(self._llm, key, self._seed)) as endpoint:
            endpoint.warn_of_plain_http()
            self._ask_all(tasks, endpoint)

    def _ask_all(self, tasks: Sequence[_Task], endpoint: Endpoint) -> None:
        spent: Counter[str] = Counter()
        lock = threading.Lock()

        def ask(body: dict[str, Any]) -> Reply:
            known = self._cache.get(body)
            if known is not None:
                return known
            reply = endpoint.ask(body)
            self._cache.put(body, reply)
            with lock:
                spent["requests"] += 1
                spent["input"] += reply.input_tokens or 0
                spent["output"] += reply.output_tokens or 0
                if spent["requests"] % 50 == 0:
                    log.info("data_prep.llm: %d replies", spent["requests"])
            return reply

        def ask_about(task: _Task) -> None:
            first = ask(task.body)
            if not _settled(first):
                ask(self._second(task, first))

        different = {ReplyCache.key(task.body): task for task in tasks}
        try:
            _in_parallel(ask_about, list(different.values()), self._llm.concurrency, endpoint)
        finally:
            log.info(
                "data_prep.llm: %d replies came, %d tokens sent and %d received as the endpoint counts them",
                spent["requests"], spent["input"], spent["output"],
            )  # fmt: skip

    def _drafts(self, tasks: Sequence[_Task]) -> Drafts:
        counts: Counter[str] = Counter(passages=len(tasks))
        drafts = Drafts()
        for task in tasks:
            answer = self._answer(task)
            counts["masked_values"] += len(task.masked.values)
            counts["asked_again"] += answer.again
            counts["filtered"] += answer.filtered
            if answer.parsed is None:
                counts["wrong_json"] += not answer.filtered
                continue
            counts["readable"] += 1
            counts["items"] += len(answer.parsed.items) + answer.parsed.malformed
            counts["malformed"] += answer.parsed.malformed
            for number, item in enumerate(answer.parsed.items):
                counts[self._add(drafts, task, item, number)] += 1
        return Drafts(drafts.candidates, drafts.foreign, Account(**counts))

    def _answer(self, task: _Task) -> _Answer:
        """The cached reply that counts; `write` has filled the cache."""
        reply = self._cache.get(task.body)
        assert reply is not None
        again = not _settled(reply)
        if again:
            reply = self._cache.get(self._second(task, reply))
            assert reply is not None
        filtered = reply.finish == FILTERED
        return _Answer(None if filtered else parse_reply(reply.text), filtered, again)

    def _add(self, drafts: Drafts, task: _Task, item: Item, number: int) -> str:
        """Enter one item; the name of the account's line that counts it."""
        question = fold(task.masked.restore(item.question))
        answer = task.masked.restore(item.answer or "")
        if has_unknown_mark(f"{question} {answer}", task.masked):
            return "unknown_placeholder"
        if item.answer is not None:
            drafts.candidates.append(_candidate(task.chunk, question, answer, number))
            return "answerable"
        missing = [re.escape(task.masked.restore(word)) for word in item.missing]
        forbidden = re.compile(rf"(?<!\w)(?:{'|'.join(missing)})(?!\w)", re.I)
        if forbidden.search(task.chunk.text):
            return "perhaps_answerable"
        if _unfit(question):
            return "unfit"
        drafts.foreign.append(Foreign(question, RULE, forbidden))
        return "unanswerable"


def writer_for(settings: DataPrep, root: Path, seed: int, confirmed: bool = False) -> QuestionWriter | None:
    """The writer that `data_prep.llm` asks for; None while it is off.

    Args:
        settings: The section `data_prep`.
        root: The project's root, where the cache lies.
        seed: The run's seed.
        confirmed: The user agreed to the estimate on the command line.
    """
    if not settings.llm.enabled:
        return None
    return QuestionWriter(settings, root / LLM_CACHE, seed, confirmed)


def chosen_passages(chunks: Sequence[Chunk], limit: int, seed: int) -> list[Chunk]:
    """Passages with enough text, in a seeded order of their own: a new document moves few of them.

    Args:
        chunks: All that may be asked about.
        limit: Most passages.
        seed: The run's seed.
    """
    worth = [chunk for chunk in chunks if len(chunk.text) >= _LEAST_CHARS]
    ordered = sorted(worth, key=lambda c: (derived_seed(seed, "llm", c.chunk_id), c.chunk_id))
    return ordered[:limit]


def _candidate(chunk: Chunk, question: str, answer: str, number: int) -> tuple[Candidate, str | None]:
    """A draft with its answer as it stands in the passage, and `not_verbatim` where it stands nowhere."""
    found = find_quote(answer, [Passage.from_chunk(chunk)])
    exact = fold(answer if found is None else found.text)
    around = [s.text for s in statements(chunk) if exact in s.text]
    candidate = Candidate(
        question=question,
        answer=exact,
        style="short" if len(exact.split()) <= _SHORT_WORDS else "full",
        rule=RULE,
        quote=min(around, key=len) if around else exact,
        chunk=chunk,
        variant=0,
        draft=f"{chunk.chunk_id}/{RULE}/{number}",
    )
    return candidate, "not_verbatim" if found is None else None


def _unfit(question: str) -> bool:
    """What the filters of answerable drafts ask of a question, asked of one without an answer."""
    return (
        dangles(question)
        or len(question.split()) > MAX_QUESTION_WORDS
        or len(content_words(question)) < _LEAST_CONTENT_WORDS
    )


def _settled(reply: Reply) -> bool:
    """Whether a first reply needs no second one."""
    return reply.finish == FILTERED or parse_reply(reply.text) is not None


@contextmanager
def _opened(endpoint: Endpoint) -> Iterator[Endpoint]:
    try:
        yield endpoint
    finally:
        endpoint.close()


def _in_parallel(
    work: Callable[[_Task], None], tasks: Sequence[_Task], workers: int, endpoint: Endpoint
) -> None:
    """Run all; the first failure wakes and ends the others, whose replies under way are still kept."""
    with ThreadPoolExecutor(workers, thread_name_prefix="llm") as pool:
        futures: list[Future[None]] = [pool.submit(work, task) for task in tasks]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            endpoint.stop()
            for future in futures:
                future.cancel()
    faults = [future.exception() for future in futures if not future.cancelled()]
    for fault in faults:
        if fault is not None and not isinstance(fault, Stopped):
            raise fault from None
