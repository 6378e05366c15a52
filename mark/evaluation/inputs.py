"""What evaluating an entry reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mark.config import Eval, Retrieval
from mark.errors import DataError
from mark.evaluation.questions import (
    Question,
    check_leaks,
    evenly,
    from_example,
    load_handwritten,
    stratified,
)
from mark.evaluation.retrieval import DEPTH
from mark.files import (
    EMBEDDER,
    HANDWRITTEN_DEV,
    HANDWRITTEN_TEST,
    MODELS,
    PRACTICE_PASSAGES,
    TEST_SFT,
    TRAIN_SFT,
    VAL_SFT,
    read_jsonl,
)
from mark.records import Chunk, Example
from mark.retrieval import Retriever


@dataclass(frozen=True)
class EvalInputs:
    """Where an evaluation finds its inputs, and its seed."""

    data: Path  # chunks, vectors, train/val/test rows
    base: Path  # folder of the base model
    entry: Path  # folder of the entry
    embedder: Path
    handwritten_test: Path
    handwritten_dev: Path
    seed: int

    @classmethod
    def of_project(cls, entry: str, seed: int, root: Path = Path()) -> EvalInputs:
        """The project's own places.

        Raises:
            ModelError: The entry is missing.
        """
        from mark.models.loading import entry_base

        folder = root / MODELS / entry
        return cls(
            data=root / TEST_SFT.parent,
            base=entry_base(folder),
            entry=folder,
            embedder=root / EMBEDDER,
            handwritten_test=root / HANDWRITTEN_TEST,
            handwritten_dev=root / HANDWRITTEN_DEV,
            seed=seed,
        )


@dataclass(frozen=True)
class Asked:
    """The questions of one evaluation, contexts filled in.

    Attributes:
        test: Hand-written ones first, then rule-made.
        validation: For the thresholds.
        ranked: For each answerable test question with a known source: chunk ids, best first.
        train_rows: Rows a document.
        handwritten_left_out: Because the corpus is another one.
    """

    test: list[Question]
    validation: list[Question]
    ranked: dict[str, list[str]]
    train_rows: dict[str, int]
    handwritten_left_out: int
    chunks: dict[str, Chunk]


def gather(inputs: EvalInputs, settings: Eval, retrieval: Retrieval) -> Asked:
    """Read, check and choose the questions, and retrieve what they need.

    Raises:
        DataError: A file is missing or damaged, or there is nothing to ask.
        LeakError: A test question was trained on.
    """
    retriever = Retriever.open(inputs.data, inputs.embedder, retrieval)
    chunks = list(retriever.chunks.values())
    train = read_jsonl(inputs.data / TRAIN_SFT.name, Example)
    val = read_jsonl(inputs.data / VAL_SFT.name, Example)
    handwritten, left_out = load_handwritten(inputs.handwritten_test, chunks)
    rule_made = [from_example(row) for row in read_jsonl(inputs.data / TEST_SFT.name, Example)]
    check_leaks([*handwritten, *rule_made], [*train, *val])
    test = stratified(handwritten, settings.max_handwritten, lambda q: q.kind)
    test += evenly(rule_made, settings.max_rule_made)
    if not test:
        raise DataError(f"no test question; raise eval.max_rule_made or mend {inputs.data / TEST_SFT.name}")
    depth = max(retrieval.top_k, DEPTH, *settings.recall_at)
    ranked = _ranked(retriever, test, depth)
    validation = [from_example(row) for row in val] + load_handwritten(inputs.handwritten_dev, chunks)[0]
    validation = for_thresholds(validation, settings.max_calibration)
    if not validation:
        raise DataError("no validation question for the refusal threshold; raise data_prep.max_val")
    brought = brought_passages(inputs.data)
    known = {**retriever.chunks, **{chunk.chunk_id: chunk for chunk in brought}}
    check_contexts([*test, *validation], known)
    validation = with_contexts(validation, retriever, retrieval.top_k, brought)
    test = with_cosines([_filled(q, ranked[q.id][: retrieval.top_k]) for q in test], retriever)
    rows: dict[str, int] = {}
    for row in train:
        rows[row.document or ""] = rows.get(row.document or "", 0) + 1
    return Asked(
        test=test,
        validation=validation,
        ranked=ranked,
        train_rows=rows,
        handwritten_left_out=left_out,
        chunks=known,
    )


def for_thresholds(questions: Sequence[Question], limit: int) -> list[Question]:
    """The validation questions that the refusal rule is fitted on, at most `limit`, in order.

    The hand-written ones come first, so that a sweep compares the same ones whatever data_prep makes, then
    practice questions, then those of rules, which tell least about refusing people (CONTRIBUTING.md).
    """
    chosen: list[Question] = []
    for group in (
        [q for q in questions if q.handwritten],
        [q for q in questions if q.by_person and not q.handwritten],
        [q for q in questions if not q.by_person],
    ):
        chosen += stratified(group, limit - len(chosen), lambda q: q.kind)
    return chosen


def brought_passages(data: Path) -> list[Chunk]:
    """The passages that practice questions brought along; none where the file is missing."""
    path = data / PRACTICE_PASSAGES.name
    return read_jsonl(path, Chunk) if path.is_file() else []


def check_contexts(questions: Sequence[Question], chunks: Mapping[str, Chunk]) -> None:
    """Stop where a question names a chunk that there is not.

    Raises:
        DataError: The question and the chunk.
    """
    for question in questions:
        unknown = [i for i in (*question.gold, *(question.contexts or ())) if i not in chunks]
        if unknown:
            raise DataError(
                f"question {question.id} names chunk {unknown[0]}, which chunks.jsonl lacks; "
                "run `dvc repro data_prep`"
            )


def with_contexts(
    questions: Sequence[Question], retriever: Retriever, top_k: int, brought: Sequence[Chunk] = ()
) -> list[Question]:
    """The questions, those without contexts given the retriever's best.

    Args:
        questions: Any number.
        retriever: Over the corpus.
        top_k: Passages a question.
        brought: Passages outside the corpus that the contexts name.
    """
    ranked = _ranked(retriever, [q for q in questions if q.contexts is None], top_k)
    filled = with_cosines([_filled(q, ranked.get(q.id, [])) for q in questions], retriever)
    return with_cosines(filled, retriever.over(brought)) if brought else filled


def with_cosines(questions: Sequence[Question], retriever: Retriever) -> list[Question]:
    """The questions with the cosines of their contexts and gold chunks, those that the retriever has."""
    wanted = [sorted({*(q.contexts or ()), *q.gold} & retriever.chunks.keys()) for q in questions]
    found = retriever.cosines([q.question for q in questions], wanted)
    return [
        replace(q, cosines={**(q.cosines or {}), **known}) for q, known in zip(questions, found, strict=True)
    ]


def _ranked(retriever: Retriever, questions: Sequence[Question], k: int) -> dict[str, list[str]]:
    """Chunk ids for each question, best first."""
    found = retriever.search([question.question for question in questions], k)
    return {q.id: [hit.chunk.chunk_id for hit in hits] for q, hits in zip(questions, found, strict=True)}


def _filled(question: Question, ids: Sequence[str]) -> Question:
    return question if question.contexts is not None else replace(question, contexts=tuple(ids))
