"""What leaves the pipeline."""

from __future__ import annotations

import secrets
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Rule = Literal["asked_for", "champion", "priority", "fallback"]
RULES: dict[Rule, str] = {
    "asked_for": "asked for by name",
    "champion": "the champion (models/champion.json)",
    "priority": "the first of serve.priority that loads",
    "fallback": "no model loads: the best sentence of the best passage",
}

RESPONSE_ID = r"^ans-[0-9a-f]{24}$"


def new_response_id() -> str:
    """An id that nobody can guess: whoever knows it was given the answer."""
    return f"ans-{secrets.token_hex(12)}"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuote(_Part):
    """A passage of a document: `text` is the page's own text from `start` to `end`."""

    text: str
    document: str  # file name without .pdf
    title: str
    heading: str  # `Chapter III > Article 17`; "" before the first heading
    page: int  # physical page, from 1
    label: str  # as printed on the page
    start: int  # span in the page's text in data/pages.jsonl
    end: int
    chunk_id: str


class Context(_Part):
    """A passage that the answer was made from, best first."""

    chunk_id: str
    document: str
    title: str
    heading: str
    pages: list[int]
    text: str


class Seconds(_Part):
    """Wall-clock time of one answer; of a batch, its time divided by its questions."""

    retrieval: float
    generation: float
    checks: float
    total: float


class Answer(_Part):
    """An answer whose quotes stand in the documents.

    Attributes:
        response_id: Names this answer in feedback.
        text: The answer; quotations that are not in the documents are left out.
        quotes: Where it stands in the documents, word for word.
        refused: The documents hold no answer, says the model or its calibrated rule.
        supported: Every sentence of the answer is among the quotes. False for a refusal.
        refusal_probability: By the calibrated rule, else by the model.
        refusal_calibrated: Whether a rule fitted on validation questions decided.
        contexts: The passages as they were shown to the model.
        model: Its name; `extractive` = none.
        model_sha256: Of the adapter, or of a base model's weights, as they lie here; None without a model.
        engine: What ran it: `local`, or `openai/` and the kind of the server that `serve.server` names.
        rule: Why this model answered.
        notes: What the reader should know besides, a sentence each.
    """

    response_id: str = Field(default_factory=new_response_id, pattern=RESPONSE_ID)
    question: str
    text: str
    quotes: list[PageQuote]
    refused: bool
    supported: bool
    refusal_probability: float
    refusal_calibrated: bool
    contexts: list[Context]
    model: str
    model_sha256: str | None
    engine: str = "local"
    rule: Rule
    notes: list[str]
    seconds: Seconds
