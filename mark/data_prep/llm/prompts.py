"""What is asked of the language model about one passage."""

from __future__ import annotations

import json
from typing import Any

from mark.config import Llm

Message = dict[str, str]  # role, content: the wire format

SYSTEM = (
    "You write questions with which a program that reads documents is trained and tested. "
    "You reply with one JSON object and with nothing before or after it."
)
AGAIN = (
    "That was not the JSON object that was asked for. Reply once more, with the JSON object only; "
    "if your reply was cut off, write fewer questions."
)
_SHOWN_AGAIN = 2000  # characters of a wrong reply that are shown to the model again

_TASK = """Title: {title}
Place: {heading}
<passage>
{text}
</passage>

Write {answerable} that the passage answers{and_unanswerable}.

Each question
- is what a person would ask who looks for this knowledge and has never seen the passage: it names its \
subject and never says "this article", "the passage", "the above" or "the text";
- uses other words than the sentence that answers it, and does not contain its answer;
- asks for one thing. Vary them: who, what, when, how much, under which condition, may or must; some as \
short key words, some as a situation that a person describes.

Each answer
- is copied character for character from the passage, one unbroken stretch of at most {max_words} words, \
without quotation marks of your own;
- is as short as the question allows: often two to eight words, sometimes a whole clause or list.
{unanswerable_rules}{placeholder_rules}
Form of the reply:
{form}"""

_UNANSWERABLE = """
Each question without an answer
- stays with the passage's subject but asks for a detail that it does not give, and that its document is \
unlikely to give elsewhere;
- comes with "missing": one to four single words, at least one of which every text that answers the question \
would contain, and none of which stands in the passage.
"""
_PLACEHOLDERS = """
Marks such as {example} stand for hidden values. Copy them unchanged where you need them, and make up no \
others.
"""
_ANSWERED: dict[str, Any] = {"question": "...", "answer": "...", "answerable": True}
_UNANSWERED: dict[str, Any] = {"question": "...", "answer": None, "answerable": False, "missing": ["..."]}


def first_messages(
    texts: tuple[str, str, str], placeholders: list[str], settings: Llm, max_words: int
) -> list[Message]:
    """The conversation that asks for questions.

    Args:
        texts: Title, heading path and text of the passage, already masked.
        placeholders: Marks that stand in them.
        settings: How many questions of each kind.
        max_words: Longest answer.
    """
    title, heading, text = texts
    without = settings.unanswerable_per_passage
    form = {"questions": [_ANSWERED, *([_UNANSWERED] if without else [])]}
    task = _TASK.format(
        title=title,
        heading=heading or title,
        text=text,
        answerable=_questions(settings.questions_per_passage),
        and_unanswerable=f", and {_questions(without)} that it does not answer" if without else "",
        max_words=max_words,
        unanswerable_rules=_UNANSWERABLE if without else "",
        placeholder_rules=_PLACEHOLDERS.format(example=placeholders[0]) if placeholders else "",
        form=json.dumps(form),
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task}]


def second_messages(first: list[Message], reply: str) -> list[Message]:
    """The conversation that asks again after a reply that could not be read."""
    shown = reply[:_SHOWN_AGAIN] or "(nothing)"
    return [*first, {"role": "assistant", "content": shown}, {"role": "user", "content": AGAIN}]


def request_body(messages: list[Message], settings: Llm) -> dict[str, Any]:
    """What is sent, and what the cache is keyed by: prompt, model and parameters."""
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": messages,
        settings.reply_limit_key: settings.max_reply_tokens,
    }
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.json_mode:
        body["response_format"] = {"type": "json_object"}
    return body


def _questions(count: int) -> str:
    return f"{count} question{'' if count == 1 else 's'}"
