"""What sweeps are chosen by: the same cells on the development questions; no test figure is needed for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mark.answering.refusal import Calibration
from mark.evaluation.cells import Answer, predict
from mark.evaluation.questions import HANDWRITTEN, Question
from mark.evaluation.retrieval import put
from mark.evaluation.significance import Bootstrap
from mark.records import Chunk, Prediction

Tree = dict[str, Any]


def development_rows(
    questions: Sequence[Question],
    answers: Mapping[tuple[str, str], Answer],
    calibrations: Mapping[str, Calibration],
    chunks: Mapping[str, Chunk],
) -> list[Prediction]:
    """Each cell's answers to the hand-written development questions, or to all validation questions where
    there are none.

    Args:
        questions: The validation questions.
        answers: By cell and question id.
        calibrations: The refusal rule of each cell.
        chunks: By id.
    """
    asked = [q for q in questions if q.handwritten] or list(questions)
    return [
        predict(q, cell, answers[cell, q.id], calibration, chunks)
        for cell, calibration in sorted(calibrations.items())
        for q in asked
    ]


def development(rows: Sequence[Prediction], bootstrap: Bootstrap) -> Tree:
    """Figures on the development questions.

    Args:
        rows: Of `development_rows`.
        bootstrap: Makes the intervals.

    Returns:
        `questions`, `handwritten`, and for each cell `f1_if_answered` with its interval (token F1 of the
        answerable questions, the refusal rule off), the same for `short` and `full` answers, `refusal_auc`
        (how well the refusal probability tells unanswerable from answerable, 0.5 = not at all; the weights
        were fitted on these questions among others) and `source_shown` (share of the answerable ones whose
        passage was retrieved).
    """
    cells: dict[str, list[Prediction]] = {}
    for row in rows:
        cells.setdefault(row.cell, []).append(row)
    first = next(iter(cells.values()))
    out: Tree = {"questions": len(first), "handwritten": first[0].rule_id == HANDWRITTEN}
    return out | {cell: _cell(found, bootstrap) for cell, found in cells.items()}


def cluster(row: Prediction) -> str:
    """What is drawn as one in the bootstrap: the section, or the question where none is cited."""
    return f"{row.document} > {row.section}" if row.section else row.example_id


def _cell(rows: Sequence[Prediction], bootstrap: Bootstrap) -> Tree:
    found: Tree = {}
    answerable = [row for row in rows if row.kind == "answerable"]
    for name, style in (("", None), ("_short", "short"), ("_full", "full")):
        chosen = [row for row in answerable if style in (None, row.style)]
        if chosen:
            values = np.array([row.f1_if_answered for row in chosen])
            put(found, f"f1_if_answered{name}", bootstrap.mean(values, [cluster(row) for row in chosen]))
    if (area := refusal_auc(rows)) is not None:
        found["refusal_auc"] = area
    shown = [row.source_in_contexts for row in rows if row.source_in_contexts is not None]
    if shown:
        found["source_shown"] = sum(shown) / len(shown)
    return found


def refusal_auc(rows: Sequence[Prediction]) -> float | None:
    """The share of pairs (unanswerable, answerable) that the refusal probability orders rightly, ties half.

    Source: Hanley and McNeil 1982, The meaning and use of the area under a ROC curve.
    """
    high = np.array([row.refusal_probability for row in rows if row.kind == "unanswerable"], dtype=np.float64)
    low = np.array([row.refusal_probability for row in rows if row.kind == "answerable"], dtype=np.float64)
    if not len(high) or not len(low):
        return None
    pairs = high[:, None] - low[None, :]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())
