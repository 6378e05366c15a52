"""From predictions to metrics/eval_<entry>.json: means with intervals, gains with intervals, the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mark.config import Eval
from mark.evaluation.calibration import Calibrations
from mark.evaluation.cells import in_gold_section
from mark.evaluation.inputs import Asked
from mark.evaluation.metrics import answerable_golds, bleu_counts, corpus_bleu
from mark.evaluation.questions import HANDWRITTEN, Question
from mark.evaluation.retrieval import Ranked, put, retrieval_metrics
from mark.evaluation.significance import DECISIVE, Bootstrap, Floats, Gain, choose_clusters, judge
from mark.records import Chunk, Prediction
from mark.seeding import derived_seed

BASELINES = {
    "over_base_retrieval": "base_retrieval",
    "over_extractive": "extractive",
    "over_tuned_without_retrieval": "tuned",
    "over_base": "base",
}
NEW = "tuned_retrieval"
Tree = dict[str, Any]


@dataclass(frozen=True)
class _Table:
    """Predictions by cell, all cells in the order of the same questions."""

    questions: list[Question]
    clusters: dict[str, str]  # question id -> cluster
    cells: dict[str, dict[str, Prediction]]  # cell -> question id -> prediction
    chunks: dict[str, Chunk]
    bootstrap: Bootstrap


def summarise(
    predictions: Sequence[Prediction], asked: Asked, settings: Eval, calibrations: Calibrations, seed: int
) -> Tree:
    """The metrics of one entry.

    Args:
        predictions: Of every cell for every test question.
        asked: The questions.
        settings: Section `eval`.
        calibrations: The fitted thresholds.
        seed: Of the run.

    Returns:
        Nested scalars, floats rounded to 6 digits, no NaN: what cannot be computed is absent.
    """
    table = _table(predictions, asked, settings, seed)
    groups = _groups(asked)
    metrics: Tree = {name: _cells(table, questions) for name, questions in groups.items() if questions}
    metrics["retrieval"] = _retrieval(table, groups, asked, settings)
    gains = {
        name: _gains(table, groups[name]) for name in ("handwritten", "rule_made", "all") if groups[name]
    }
    judged = "handwritten" if groups["handwritten"] else "all"
    decisive = [gains[judged][name] for name in DECISIVE if name in gains[judged]]
    metrics["gain"] = {name: {base: _gain(g) for base, g in of.items()} for name, of in gains.items()}
    answerable = [q for q in groups[judged] if q.kind == "answerable"]
    enough = len({table.clusters[q.id] for q in answerable}) >= settings.min_clusters
    complete = len(decisive) == len(DECISIVE)
    metrics["verdict"] = judge(decisive) if enough and complete else "cannot tell"
    metrics["verdict_on"] = judged
    metrics["counts"] = _counts(groups, asked)
    metrics["clusters"] = {
        name: len({table.clusters[q.id] for q in questions})
        for name, questions in groups.items()
        if questions
    }
    metrics["clusters"]["judged"] = len({table.clusters[q.id] for q in answerable})
    metrics["clusters"]["needed"] = settings.min_clusters
    metrics["confidence"] = settings.confidence
    metrics["refusal_threshold"] = {name: c.threshold for name, c in calibrations.thresholds.items()}
    metrics["refusal_fitted"] = {name: c.fitted for name, c in calibrations.thresholds.items()}
    metrics["refusal_weights"] = {name: dict(c.model.weights) for name, c in calibrations.thresholds.items()}
    metrics["test_documents_seen_in_training"] = {
        name: asked.train_rows.get(name, 0) for name in sorted({q.document for q in asked.test if q.document})
    }
    result: Tree = rounded(metrics)
    return result


def _table(predictions: Sequence[Prediction], asked: Asked, settings: Eval, seed: int) -> _Table:
    cells: dict[str, dict[str, Prediction]] = {}
    for row in predictions:
        cells.setdefault(row.cell, {})[row.example_id] = row
    names = choose_clusters(
        [q.document for q in asked.test],
        [q.section for q in asked.test],
        [q.id for q in asked.test],
        settings.min_clusters,
    )
    clusters = {q.id: name for q, name in zip(asked.test, names, strict=True)}
    bootstrap = Bootstrap(settings.bootstrap_samples, settings.confidence, derived_seed(seed, "bootstrap"))
    return _Table(asked.test, clusters, cells, asked.chunks, bootstrap)


def _groups(asked: Asked) -> dict[str, list[Question]]:
    """The questions that each part of the metrics is about."""
    test = asked.test
    return {
        "all": list(test),
        "handwritten": [q for q in test if q.rule_id == HANDWRITTEN],
        "rule_made": [q for q in test if q.rule_id != HANDWRITTEN],
        "answerable": [q for q in test if q.kind == "answerable"],
        "short": [q for q in test if q.style == "short"],
        "full": [q for q in test if q.style == "full"],
        "unseen_documents": [q for q in test if q.document and not asked.train_rows.get(q.document)],
    }


def _cells(table: _Table, questions: Sequence[Question]) -> Tree:
    clusters = [table.clusters[q.id] for q in questions]
    out: Tree = {}
    for cell, by_id in table.cells.items():
        rows = [by_id[q.id] for q in questions]
        gold = [quotes_gold(row, q, table.chunks) for row, q in zip(rows, questions, strict=True)]
        out[cell] = cell_metrics(rows, gold, clusters, table.bootstrap)
    return out


def quotes_gold(row: Prediction, question: Question, chunks: Mapping[str, Chunk]) -> bool:
    """Whether the answer stands verbatim in a shown passage of the section that the question is about."""
    return row.quote_chunk is not None and in_gold_section(question, row.quote_chunk, chunks)


def cell_metrics(
    rows: Sequence[Prediction], quotes_gold: Sequence[bool], clusters: Sequence[str], bootstrap: Bootstrap
) -> Tree:
    """All metrics of one cell on one group of questions.

    Exact match, token F1 and ROUGE-L are means over all questions; BLEU is that of the corpus of answerable
    ones; `f1_if_answered` is their token F1 with the refusal rule off; the shares are over the questions
    that they are about and absent where there are none.

    Args:
        rows: [N] predictions.
        quotes_gold: [N], whether the answer is verbatim in a shown passage of the right section.
        clusters: [N].
        bootstrap: Makes the intervals.

    Returns:
        `<metric>`, `<metric>_low`, `<metric>_high`.
    """
    out: Tree = {}
    for name in ("exact_match", "token_f1", "rouge_l"):
        values = np.array([getattr(row, name) for row in rows])
        put(out, name, bootstrap.mean(values, clusters))
    answerable = [i for i, row in enumerate(rows) if row.kind == "answerable"]
    if answerable:
        counts = np.stack([_bleu_row(rows[i]) for i in answerable])
        of = [clusters[i] for i in answerable]
        put(out, "bleu", bootstrap.statistic(counts, of, corpus_bleu))
        values = np.array([rows[i].f1_if_answered for i in answerable])
        put(out, "f1_if_answered", bootstrap.mean(values, of))
    shares = {
        "refusal_recall": [(r.kind == "unanswerable", r.refused) for r in rows],
        "false_refusals": [(r.kind == "answerable", r.refused) for r in rows],
        "quote_correct": [(_answered(r), gold) for r, gold in zip(rows, quotes_gold, strict=True)],
        "quote_verbatim": [(_answered(r), r.quote is not None) for r in rows],
        "source_shown": [(r.source_in_contexts is not None, bool(r.source_in_contexts)) for r in rows],
    }
    for name, flags in shares.items():
        _put_share(out, name, flags, clusters, bootstrap)
    return out


def _bleu_row(row: Prediction) -> Floats:
    """BLEU's counts of one answer to an answerable question; a refusal counts as an empty answer."""
    return bleu_counts("" if row.refused else row.prediction, answerable_golds(row.answers))


