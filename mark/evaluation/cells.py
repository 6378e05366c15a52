"""The cells of the grid: which model answers from which passages, and the predictions that come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mark.answering.engine import Generation, Request
from mark.answering.extractive import extract
from mark.answering.quotes import find_quote
from mark.answering.refusal import Calibration, Evidence, is_refusal
from mark.evaluation.metrics import score
from mark.evaluation.questions import Question
from mark.prompting import REFUSAL, Passage
from mark.records import Chunk, Prediction

Model = Literal["base", "tuned", "extractive"]
Context = Literal["without", "retrieval", "oracle"]


@dataclass(frozen=True)
class Cell:
    """One column of the experiment: a model and what it is shown."""

    name: str
    model: Model
    context: Context

    @property
    def calibration(self) -> str:
        """The name of the threshold that applies: oracle passages share that of retrieval."""
        if self.model == "extractive":
            return self.name
        return self.model if self.context == "without" else f"{self.model}_retrieval"


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("base", "base", "without"),
        Cell("base_retrieval", "base", "retrieval"),
        Cell("base_oracle", "base", "oracle"),
        Cell("tuned", "tuned", "without"),
        Cell("tuned_retrieval", "tuned", "retrieval"),
        Cell("tuned_oracle", "tuned", "oracle"),
        Cell("extractive", "extractive", "retrieval"),
    )
}


@dataclass(frozen=True)
class Answer:
    """What a cell makes of a question before the refusal rule is applied."""

    text: str
    raw_text: str
    evidence: Evidence
    passages: tuple[Passage, ...]  # as shown


def passages_for(
    question: Question, context: Context, chunks: Mapping[str, Chunk], top_k: int
) -> tuple[Passage, ...]:
    """The passages that a cell shows, best first.

    Oracle passages are the gold chunks, then the retrieved ones; for an unanswerable question they are the
    retrieved ones.
    """
    if context == "without":
        return ()
    ids = list(question.contexts or ())
    if context == "oracle" and question.gold:
        ids = [*question.gold, *(i for i in ids if i not in question.gold)]
    return tuple(Passage.from_chunk(chunks[i]) for i in ids[:top_k])


def request_for(question: Question, cell: Cell, chunks: Mapping[str, Chunk], top_k: int) -> Request:
    """What the engine is asked in a cell."""
    return Request(question.question, passages_for(question, cell.context, chunks, top_k))


def from_generation(question: Question, request: Request, generation: Generation) -> Answer:
    """A language model's answer."""
    similarity = _similarity(question, request.passages)
    evidence = Evidence(generation.refusal_probability, generation.mean_logprob, similarity)
    return Answer(generation.text, generation.raw_text, evidence, generation.passages_shown)


def extractive(question: Question, chunks: Mapping[str, Chunk], top_k: int) -> Answer:
    """The baseline's answer: no model."""
    passages = passages_for(question, "retrieval", chunks, top_k)
    found = extract(question.question, passages)
    evidence = Evidence(found.uncovered, similarity=_similarity(question, passages))
    return Answer(found.text, found.text, evidence, passages)


def _similarity(question: Question, passages: Sequence[Passage]) -> float | None:
    """The largest cosine of the question with a passage that it was asked with."""
    known = question.cosines or {}
    return max((known[p.chunk_id] for p in passages if p.chunk_id in known), default=None)


@dataclass(frozen=True)
class Decision:
    """An answer after the refusal rule.

    Attributes:
        text: The refusal, or the answer.
        refused: Whether it is the refusal.
        probability: The refusal probability that decided.
    """

    text: str
    refused: bool
    probability: float


def decide(answer: Answer, calibration: Calibration | None) -> Decision:
    """Apply the refusal rule; without one (None) the model refuses where greedy decoding does."""
    text = answer.raw_text if calibration is None else answer.text
    refused, probability = is_refusal(text), answer.evidence.refusal_probability
    if calibration is not None:
        decided, probability = calibration.decide(answer.evidence)
        refused = refused or decided
    return Decision(REFUSAL if refused else text, refused, probability)


def predict(
    question: Question,
    cell: str,
    answer: Answer,
    calibration: Calibration | None,
    chunks: Mapping[str, Chunk],
) -> Prediction:
    """Apply the refusal rule to an answer and score it.

    Args:
        question: What was asked.
        cell: The cell's name.
        answer: What the model made of it.
        calibration: The refusal rule; None: refuse where greedy decoding does.
        chunks: By id; to look for the answer in the cited section first.
    """
    decision = decide(answer, calibration)
    shown = sorted(answer.passages, key=lambda p: not in_gold_section(question, p.chunk_id, chunks))
    quote = None if decision.refused else find_quote(decision.text, shown)
    scores = score(decision.text, question.answers, decision.refused)
    return Prediction(
        example_id=question.id,
        cell=cell,
        question=question.question,
        kind=question.kind,
        style=question.style,
        rule_id=question.rule_id,
        document=question.document,
        section=question.section,
        contexts=[passage.chunk_id for passage in answer.passages],
        answers=list(question.answers),
        prediction=decision.text,
        raw_prediction=answer.raw_text,
        unrefused_prediction=answer.text,
        refused=decision.refused,
        refusal_probability=round(decision.probability, 6),
        quote=None if quote is None else quote.text,
        quote_chunk=None if quote is None else quote.chunk_id,
        exact_match=round(scores.exact_match, 6),
        token_f1=round(scores.token_f1, 6),
        rouge_l=round(scores.rouge_l, 6),
        bleu=round(scores.bleu, 6),
        f1_if_answered=round(score_unrefused(question, answer), 6),
        source_in_contexts=_source_shown(question, answer.passages),
    )


def score_unrefused(question: Question, answer: Answer) -> float:
    """Token F1 of an answer with the refusal rule off; 0 for an unanswerable question."""
    scores = score(answer.text, question.answers, is_refusal(answer.text))
    return scores.token_f1 if question.kind == "answerable" else 0.0


def in_gold_section(question: Question, chunk_id: str, chunks: Mapping[str, Chunk]) -> bool:
    """Whether a chunk stands in the section that a question is about."""
    chunk = chunks[chunk_id]
    return (chunk.document, chunk.section) == (question.document, question.section)


def _source_shown(question: Question, passages: Sequence[Passage]) -> bool | None:
    """Whether a gold chunk was shown; None where there is none or nothing was shown."""
    if not passages or not question.gold:
        return None
    return any(passage.chunk_id in question.gold for passage in passages)
