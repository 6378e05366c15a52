"""Passages and questions are untrusted: nothing in them may become a token of the prompt's format."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mark.records import Chunk

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Neutraliser:
    """Breaks the text of special tokens, such as `<|im_end|>`, by a space after its first character.

    All other text stays as it is, so that prompts equal those of training and evaluation.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Collect every added token of a tokenizer that is not white space."""
        added = {str(token) for token in tokenizer.get_added_vocab()} | set(tokenizer.all_special_tokens)
        self.tokens = sorted((token for token in added if token.strip()), key=lambda t: (-len(t), t))
        self._pattern = re.compile("|".join(map(re.escape, self.tokens))) if self.tokens else None

    def text(self, text: str) -> str:
        """The same text without special tokens."""
        while self._pattern is not None and self._pattern.search(text):
            text = self._pattern.sub(lambda m: f"{m[0][:1]} {m[0][1:]}" if len(m[0]) > 1 else " ", text)
        return text

    def chunk(self, chunk: Chunk) -> Chunk:
        """A chunk whose title, headings and text hold no special tokens."""
        changes = {
            "title": self.text(chunk.title),
            "heading_path": [self.text(heading) for heading in chunk.heading_path],
            "text": self.text(chunk.text),
        }
        return chunk.model_copy(update=changes)
