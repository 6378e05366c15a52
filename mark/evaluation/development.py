"""What sweeps are chosen by: the same cells on the development questions; no test figure is needed for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mark.answering.refusal import Calibration
from mark.evaluation.cells import Answer, predict
from mark.evaluation.questions import Question
from mark.evaluation.significance import Bootstrap
from mark.records import Chunk, Prediction

Tree = dict[str, Any]


def development(
    questions: Sequence[Question],
    answers: Mapping[tuple[str, str], Answer],
    calibrations: Mapping[str, Calibration],
    chunks: Mapping[str, Chunk],
    bootstrap: Bootstrap,
) -> Tree:
    """Figures on the hand-written development questions, or on all validation questions where there are none.

    Args:
        questions: The validation questions.
        answers: By cell and question id.
        calibrations: The refusal rule of each cell.
        chunks: By id.
        bootstrap: Makes the intervals.

    Returns:
        `questions`, `handwritten`, and for each cell `f1_if_answered` with its interval (token F1 of the
        answerable questions, the refusal rule off), `refusal_auc` (how well the refusal probability tells
        unanswerable from answerable, 0.5 = not at all; the weights were fitted on these questions among
        others) and `source_shown` (share of the answerable ones whose passage was retrieved).
    """
    asked = [q for q in questions if q.handwritten] or list(questions)
    out: Tree = {"questions": len(asked), "handwritten": asked[0].handwritten}
    for cell, calibration in sorted(calibrations.items()):
        rows = [predict(q, cell, answers[cell, q.id], calibration, chunks) for q in asked]
        out[cell] = _cell(
            rows, [f"{q.document} > {q.section}" if q.section else q.id for q in asked], bootstrap
        )
    return out


def _cell(rows: Sequence[Prediction], clusters: Sequence[str], bootstrap: Bootstrap) -> Tree:
    found: Tree = {}
    answerable = [i for i, row in enumerate(rows) if row.kind == "answerable"]
    if answerable:
        values = np.array([rows[i].f1_if_answered for i in answerable])
        mean = bootstrap.mean(values, [clusters[i] for i in answerable])
        found |= {
            "f1_if_answered": mean.value,
            "f1_if_answered_low": mean.low,
            "f1_if_answered_high": mean.high,
        }
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
