"""Training and held-out data must not overlap; if they do, the stage fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mark.data_prep.similarity import QuestionIndex, near_copies
from mark.data_prep.split import Splits
from mark.errors import LeakError
from mark.records import Chunk, Example, Split


def check_leaks(rows: Mapping[Split, Sequence[Example]], splits: Splits, chunks: Mapping[str, Chunk]) -> None:
    """Look for every way in which training could have seen held-out data.

    Args:
        rows: The examples of each split.
        splits: The split of each section.
        chunks: All chunks by id, with the passages that practice questions brought along.

    Raises:
        LeakError: A section asked about in two splits or in the wrong one, a training or validation
            context from a split that it may not see, near-identical questions in two splits, or a
            training context that is a near-copy of a test passage.
    """
    _check_sections(rows, splits)
    _check_contexts(rows, splits, chunks)
    _check_questions(rows)
    _check_copies(rows, splits, chunks)


def _check_sections(rows: Mapping[Split, Sequence[Example]], splits: Splits) -> None:
    seen: dict[tuple[str, str], Split] = {}
    for split, examples in rows.items():
        for row in examples:
            if row.document is None or row.section is None:
                continue
            key = (row.document, row.section)
            other = seen.setdefault(key, split)
            if other != split or splits.of_section.get(key, split) != split:
                wrong = other if other != split else splits.of_section[key]
                raise LeakError(
                    f"{row.document}, {row.section or 'front matter'} is asked about in {split} but "
                    f"belongs to "
                    f"{wrong}; delete the split files and run `dvc repro data_prep`"
                )


def _check_contexts(
    rows: Mapping[Split, Sequence[Example]], splits: Splits, chunks: Mapping[str, Chunk]
) -> None:
    allowed: dict[Split, set[Split]] = {"train": {"train"}, "val": {"train", "val"}}
    for split, visible in allowed.items():
        for row in rows.get(split, ()):
            for chunk_id in row.contexts:
                chunk = chunks.get(chunk_id)
                if chunk is None:
                    raise LeakError(
                        f"{row.example_id}: context {chunk_id[:12]} is no chunk; run `dvc repro data_prep`"
                    )
                if splits.of_section.get((chunk.document, chunk.section), "train") not in visible:
                    raise LeakError(
                        f"{row.example_id} ({split}) shows {chunk.document}, {chunk.section} of the "
                        f"{splits.of(chunk)} split; run `dvc repro data_prep`"
                    )


def _check_questions(rows: Mapping[Split, Sequence[Example]]) -> None:
    held = QuestionIndex()
    for row in rows.get("test", ()):
        held.add(row.question)
    names: tuple[Split, ...] = ("val", "train")
    for split in names:
        for row in rows.get(split, ()):
            if row.question in held:
                raise LeakError(
                    f"{row.example_id} ({split}) asks almost what a held-out question asks: "
                    f"{row.question!r}; run `dvc repro data_prep`"
                )
        for row in rows.get(split, ()):
            held.add(row.question)


def _check_copies(
    rows: Mapping[Split, Sequence[Example]], splits: Splits, chunks: Mapping[str, Chunk]
) -> None:
    shown = {chunk_id for row in rows.get("train", ()) for chunk_id in row.contexts}
    test = [c for c in chunks.values() if splits.of_section.get((c.document, c.section)) == "test"]
    copies = near_copies([chunks[chunk_id] for chunk_id in sorted(shown)], test)
    for chunk_id, original in sorted(copies.items()):
        where, source = chunks[chunk_id], chunks[original]
        raise LeakError(
            f"{where.document}, {where.section} (shown in training) is almost the text of {source.document}, "
            f"{source.section} (test); run `dvc repro data_prep`"
        )
