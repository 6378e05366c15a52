"""`mark ask` and `mark chat`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mark.config import PARAMS, Serve, load_section
from mark.errors import ConfigError, MarkError
from mark.pipeline.answer import RULES, Answer, Context, PageQuote

if TYPE_CHECKING:
    from mark.pipeline.auto import AutoPipeline

QUIT = "/quit"
_INDENT = "  "


@dataclass(frozen=True)
class Request:
    """The flags of one `mark ask`."""

    question: str
    model: str | None
    top_k: int | None
    json: bool
    stream: bool


def ask(request: Request, root: Path, say: Callable[[str], None]) -> str:
    """Answer one question.

    Args:
        request: What was asked, and how.
        root: The project's root.
        say: Prints a piece of the draft, with `stream`.

    Returns:
        What to print: the checked answer as text or as one JSON object.

    Raises:
        ConfigError: Flags contradict each other.
        DataError: The question is empty or too long, or nothing was ingested.
        ModelError: The model that was named does not load.
    """
    if request.json and request.stream:
        raise ConfigError("--json and --stream contradict each other; give one of them")
    from mark.pipeline.question import checked_question

    serve = load_section(Serve, "serve", root / PARAMS)
    question = checked_question(request.question, serve.max_question_chars)  # before anything is loaded
    from mark.pipeline.auto import AutoPipeline

    pipeline = AutoPipeline(root, request.model, request.top_k)
    if not request.stream:
        answer = pipeline.process_query(question)
        return answer.model_dump_json() if request.json else answer_text(answer)
    answer = pipeline.process_query(question, say)
    say("\n\n")
    return answer_text(answer)


def typed_lines(stream: TextIO) -> Iterator[str]:
    """Lines of a stream; a person at a terminal sees a prompt before each."""
    while True:
        if stream.isatty():
            sys.stderr.write("? ")
            sys.stderr.flush()
        line = stream.readline()
        if not line:
            return
        yield line


def chat(pipeline: AutoPipeline, lines: Iterable[str], say: Callable[[str], None]) -> None:
    """Answer line after line until `/quit` or the end; a fault of one question is one line.

    Args:
        pipeline: Loaded.
        lines: Questions; empty ones are passed over.
        say: Prints one answer.
    """
    for line in lines:
        question = line.strip()
        if question == QUIT:
            return
        if not question:
            continue
        try:
            say(answer_text(pipeline.process_query(question)))
        except MarkError as fault:
            say(f"mark: {fault}")


def answer_text(answer: Answer) -> str:
    """An answer as plain text: what it says, where that stands, who said it and how long it took."""
    lines = [answer.text]
    if not answer.refused and not answer.supported:
        lines.append("(not word for word in the documents; made from these passages:)")
        lines += dict.fromkeys(_INDENT + context_line(context) for context in answer.contexts)
    for quote in answer.quotes:
        lines += ["", *quote_lines(quote)]
    lines += ["", *answer.notes]
    seconds = answer.seconds
    lines.append(
        f"{answer.model}, {RULES[answer.rule]}; {seconds.total:.1f} s (retrieval {seconds.retrieval:.1f}, "
        f"generation {seconds.generation:.1f}, checks {seconds.checks:.1f})"
    )
    return "\n".join(lines)


def context_line(context: Context) -> str:
    """Where a passage stands."""
    pages = ", ".join(map(str, context.pages))
    heading = f", {context.heading}" if context.heading else ""
    return f"{context.title} ({context.document}), page {pages}{heading}"


def quote_lines(quote: PageQuote) -> list[str]:
    """A quote and where it stands."""
    place = f"{quote.title} ({quote.document}), page {quote.page}"
    if quote.label != str(quote.page):
        place += f" (printed as {quote.label})"
    place += f", characters {quote.start} to {quote.end}"
    lines = [f"“{' '.join(quote.text.split())}”", place, quote.heading]
    return [_INDENT + line for line in lines if line]
