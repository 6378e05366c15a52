"""`mark ask` and `mark chat`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from mark.commands.feedback import SOURCE, placed_line
from mark.config import PARAMS, Serve, load_section
from mark.errors import ConfigError, DataError, MarkError
from mark.pipeline.answer import RULES, Answer, Context, PageQuote

if TYPE_CHECKING:
    from mark.pipeline.auto import AutoPipeline

QUIT = "/quit"
EDIT = "/edit"
THUMBS: dict[str, Literal["up", "down"]] = {"+": "up", "-": "down"}
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


class LastAnswer:
    """The last answer of a chat and what was said about it so far."""

    def __init__(self, root: Path) -> None:
        """Nothing was answered yet.

        Args:
            root: The project's root.
        """
        self._root = root
        self._response_id: str | None = None
        self._thumb: Literal["up", "down"] | None = None
        self._edited: str | None = None

    def given(self, answer: Answer | None) -> None:
        """Another answer is the last one; None: the last question got none."""
        self._response_id = None if answer is None else answer.response_id
        self._thumb = self._edited = None

    def judge(self, line: str) -> str:
        """Put `+`, `-` or `/edit TEXT` into the inbox, together with what was said of this answer before.

        Returns:
            One line: what became of it.

        Raises:
            DataError: There is no answer yet, or the journal or the inbox does not take it.
        """
        from mark.pipeline.feedback import add_feedback

        if self._response_id is None:
            raise DataError(f"there is no answer that {line.split()[0]} could be about; ask something")
        thumb = THUMBS.get(line, self._thumb)
        edited = self._edited if line in THUMBS else line.removeprefix(EDIT).strip()
        placed = add_feedback(self._root, self._response_id, thumb, edited, None, SOURCE)
        self._thumb, self._edited = thumb, edited
        return placed_line(placed)


def chat(pipeline: AutoPipeline, lines: Iterable[str], say: Callable[[str], None], root: Path) -> None:
    """Answer line after line until `/quit` or the end; a fault of one question is one line.

    Args:
        pipeline: Loaded.
        lines: Questions, or `+`, `-` and `/edit TEXT` about the last answer; empty ones are passed over.
        say: Prints one answer.
        root: The project's root.
    """
    last = LastAnswer(root)
    for line in lines:
        typed = line.strip()
        if typed == QUIT:
            return
        if not typed:
            continue
        try:
            if typed in THUMBS or typed.split()[0] == EDIT:
                say(last.judge(typed))
                continue
            last.given(None)
            answer = pipeline.process_query(typed)
            last.given(answer)
            say(answer_text(answer))
        except MarkError as fault:
            say(f"mark: {fault}")


def answer_text(answer: Answer) -> str:
    """An answer as plain text: what it says, where that stands, who said it, how long it took, its id."""
    lines = [answer.text]
    if not answer.refused and not answer.supported:
        lines.append("(not word for word in the documents; made from these passages:)")
        lines += dict.fromkeys(_INDENT + context_line(context) for context in answer.contexts)
    for quote in answer.quotes:
        lines += ["", *quote_lines(quote)]
    lines += ["", *answer.notes]
    seconds = answer.seconds
    model = answer.model if answer.engine == "local" else f"{answer.model} on {answer.engine}"
    lines.append(
        f"{model}, {RULES[answer.rule]}; {seconds.total:.1f} s (retrieval {seconds.retrieval:.1f}, "
        f"generation {seconds.generation:.1f}, checks {seconds.checks:.1f}); {answer.response_id}"
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
