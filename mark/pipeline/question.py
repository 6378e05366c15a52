"""What may be asked."""

from __future__ import annotations

from mark.errors import DataError


def checked_question(question: str, max_chars: int) -> str:
    """A question without white space around it.

    Args:
        question: As it was typed.
        max_chars: `serve.max_question_chars`.

    Raises:
        DataError: It is empty or too long.
    """
    text = question.strip()
    if not text:
        raise DataError('the question is empty; ask something, e.g. mark ask "Who keeps the accounts?"')
    if len(text) > max_chars:
        raise DataError(
            f"the question has {len(text)} characters, at most {max_chars} are allowed "
            "(serve.max_question_chars); shorten it"
        )
    return text
