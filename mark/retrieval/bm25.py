"""Keyword search over headings and texts of chunks."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from nltk.stem.snowball import SnowballStemmer
from numpy.typing import NDArray

from mark.records import Chunk

_WORD = re.compile(r"[^\W_]+")
# Function words only: `may`, `shall`, `not` and `without` carry meaning in law.
_FUNCTION_WORDS = """
    a an the of to in on at by for from with as is are was were be been being am do does did have has had
    and or but if then than that this these those it its he she they them his her their our we us you your
    i my me what which who whom whose when where why how there here s t
"""
_STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
_DEFINED = re.compile(r"[‘'“\"„](?P<term>[^‘’'“”\"„]{2,60})[’'”\"“] (?:shall )?(?:means?|includes?)\b")
_TERM_WEIGHT = 2  # extra mentions of a defined term in the chunk that defines it


def indexed_text(chunk: Chunk) -> str:
    """What keyword search sees of a chunk: file name, heading, text, and once more what it defines.

    The file name is what people often call a document (`cra`, `ai-act`). A term stands in many
    chunks, its definition in one: the extra mentions lift that one.
    """
    return "\n".join(
        [chunk.document, chunk.heading, chunk.text, *_DEFINED.findall(chunk.text) * _TERM_WEIGHT]
    )


def tokenise(text: str) -> list[str]:
    """Lower-case word stems without function words."""
    return [_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]


@lru_cache(maxsize=1 << 17)
def _stem(word: str) -> str:
    return str(_stemmer().stem(word))


@lru_cache(maxsize=1)
def _stemmer() -> SnowballStemmer:
    return SnowballStemmer("english")


class KeywordIndex:
    """BM25 (Lucene's variant, k1 1.5, b 0.75) over `indexed_text`.

    Source: bm25s, `bm25s/scoring.py`; Kamphuis et al. 2020, "Which BM25 do you mean?".
    """

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # its import sets DEBUG
        self._size = len(chunks)
        self._index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
        self._index.index([tokenise(indexed_text(chunk)) for chunk in chunks], show_progress=False)

    def scores(self, question: str) -> NDArray[np.float32]:
        """BM25 of every chunk, float32 [chunks]; 0 where no word is shared."""
        known = [token for token in tokenise(question) if token in self._index.vocab_dict]
        if not known:
            return np.zeros(self._size, dtype=np.float32)
        return np.asarray(self._index.get_scores(known), dtype=np.float32)
