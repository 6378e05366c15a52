"""What of two texts is compared: words, runs of words, stems, numbers and names."""

from __future__ import annotations

import re
import unicodedata
import zlib
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from mark.retrieval.bm25 import tokenise

SHINGLE = 3  # words: of twenty words one may be replaced and 15 of 18 runs stay
NEAR_COPY = 0.75  # share of the smaller text's shingles
SHORT_TEXT = 14  # words; so short a text is compared as a whole, not looked for inside longer ones
BANDS = (42, 3)  # bands and rows: a Jaccard index of 0.5 is met with 99.6 %, one of 0.8 always
PERMUTATIONS = BANDS[0] * BANDS[1]

# Scripts written without spaces: each character is a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]|[^\W_]+")
_NUMBER = re.compile(
    r"\d+(?:[.,/]\d+)*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|eighteen|"
    r"twenty|thirty|forty|fifty|sixty|ninety|hundred|half|third|quarter|twice|double)\b",
    re.I,
)
_NAME = re.compile(r"(?<![.?!] )(?<!^)\b[A-Z][\w-]*")
_MIX = np.uint64(0x9E3779B97F4A7C15)


def words(text: str) -> list[str]:
    """The words of a text without case, accents' encoding and punctuation."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def numbers(text: str) -> frozenset[str]:
    """The numbers that a text names, in digits or words."""
    return frozenset(match.lower() for match in _NUMBER.findall(text))


def names(text: str) -> frozenset[str]:
    """Its capitalised words, the first of a sentence left out."""
    return frozenset(_NAME.findall(text))


@lru_cache(maxsize=1 << 16)
def word_hash(word: str) -> int:
    """32 bits of a word."""
    return zlib.crc32(word.encode())


def shingles(text: str, size: int = SHINGLE) -> NDArray[np.uint64]:
    """Hashes of its runs of words, ascending, each once; of the whole text where it is shorter.

    Args:
        text: Any.
        size: Words in a run.

    Returns:
        uint64 [runs]; the same on every machine.
    """
    found = words(text)
    if not found:
        return np.empty(0, dtype=np.uint64)
    hashed = np.array([word_hash(word) for word in found], dtype=np.uint64)
    size = min(size, len(found))
    runs = np.zeros(len(found) - size + 1, dtype=np.uint64)
    for offset in range(size):
        runs = (runs ^ hashed[offset : offset + len(runs)]) * _MIX
        runs ^= runs >> np.uint64(29)
    return np.unique(runs)


def stems(text: str) -> frozenset[str]:
    """Stems of the content words."""
    return frozenset(tokenise(" ".join(words(text))))


def content(text: str) -> NDArray[np.uint64]:
    """Hashes of the stems of its content words, each mixed with all numbers that it names.

    So texts with other numbers share nothing.

    Returns:
        uint64 [stems], at least one, each once.
    """
    named = np.uint64(_hash("\0".join(sorted(numbers(text)))))
    own = np.array([_hash(stem) for stem in stems(text)] or [0], dtype=np.uint64)
    return (own ^ named) * _MIX


@lru_cache(maxsize=1 << 17)
def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Shared words over all words, in [0, 1]."""
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def sketch(runs: NDArray[np.uint64]) -> MinHash:
    """The MinHash signature of a set of hashes."""
    signature = MinHash(PERMUTATIONS, seed=1, hashfunc=int, scheme="affine32")
    if len(runs):
        signature.update_batch(np.unique(runs & np.uint64(0xFFFFFFFF)).tolist())
    return signature
