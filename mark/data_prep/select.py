"""From candidates to examples: round trip through the retriever, caps, withheld passages."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mark.answering.quotes import find_quote, fold
from mark.config import DataPrep
from mark.data_prep.candidates import WEIGHTS, Candidate
from mark.data_prep.leak import HeldOutText
from mark.data_prep.ledger import KEPT, WITHHELD, WITHHELD_KIND, Book
from mark.data_prep.passage_copies import near_copies
from mark.data_prep.question_index import QuestionIndex
from mark.data_prep.unanswerable import NEAR_MISSES_AN_ASPECT, Foreign
from mark.files import sha256_text
from mark.prompting import REFUSAL, Passage
from mark.records import Chunk, Example, Split
from mark.retrieval import Hit, Retriever
from mark.seeding import derived_seed

BATCH = 256  # questions sent to the retriever at once
STYLE_SHARE = 0.55  # most that short (or full) answers may fill
ANSWER_SHARE = 0.03  # most that one answer text may fill ("the Commission")
WITHHELD_SHARE = 0.5  # of the unanswerable questions; the others are foreign to the corpus
# `aspect` stands for near misses too, see `unanswerable.close_questions`.
FOREIGN_SHARES = {"practice": 0.6, "aspect": 0.2, "bank": 0.15, "other_document": 0.05}

PageOf = Callable[[Chunk, int], int]


@dataclass(frozen=True)
class Shelf:
    """What a split may look at."""

    retriever: Retriever
    allowed: frozenset[str]  # chunk ids
    top_k: int  # passages that are retrieved
    shown: int  # of those, in a prompt
    page_of: PageOf
    documents: int  # among the chunks that may be asked about

    @cached_property
    def ids(self) -> list[str]:
        """Of the allowed chunks, in a fixed order."""
        return sorted(self.allowed)


@dataclass(frozen=True)
class _Asked:
    """A candidate and the meaning of its question."""

    candidate: Candidate
    vector: NDArray[np.float32]  # [dimension], unit length


@dataclass
class Selection:
    """One split being filled."""

    split: Split
    settings: DataPrep
    shelf: Shelf
    book: Book
    asked: QuestionIndex  # of all splits
    held_out: HeldOutText
    seed: int = 0
    rows: list[Example] = field(default_factory=list)
    _counts: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        limits: dict[Split, tuple[int, float]] = {
            "train": (self.settings.max_samples, self.settings.unanswerable_share),
            "val": (self.settings.max_val, self.settings.val_unanswerable_share),
            "test": (self.settings.max_test, self.settings.test_unanswerable_share),
        }
        self.target, self._refusal_share = limits[self.split]
        target = self.target
        self._refusals = round(self._refusal_share * target)
        self._answers = target - self._refusals
        self._withheld = round(WITHHELD_SHARE * self._refusals)
        by_chance = self.split == "train" and self.settings.distractors == "random"
        self._random = random.Random(derived_seed(self.seed, "distractors")) if by_chance else None

    def add_practice(self, candidates: Sequence[Candidate], share: float, shelf: Shelf) -> list[str]:
        """Take questions that people wrote, before any rule's.

        Args:
            candidates: In the order of preference.
            share: Most of the answerable examples, and of those whose passage is withheld, in [0, 1].
            shelf: Where their passages are looked for.

        Returns:
            What became of each candidate.
        """
        limit, withheld = round(share * self._answers), round(share * self._withheld)
        depth = 3 * shelf.top_k
        outcomes: list[str] = []
        waiting = iter(candidates)
        while batch := list(islice(waiting, BATCH)):
            if self._counts["answerable",] >= limit:
                outcomes += ["beyond_limit"] * len(batch)
                continue
            questions = [c.question for c in batch]
            found = shelf.retriever.search(questions, depth, shelf.allowed)
            for asked, hits in zip(self._asked(batch), found, strict=True):
                if self._counts["answerable",] >= limit:
                    outcomes.append("beyond_limit")
                    continue
                may_withhold = self._counts["withheld",] < withheld
                outcomes.append(self._judge_practice(asked, hits, may_withhold, shelf))
        return outcomes

    def _judge_practice(self, asked: _Asked, hits: Sequence[Hit], may_withhold: bool, shelf: Shelf) -> str:
        """Keep a question with the passages found for it; without its own it is unanswerable."""
        if fault := self._repeats(asked):
            return fault
        ranks = [hit.chunk.chunk_id for hit in hits]
        others = self._others(hits, shelf)
        if asked.candidate.chunk.chunk_id in ranks[: shelf.top_k]:
            self._keep(asked, self._shown(asked.candidate, ranks, others), withheld=False)
            return KEPT
        contexts = self._without_answer(asked.candidate, others) if may_withhold else []
        if not contexts:
            return "not_retrieved"
        self._keep(asked, contexts, withheld=True)
        return WITHHELD

    def _asked(self, batch: Sequence[Candidate]) -> list[_Asked]:
        vectors = self.shelf.retriever.encode([candidate.question for candidate in batch])
        return [_Asked(candidate, vector) for candidate, vector in zip(batch, vectors, strict=True)]

    def _repeats(self, asked: _Asked) -> str | None:
        """Whether the question was asked before, in any split, or its answer stands in held-out text."""
        if self.asked.near(asked.candidate.question, asked.vector) is not None:
            return "near_duplicate"
        if self.held_out.repeats(asked.candidate.answer, asked.candidate.quote) is not None:
            return "held_out_copy"
        return None

    def fill(self, candidates: Iterable[Candidate]) -> None:
        """Take candidates in order until the split is full; every one is entered in the book.

        At most `BATCH` candidates are in memory at a time.
        """
        waiting = iter(candidates)
        while not self._full():
            batch = self._batch(waiting)
            if not batch:
                break
            depth = max(self.settings.round_trip_k, 3 * self.shelf.top_k)
            found = self.shelf.retriever.search([c.question for c in batch], depth, self.shelf.allowed)
            for asked, hits in zip(self._asked(batch), found, strict=True):
                self._enter(asked.candidate, self._judge(asked, hits))
        for candidate in waiting:
            self._enter(candidate, "beyond_limit")

    def add_foreign(self, questions: dict[str, Iterator[Foreign]]) -> None:
        """Add questions that no passage answers, in proportion to what was kept."""
        share = self._refusal_share
        kept = sum(row.kind == "answerable" for row in self.rows)
        wanted = self._refusals if kept == self._answers or share >= 1 else round(kept * share / (1 - share))
        missing = max(0, wanted - sum(row.kind == "unanswerable" for row in self.rows))
        total = sum(FOREIGN_SHARES[name] for name in questions)
        for name in questions:
            rest = wanted - sum(row.kind == "unanswerable" for row in self.rows)
            self._add_kind(questions[name], min(rest, round(missing * FOREIGN_SHARES[name] / total)))
        for name in ("aspect", "bank"):  # what a family could not fill; close ones teach more
            rest = wanted - sum(row.kind == "unanswerable" for row in self.rows)
            if name in questions and rest > 0:
                self._add_kind(questions[name], rest)

    def wanted(self, documents: Sequence[str], practice: bool) -> dict[str, dict[str, float]]:
        """How many examples of each group there should be, for the balance report.

        Args:
            documents: Those that may be asked about.
            practice: Whether questions by people are among the candidates.
        """
        people = self.settings.practice_share * self._answers if practice else 0.0
        families = [*self.settings.rules, *(["llm"] if self.split == "train" and self.book.llm else [])]
        weights = {rule: WEIGHTS.get(rule, 1.0) for rule in families}
        rules = {rule: (self._answers - people) * w / sum(weights.values()) for rule, w in weights.items()}
        shares = {k: v for k, v in FOREIGN_SHARES.items() if practice or k != "practice"}
        shares["near_miss"] = shares["aspect"] * NEAR_MISSES_AN_ASPECT / (NEAR_MISSES_AN_ASPECT + 1)
        shares["aspect"] -= shares["near_miss"]
        foreign = (self._refusals - self._withheld) / sum(shares.values())
        return {
            "examples": {"all": self._answers + self._refusals},
            "kinds": {"answerable": self._answers, WITHHELD_KIND: self._withheld}
            | {kind: share * foreign for kind, share in shares.items()},
            "styles": {"short": self._answers / 2, "full": self._answers / 2},
            "rules": rules | ({"practice": people} if practice else {}),
            "documents": {name: self._answers / len(documents) for name in documents},
        }

    def _full(self) -> bool:
        return self._counts["answerable",] >= self._answers and self._counts["withheld",] >= self._withheld

    def _enter(self, candidate: Candidate, outcome: str) -> None:
        self.book.enter(self.split, candidate, outcome)

    def _batch(self, waiting: Iterator[Candidate]) -> list[Candidate]:
        batch: list[Candidate] = []
        needed = self._answers + self._withheld - self._counts["answerable",] - self._counts["withheld",]
        for candidate in waiting:
            if fault := self._cap(candidate):
                self._enter(candidate, fault)
                continue
            batch.append(candidate)
            if len(batch) >= min(BATCH, max(32, 2 * needed)):
                break
        return batch

    def _cap(self, candidate: Candidate) -> str | None:
        """Which cap a candidate would break, or None."""
        key = candidate.chunk
        limits: list[tuple[tuple[str, ...], float, str]] = [
            (("section", key.document, key.section), self.settings.max_per_section, "section_cap"),
            (("rule", candidate.rule), max(2, self.settings.max_rule_share * self._answers), "rule_cap"),
            (("document", key.document), self._document_limit(), "document_cap"),
            (("style", candidate.style), max(2, STYLE_SHARE * self._answers), "style_cap"),
            (("answer", candidate.answer.lower()), max(2, ANSWER_SHARE * self._answers), "answer_cap"),
            (("fact", key.chunk_id, candidate.answer), 2 if self.split == "train" else 1, "same_answer"),
        ]
        for name, limit, reason in limits:
            if self._counts[name] >= limit:
                return reason
        return None

    def _document_limit(self) -> float:
        """Most answerable examples of one document; never less than twice an even share."""
        share = max(self.settings.max_document_share, 2 / max(1, self.shelf.documents))
        return max(2, share * self._answers)

    def _judge(self, asked: _Asked, hits: Sequence[Hit]) -> str:
        """Keep or drop one retrieved candidate."""
        candidate = asked.candidate
        if self._full():
            return "beyond_limit"
        if fault := self._cap(candidate) or self._repeats(asked):
            return fault
        ranks = [hit.chunk.chunk_id for hit in hits]
        source = candidate.chunk.chunk_id
        if source not in ranks[: self.settings.round_trip_k]:
            return "round_trip"
        seen = source in ranks[: self.shelf.top_k]
        others = self._others(hits, self.shelf)
        if self._may_withhold():
            contexts = self._without_answer(candidate, others)
            if contexts:
                self._keep(asked, contexts, withheld=True)
                return WITHHELD
        if not seen:
            return "not_retrieved"
        if self._counts["answerable",] >= self._answers:
            return "beyond_limit"
        self._keep(asked, self._shown(candidate, ranks, others), withheld=False)
        return KEPT

    def _may_withhold(self) -> bool:
        """In proportion to what is answerable so far, so that a small corpus keeps its few answers."""
        answerable, withheld = self._counts["answerable",], self._counts["withheld",]
        if withheld >= self._withheld or answerable >= self._answers:
            return withheld < self._withheld
        return withheld * self._answers < answerable * self._withheld

    def _others(self, hits: Sequence[Hit], shelf: Shelf) -> list[Chunk]:
        """What may stand beside the source: what was retrieved, or for an ablation as many at random."""
        if self._random is None:
            return [hit.chunk for hit in hits]
        ids = self._random.sample(shelf.ids, min(len(hits), len(shelf.ids)))
        return [shelf.retriever.chunks[chunk_id] for chunk_id in ids]

    def _shown(self, candidate: Candidate, ranks: Sequence[str], others: Sequence[Chunk]) -> list[str]:
        """The source and the best of the others, in rank order, or in a random one where they are random."""
        source = candidate.chunk.chunk_id
        beside = [chunk.chunk_id for chunk in others[: self.shelf.top_k] if chunk.chunk_id != source]
        beside = beside[: self.shelf.shown - 1]
        if self._random is not None:
            return self._random.sample([source, *beside], 1 + len(beside))
        return [chunk_id for chunk_id in ranks if chunk_id == source or chunk_id in beside]

    def _without_answer(self, candidate: Candidate, found: Sequence[Chunk]) -> list[str]:
        """Those of the found chunks that do not hold the answer, the next ones moved up."""
        answer = fold(candidate.answer).lower()
        others = [chunk for chunk in found if chunk.chunk_id != candidate.chunk.chunk_id]
        clean = [chunk for chunk in others if answer not in fold(chunk.text).lower()]
        copies = near_copies(clean, [candidate.chunk])
        return [chunk.chunk_id for chunk in clean if chunk.chunk_id not in copies][: self.shelf.shown]

    def _keep(self, asked: _Asked, contexts: list[str], withheld: bool) -> None:
        candidate, chunk = asked.candidate, asked.candidate.chunk
        quote = find_quote(candidate.quote, [Passage.from_chunk(chunk)]) or find_quote(
            candidate.answer, [Passage.from_chunk(chunk)]
        )
        if withheld or quote is None:
            text, page = None, None
        else:
            page = self.shelf.page_of(chunk, quote.start) if chunk.pages else None
            text = fold(quote.text)
        self.asked.add(candidate.question, asked.vector)
        self.rows.append(
            Example(
                example_id=self._id(candidate.question, chunk.chunk_id),
                split=self.split,
                question=candidate.question,
                contexts=contexts,
                answers=[REFUSAL] if withheld else [candidate.answer],
                quote=text,
                page=page,
                kind="unanswerable" if withheld else "answerable",
                style=candidate.style,
                rule_id=candidate.rule,
                document=chunk.document,
                section=chunk.section,
                source_chunk=None if withheld else chunk.chunk_id,
            )
        )
        self._counts["withheld" if withheld else "answerable",] += 1
        self._counts["section", chunk.document, chunk.section] += 1
        self._counts["fact", chunk.chunk_id, candidate.answer] += 1
        if not withheld:
            self._counts["rule", candidate.rule] += 1
            self._counts["document", chunk.document] += 1
            self._counts["style", candidate.style] += 1
            self._counts["answer", candidate.answer.lower()] += 1

    def _add_kind(self, questions: Iterator[Foreign], wanted: int) -> None:
        while wanted > 0:
            # No more than wanted: the splits share a bank.
            batch = [q for _, q in zip(range(wanted), questions, strict=False)]
            if not batch:
                return
            found = self.shelf.retriever.search(
                [q.question for q in batch], self.shelf.shown, self.shelf.allowed
            )
            vectors = self.shelf.retriever.encode([q.question for q in batch])
            for foreign, hits, vector in zip(batch, found, vectors, strict=True):
                outcome = self._judge_foreign(foreign, hits, vector)
                self.book.foreign[foreign.rule][outcome] += 1
                wanted -= outcome == WITHHELD

    def _judge_foreign(self, foreign: Foreign, hits: Sequence[Hit], vector: NDArray[np.float32]) -> str:
        """Keep or drop a question that no passage answers."""
        if self.asked.near(foreign.question, vector) is not None:
            return "near_duplicate"
        if not hits:
            return "no_passage"
        shown = self._others(hits, self.shelf)
        if foreign.forbidden and any(foreign.forbidden.search(chunk.text) for chunk in shown):
            return "might_be_answered"
        self.asked.add(foreign.question, vector)
        self.rows.append(self._foreign_row(foreign, [chunk.chunk_id for chunk in shown]))
        return WITHHELD

    def _foreign_row(self, foreign: Foreign, contexts: list[str]) -> Example:
        return Example(
            example_id=self._id(foreign.question, ""),
            split=self.split,
            question=foreign.question,
            contexts=contexts,
            answers=[REFUSAL],
            quote=None,
            page=None,
            kind="unanswerable",
            style="short",
            rule_id=foreign.rule,
            document=None,
            section=None,
            source_chunk=None,
        )

    def _id(self, question: str, chunk_id: str) -> str:
        return f"{self.split}-{sha256_text(question + chr(31) + chunk_id)[:12]}"
