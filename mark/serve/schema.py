"""Requests and responses of /v1/chat/completions and /v1/models, as OpenAI's clients know them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mark.pipeline.answer import Answer, PageQuote
from mark.pipeline.usage import Usage as Counts

AUTO = "auto"


class _Asked(BaseModel):
    """Fields that this server does not know are passed over, as OpenAI's own servers grow them."""

    model_config = ConfigDict(extra="ignore")


class TextPart(_Asked):
    """A piece of a message; no images, no audio."""

    type: Literal["text"]
    text: str


class Message(_Asked):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """Its whole text."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(_Asked):
    """Whether a streamed answer ends with its tokens."""

    include_usage: bool | None = None


class ResponseFormat(_Asked):
    """Only plain text is answered."""

    type: str


class MarkOptions(_Asked):
    """What only this server knows."""

    draft: bool = False  # with stream: also tell what is being written, before the refusal rule has seen it


class ChatRequest(_Asked):
    """Sampling settings (`temperature`, `max_tokens`, `stop`, ...) are accepted and change nothing."""

    model: str = Field(default=AUTO, max_length=200)
    messages: list[Message] = Field(min_length=1, max_length=1000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    response_format: ResponseFormat | None = None
    mark: MarkOptions | None = None


class Quote(BaseModel):
    """A passage of a document, word for word."""

    document: str
    title: str
    heading: str
    page: int  # physical, from 1
    label: str  # as printed
    text: str
    span: tuple[int, int]  # start and end in the page's text
    chunk_id: str

    @classmethod
    def of(cls, quote: PageQuote) -> Quote:
        """A quote as it is sent."""
        values = quote.model_dump(exclude={"start", "end"})
        return cls(**values, span=(quote.start, quote.end))


class Passage(BaseModel):
    """A place that the answer was made from."""

    document: str
    title: str
    heading: str
    pages: list[int]
    chunk_id: str


class Timings(BaseModel):
    """Seconds. All but `queue` are a batch's time divided by its questions."""

    queue: float
    retrieval: float
    generation: float
    checks: float
    total: float  # without the queue


class Mark(BaseModel):
    """What OpenAI's schema has no place for."""

    quotes: list[Quote]
    refused: bool
    unsupported: bool  # an answer in words that do not all stand in the documents
    refusal_probability: float
    model: str
    adapter_sha256: str | None
    engine: str  # what ran the model: `local`, or `openai/` and the kind of server
    rule: str
    timings: Timings
    passages: list[Passage]
    notes: list[str]


class Reply(BaseModel):
    """The answer as a message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: str | None = None


class Choice(BaseModel):
    """The only choice."""

    index: Literal[0] = 0
    message: Reply
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class Usage(BaseModel):
    """Tokens; all 0 where no model answered."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, counts: Counts) -> Usage:
        """As OpenAI counts them."""
        prompt, written = counts.prompt_tokens, counts.completion_tokens
        return cls(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int  # Unix time
    model: str
    choices: list[Choice]
    usage: Usage
    mark: Mark


class ModelCard(BaseModel):
    """A model that may be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int  # Unix time of its files
    owned_by: Literal["mark"] = "mark"


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def mark_of(answer: Answer, queue_s: float, notes: Sequence[str]) -> Mark:
    """The extra field of an answer.

    Args:
        answer: As it left the pipeline.
        queue_s: How long the question waited.
        notes: Besides the answer's own.
    """
    return Mark(
        quotes=[Quote.of(quote) for quote in answer.quotes],
        refused=answer.refused,
        unsupported=not answer.refused and not answer.supported,
        refusal_probability=answer.refusal_probability,
        model=answer.model,
        adapter_sha256=answer.model_sha256,
        engine=answer.engine,
        rule=answer.rule,
        timings=Timings(queue=queue_s, **answer.seconds.model_dump()),
        passages=[Passage(**context.model_dump(exclude={"text"})) for context in answer.contexts],
        notes=[*answer.notes, *notes],
    )
