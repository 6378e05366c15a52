"""The one prompt builder of data_prep, train, eval and serving: context before question.

Questions on the same passages share a prefix. The answer is never shortened; passages are
shortened by whole sentences, the last-ranked first, until prompt and answer fit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mark.errors import DataError
from mark.records import Chunk

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REFUSAL = "Not in these documents."

INSTRUCTION = (
    "Answer the question from the passages, in their own words and no longer than needed. "
    f"If the passages do not hold the answer, reply: {REFUSAL}"
)
INSTRUCTION_WITHOUT_PASSAGES = f"Answer the question briefly. If you do not know the answer, reply: {REFUSAL}"
_SENTENCE_END = re.compile(r"(?<=[.;:!?。！？])\s+")


@dataclass(frozen=True)
class Passage:
    """What the model sees of a chunk."""

    chunk_id: str
    heading: str
    text: str

    @classmethod
    def from_chunk(cls, chunk: Chunk) -> Passage:
        return cls(chunk.chunk_id, chunk.heading, chunk.text)


@dataclass(frozen=True)
class Prompt:
    """Token ids of a prompt up to the point where the answer begins."""

    ids: list[int]
    passages: list[Passage]  # as shown, possibly shortened; dropped ones are absent


def user_message(question: str, passages: Sequence[Passage]) -> str:
    """The user's turn: numbered passages, best first, then the question."""
    if not passages:
        return f"{INSTRUCTION_WITHOUT_PASSAGES}\n\nQuestion: {question}"
    blocks = [f"[{i}] {p.heading}\n{p.text}" for i, p in enumerate(passages, start=1)]
    return f"{INSTRUCTION}\n\n" + "\n\n".join(blocks) + f"\n\nQuestion: {question}"


def render(tokenizer: PreTrainedTokenizerBase, question: str, passages: Sequence[Passage]) -> str:
    """The full prompt text, in the tokenizer's own chat format where it has one."""
    message = user_message(question, passages)
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": message}]
        return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
    return f"{message}\nAnswer:"


def answer_ids(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """Token ids of an answer with the end-of-sequence id that stops generation."""
    lead = "" if tokenizer.chat_template else " "
    ids = tokenizer(lead + answer, add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id]


def build_prompt(
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    passages: Sequence[Passage],
    max_tokens: int,
) -> Prompt:
    """Build a prompt of at most `max_tokens` tokens.

    Args:
        tokenizer: The model's tokenizer.
        question: The question, kept whole.
        passages: Best first; empty for the cells without retrieval.
        max_tokens: Room for the prompt, the answer's tokens already taken off.

    Returns:
        The prompt's ids and the passages as they are shown.

    Raises:
        DataError: The question alone does not fit.
    """
    kept = [p for p in passages if p.text.strip()]
    while True:
        ids = tokenizer(render(tokenizer, question, kept), add_special_tokens=False)["input_ids"]
        if len(ids) <= max_tokens:
            return Prompt(list(ids), kept)
        if not kept:
            raise DataError(
                f"the question alone takes {len(ids)} tokens of {max_tokens}; "
                "shorten it or raise train.max_seq_length"
            )
        kept = _shorten_last(kept)


def _shorten_last(passages: list[Passage]) -> list[Passage]:
    """Take the last sentence off the last passage, or the passage when it has one sentence."""
    last = passages[-1]
    sentences = _SENTENCE_END.split(last.text)
    if len(sentences) == 1:
        return passages[:-1]
    end = last.text.rfind(sentences[-1])
    return [*passages[:-1], Passage(last.chunk_id, last.heading, last.text[:end].rstrip())]
