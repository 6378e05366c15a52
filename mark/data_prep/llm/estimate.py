"""What sending would cost, before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mark.config import Llm

_CHARS_PER_TOKEN = 3.5  # of Latin script; cautious: common tokenizers reach about 4
_MESSAGE_TOKENS = 6  # around each message


@dataclass(frozen=True)
class Estimate:
    """Requests that are not in the cache; tokens are estimated from the text, replies at their limit."""

    requests: int
    cached: int  # already answered
    input_tokens: int
    output_tokens: int  # at most
    cost: float | None  # at most, in the currency of the prices; None = prices unknown

    def __str__(self) -> str:
        cost = (
            "cost unknown (data_prep.llm.input_price and output_price are not set)"
            if self.cost is None
            else f"at most {self.cost:.2f} in the currency of data_prep.llm.input_price"
        )
        return (
            f"{self.requests} requests ({self.cached} more are answered already), about "
            f"{self.input_tokens:,} tokens to send and at most {self.output_tokens:,} to receive, {cost}; "
            "a reply that cannot be read is asked for once more on top"
        )


def text_tokens(text: str) -> int:
    """About how many tokens a text takes: one for each character that is not Latin, else by length."""
    latin = sum(ord(char) < 0x250 for char in text)
    return math.ceil(latin / _CHARS_PER_TOKEN) + len(text) - latin


def prompt_tokens(body: dict[str, Any]) -> int:
    """About how many tokens a request's messages take."""
    return sum(text_tokens(message["content"]) + _MESSAGE_TOKENS for message in body["messages"])


def estimate(pending: Sequence[dict[str, Any]], cached: int, settings: Llm) -> Estimate:
    """Add up what would be sent.

    Args:
        pending: Requests that the cache does not hold.
        cached: How many it holds.
        settings: Prices and the limit of a reply.
    """
    inputs = sum(prompt_tokens(body) for body in pending)
    outputs = len(pending) * settings.max_reply_tokens
    cost = None
    if settings.input_price is not None and settings.output_price is not None:
        cost = (inputs * settings.input_price + outputs * settings.output_price) / 1e6
    return Estimate(len(pending), cached, inputs, outputs, cost)
