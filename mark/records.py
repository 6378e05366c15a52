"""The rows that stages exchange. Each JSONL row carries `schema_version`.

Character positions are Python string indices, half open: `text[start:end]`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Split = Literal["train", "val", "test"]
Kind = Literal["answerable", "unanswerable"]
Style = Literal["short", "full"]
Quarantine = Literal[
    "encrypted", "corrupt", "empty", "no_text", "needs_ocr", "too_large", "timeout", "crashed"
]


class Row(BaseModel):
    """Base of all JSONL rows: frozen, no unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1


class Page(Row):
    """One physical page after cleaning."""

    doc_id: str  # sha256 of the file's bytes, hex
    document: str  # file name without .pdf
    title: str  # document title shown to people and prefixed to chunks
    page: int = Field(ge=1)  # physical page, from 1
    label: str  # the page label printed or stored in the PDF
    text: str  # cleaned text
    offset: int = Field(ge=0)  # where `text` starts in the document's joined cleaned text
    raw_map: list[tuple[int, int]]  # runs (cleaned index, raw index) of equal stretches


class Chunk(Row):
    """A passage that is retrieved as a whole."""

    chunk_id: str  # content hash, hex
    doc_id: str
    document: str
    title: str
    heading_path: list[str]  # outermost first, e.g. ["Chapter III", "Article 17 Right to erasure"]
    section: str  # the split unit, e.g. "Article 17"; "" before the first heading
    pages: list[int]  # physical pages that the span touches, ascending
    start: int = Field(ge=0)  # span in the document's joined cleaned text
    end: int = Field(ge=0)
    text: str  # equals joined_text[start:end]

    @property
    def heading(self) -> str:
        """`title > heading path`, prefixed for embedding and shown above the passage in a prompt."""
        return " > ".join([self.title, *self.heading_path])

    @property
    def embedded_text(self) -> str:
        """What is embedded: the heading above the text."""
        return f"{self.heading}\n{self.text}"


class Example(Row):
    """One question with the contexts that the deployed retriever returned for it."""

    example_id: str
    split: Split
    question: str
    contexts: list[str]  # chunk ids in prompt order (best first)
    answers: list[str]  # acceptable answers, the first is trained on; the refusal when unanswerable
    quote: str | None  # verbatim sentence(s) that hold the answer
    page: int | None  # physical page where the quote starts
    kind: Kind
    style: Style
    rule_id: str  # rule family, or "handwritten"
    document: str | None
    section: str | None
    source_chunk: str | None

    @property
    def answer(self) -> str:
        """The answer that training teaches."""
        return self.answers[0]


class HandwrittenQuestion(Row):
    """A question written by a person from the documents alone; never trained on."""

    id: str
    question: str
    answers: list[str]  # empty when unanswerable
    kind: Kind
    style: Style
    document: str | None  # file name without .pdf
    article: str | None  # "17", "243ZO"; "0" is a preamble
    quote: str | None

    @property
    def section(self) -> str | None:
        """The split unit that the question cites, as in `Chunk.section`."""
        if self.article is None:
            return None
        return "Preamble" if self.article == "0" else f"Article {self.article}"


class PracticeQuestion(Row):
    """A question written by a person for training, with the passage that it was written from.

    It cites no section that a hand-written dev or test question cites.
    """

    id: str
    question: str
    answer: str | None  # a verbatim span of `quote`; None when unanswerable
    kind: Kind
    style: Style
    document: str | None
    section: str | None
    quote: str | None  # a verbatim part of `passage`
    title: str | None
    heading_path: list[str]
    passage: str | None


class Prediction(Row):
    """What one cell of the grid answered to one test question, with its scores in [0, 1]."""

    example_id: str
    cell: str  # e.g. "tuned_retrieval"
    question: str
    kind: Kind
    style: Style
    rule_id: str
    document: str | None
    section: str | None
    contexts: list[str]
    answers: list[str]
    prediction: str
    raw_prediction: str  # what the model wrote before the refusal rule
    unrefused_prediction: str  # its best answer that is not the refusal
    refused: bool
    refusal_probability: float | None
    quote: str | None  # the passage found verbatim in the contexts, None where there is none
    quote_chunk: str | None
    exact_match: float
    token_f1: float
    rouge_l: float
    bleu: float
    f1_if_answered: float  # token F1 of `unrefused_prediction`
    source_in_contexts: bool | None