def _answered(row: Prediction) -> bool:
    return row.kind == "answerable" and not row.refused and bool(row.contexts)


def _put_share(
    out: Tree, name: str, flags: Sequence[tuple[bool, bool]], clusters: Sequence[str], bootstrap: Bootstrap
) -> None:
    """Share of hits among the rows that count: `flags` are (counts, hit)."""
    chosen = [i for i, (counts, _) in enumerate(flags) if counts]
    if chosen:
        values = np.array([float(flags[i][1]) for i in chosen])
        put(out, name, bootstrap.mean(values, [clusters[i] for i in chosen]))


def _retrieval(table: _Table, groups: dict[str, list[Question]], asked: Asked, settings: Eval) -> Tree:
    """How well the passage is found; an answerable question whose gold chunk is unknown counts as a miss."""
    out: Tree = {}
    for name in ("all", "handwritten", "rule_made", "unseen_documents"):
        questions = [q for q in groups[name] if q.kind == "answerable"]
        if questions:
            rows = [Ranked.of(q, asked.ranked[q.id], table.chunks) for q in questions]
            clusters = [table.clusters[q.id] for q in questions]
            out[name] = retrieval_metrics(rows, clusters, settings.recall_at, table.bootstrap)
    return out


def _gains(table: _Table, questions: Sequence[Question]) -> dict[str, Gain]:
    """Paired differences in token F1 between the tuned model with retrieval and each baseline."""
    if NEW not in table.cells:
        return {}
    clusters = [table.clusters[q.id] for q in questions]

    def f1(cell: str) -> Floats:
        return np.array([table.cells[cell][q.id].token_f1 for q in questions])

    return {
        name: table.bootstrap.gain(f1(NEW), f1(cell), clusters)
        for name, cell in BASELINES.items()
        if cell in table.cells
    }


def _gain(gain: Gain) -> Tree:
    return {
        "difference": gain.difference,
        "low": gain.low,
        "high": gain.high,
        "smallest_detectable": gain.smallest_detectable,
    }


def _counts(groups: dict[str, list[Question]], asked: Asked) -> Tree:
    counts: Tree = {name: len(questions) for name, questions in groups.items() if questions}
    counts["unanswerable"] = sum(q.kind == "unanswerable" for q in asked.test)
    counts["validation"] = len(asked.validation)
    counts["handwritten_left_out"] = asked.handwritten_left_out
    counts["gold_chunk_unknown"] = sum(q.kind == "answerable" and not q.gold for q in asked.test)
    return counts


def rounded(value: Any) -> Any:
    """Floats to 6 digits, in nested dictionaries too."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return round(value, 6) + 0.0 if isinstance(value, float) else value
