"""Training and held-out data must not overlap; if they do, the stage fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mark.data_prep.passage_copies import CopyIndex, near_copies
from mark.data_prep.question_index import QuestionIndex
from mark.data_prep.similarity import SHORT_TEXT, words
from mark.data_prep.split import HIDDEN, Splits
from mark.errors import LeakError
from mark.prompting import REFUSAL
from mark.records import Chunk, Example, Split
from mark.retrieval import Retriever


@dataclass(frozen=True)
class Leak:
    """One way in which a row knows held-out data."""

    row: str  # example id
    what: str  # "section", "context", "question", "passage" or "answer"
    message: str


class HeldOutText:
    """What a split must not repeat: the passages of other splits, and what was answered there."""

    def __init__(self, passages: Iterable[Chunk], rows: Iterable[Example] = ()) -> None:
        """Index them.

        Args:
            passages: Of the splits that must not be known.
            rows: Their examples.
        """
        self._passages = CopyIndex(((c.chunk_id, c.text) for c in passages), reworded=False)
        told = ((row.example_id, text) for row in rows for text in {row.answer, row.quote or row.answer})
        self._answers = CopyIndex((name, text) for name, text in told if text != REFUSAL)

    def repeats(self, *texts: str | None) -> str | None:
        """The passage or example that one of the texts repeats; texts of a few words repeat nothing."""
        for text in texts:
            if text is None or text == REFUSAL or len(words(text)) < SHORT_TEXT:
                continue
            found = self._passages.original(text) or self._answers.original(text)
            if found is not None:
                return found
        return None


def check_leaks(
    rows: Mapping[Split, Sequence[Example]],
    splits: Splits,
    chunks: Mapping[str, Chunk],
    retriever: Retriever | None = None,
) -> None:
    """Fail where training could have seen held-out data; see `find_leaks`.

    Raises:
        LeakError: The first leak, and how many there are.
    """
    leaks = list(find_leaks(rows, splits, chunks, retriever))
    if leaks:
        more = f" (and {len(leaks) - 1} more)" if len(leaks) > 1 else ""
        raise LeakError(f"{leaks[0].message}{more}; run `dvc repro -f data_prep`, or report this as a bug")


def find_leaks(
    rows: Mapping[Split, Sequence[Example]],
    splits: Splits,
    chunks: Mapping[str, Chunk],
    retriever: Retriever | None = None,
) -> Iterator[Leak]:
    """Look for every way in which training could have seen held-out data.

    A section asked about in two splits or in the wrong one; a context from a split that may not be
    seen; a near-identical or reworded question; a context that is a near-copy, a part or a rewording of
    a held-out passage; a long answer or quote that stands in a held-out passage or answer.

    Args:
        rows: The examples of each split.
        splits: The split of each section.
        chunks: All chunks by id, with the passages that practice questions brought along.
        retriever: Over the corpus, for meanings; None = words and numbers only.
    """
    yield from _sections(rows, splits)
    yield from _contexts(rows, splits, chunks)
    yield from _questions(rows, retriever)
    for split, held in HIDDEN.items():
        hidden = [c for c in chunks.values() if splits.of_section.get((c.document, c.section)) in held]
        yield from _passages(rows.get(split, ()), hidden, chunks, retriever)
        answered = [row for name in held for row in rows.get(name, ())]
        known = HeldOutText(hidden, answered)
        for row in rows.get(split, ()):
            if (found := known.repeats(row.answer, row.quote)) is not None:
                yield Leak(
                    row.example_id, "answer",
                    f"{row.example_id} ({split}) answers with held-out text of {found}: {row.answer[:80]!r}",
                )  # fmt: skip


def _sections(rows: Mapping[Split, Sequence[Example]], splits: Splits) -> Iterator[Leak]:
    seen: dict[tuple[str, str], Split] = {}
    for split, examples in rows.items():
        for row in examples:
            if row.document is None or row.section is None:
                continue
            key = (row.document, row.section)
            other = seen.setdefault(key, split)
            if other != split or splits.of_section.get(key, split) != split:
                wrong = other if other != split else splits.of_section[key]
                yield Leak(
                    row.example_id, "section",
                    f"{row.document}, {row.section or 'front matter'} is asked about in {split} but "
                    f"belongs to {wrong}",
                )  # fmt: skip


def _contexts(
    rows: Mapping[Split, Sequence[Example]], splits: Splits, chunks: Mapping[str, Chunk]
) -> Iterator[Leak]:
    allowed: dict[Split, set[Split]] = {"train": {"train"}, "val": {"train", "val"}}
    for split, visible in allowed.items():
        for row in rows.get(split, ()):
            for chunk_id in row.contexts:
                chunk = chunks.get(chunk_id)
                if chunk is None:
                    message = f"{row.example_id}: context {chunk_id[:12]} is no chunk"
                    yield Leak(row.example_id, "context", message)
                elif splits.of_section.get((chunk.document, chunk.section), "train") not in visible:
                    yield Leak(
                        row.example_id, "context",
                        f"{row.example_id} ({split}) shows {chunk.document}, {chunk.section} of the "
                        f"{splits.of(chunk)} split",
                    )  # fmt: skip


def _questions(rows: Mapping[Split, Sequence[Example]], retriever: Retriever | None) -> Iterator[Leak]:
    held = QuestionIndex()
    names: tuple[Split, ...] = ("test", "val", "train")
    for split in names:
        examples = rows.get(split, ())
        asked = [row.question for row in examples]
        vectors: Sequence[NDArray[np.float32] | None] = [None] * len(asked)
        if retriever is not None and asked:
            vectors = list(retriever.encode(asked))
        if split != "test":
            for row, vector in zip(examples, vectors, strict=True):
                if (other := held.near(row.question, vector)) is not None:
                    yield Leak(
                        row.example_id, "question",
                        f"{row.example_id} ({split}) asks almost what a held-out question asks: "
                        f"{row.question!r} and {other!r}",
                    )  # fmt: skip
        if split != "train":
            for question, vector in zip(asked, vectors, strict=True):
                held.add(question, vector)


def _passages(
    rows: Sequence[Example], hidden: Sequence[Chunk], chunks: Mapping[str, Chunk], retriever: Retriever | None
) -> Iterator[Leak]:
    shown: dict[str, str] = {}
    for row in rows:
        for chunk_id in (*row.contexts, *([row.source_chunk] if row.source_chunk else [])):
            if chunk_id in chunks:
                shown.setdefault(chunk_id, row.example_id)
    vectors_of = retriever.vectors_of if retriever is not None else None
    copies = near_copies([chunks[i] for i in sorted(shown)], hidden, vectors_of)
    for chunk_id, original in sorted(copies.items()):
        where, source = chunks[chunk_id], chunks[original]
        yield Leak(
            shown[chunk_id], "passage",
            f"{where.document}, {where.section} (shown in {shown[chunk_id]}) is almost the text of "
            f"{source.document}, {source.section}, which is held out",
        )  # fmt: skip
