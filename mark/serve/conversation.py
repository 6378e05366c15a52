"""Which question a conversation asks: its last user message, and nothing else of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mark.errors import DataError
from mark.pipeline.question import checked_question
from mark.serve.errors import ApiError
from mark.serve.schema import ChatRequest

_SYSTEM = "Instructions of a system message are not followed: answers come from the documents alone."
_TOOLS = "No tool was called: answers come from the documents alone."
_EARLIER = "Earlier turns were not read: each question stands on its own."


@dataclass(frozen=True)
class Asked:
    """The question, and what the reader should know about the rest."""

    question: str
    notes: list[str]


def read_conversation(request: ChatRequest, max_chars: int) -> Asked:
    """The question of a request.

    Args:
        request: Of a client; nothing in it changes how is answered.
        max_chars: `serve.max_question_chars`.

    Raises:
        ApiError: No user message, an empty or too long one, or a wish that cannot be met.
    """
    _refuse_unknown(request)
    users = [i for i, message in enumerate(request.messages) if message.role == "user"]
    if not users:
        raise ApiError(400, "messages: no message of role user; the last of them is the question",
                       "no_question", "messages")  # fmt: skip
    try:
        question = checked_question(request.messages[users[-1]].text, max_chars)
        question.encode("utf-8")
    except UnicodeEncodeError:  # JSON may hold half of a pair of surrogates
        raise ApiError(400, "the question holds no valid text", "invalid_question", "messages") from None
    except DataError as fault:
        raise ApiError(400, str(fault), "invalid_question", "messages") from None
    others = [message.role for i, message in enumerate(request.messages) if i != users[-1]]
    system = any(role in ("system", "developer") for role in others)
    earlier = any(role not in ("system", "developer") for role in others)
    offered = bool(request.tools or request.functions)
    return Asked(question, [_SYSTEM] * system + [_EARLIER] * earlier + [_TOOLS] * offered)


def _free(wanted: Any) -> bool:
    """Whether a choice leaves it open to call no tool."""
    if isinstance(wanted, dict) and isinstance(wanted.get("allowed_tools"), dict):
        wanted = wanted["allowed_tools"].get("mode")
    return wanted in (None, "auto", "none")


def _refuse_unknown(request: ChatRequest) -> None:
    if request.n not in (None, 1):
        raise ApiError(400, f"n: {request.n} found, 1 is allowed: decoding is greedy", "unsupported", "n")
    for name, wanted in (("tool_choice", request.tool_choice), ("function_call", request.function_call)):
        if not _free(wanted):
            said = f'{name}: this server calls no tool, and this demands one; leave it out or say "auto"'
            raise ApiError(400, said, "unsupported", name)
    if request.response_format is not None and request.response_format.type != "text":
        raise ApiError(400, "response_format: only text is answered", "unsupported", "response_format")
