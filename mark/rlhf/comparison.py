"""Metrics of the arms and paired gains of the policy, on all test questions and on each group of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mark.config import Eval, Rlhf
from mark.evaluation.inputs import Asked
from mark.evaluation.metrics import answerable_golds
from mark.evaluation.retrieval import put
from mark.evaluation.significance import Bootstrap, Floats, choose_clusters
from mark.evaluation.summary import cell_metrics, quotes_gold
from mark.records import Prediction
from mark.rlhf.reward import judged
from mark.seeding import derived_seed

OUTSIDE = "similarity"  # the metric that the reward does not contain and the gate looks at
OUTSIDE_NAME = "similarity to the accepted answer"
GAINS = ("reward", "token_f1", OUTSIDE, "rouge_l")
POLICY_ARM = "rlhf"
OTHERS = ("sft", "sft_continued", "base")
Tree = dict[str, Any]
Encode = Callable[[Sequence[str]], NDArray[np.float32]]
Arms = Mapping[str, Sequence[Prediction]]


@dataclass(frozen=True)
class _Table:
    """Each arm's answers and their values, all in the order of the same questions."""

    rows: Arms
    values: Mapping[str, Mapping[str, Floats]]  # arm -> metric -> [N]
    gold: Mapping[str, Sequence[bool]]  # arm -> whether the answer is verbatim in the right section, [N]
    clusters: Sequence[str]
    bootstrap: Bootstrap


def summarise(rows: Arms, asked: Asked, settings: Rlhf, evaluation: Eval, seed: int, encode: Encode) -> Tree:
    """Metrics of each arm and paired gains of the policy, for each group of questions that there is.

    Args:
        rows: By arm, in the order of the test questions.
        asked: The questions.
        settings: Section `rlhf`; the reward's weights.
        evaluation: Section `eval`; how intervals are made.
        seed: Of the run.
        encode: Unit vectors of texts, float32 [texts, dimension].

    Returns:
        `all`, `handwritten`, `rule_made`, each with `arms`, `gain`, `questions` and `clusters` (of
        answerable ones), and `verdict_on`: the hand-written ones where there are any, else all.
    """
    test = asked.test
    clusters = choose_clusters(
        [q.document for q in test], [q.section for q in test], [q.id for q in test], evaluation.min_clusters
    )
    alike = similarities(rows, encode)
    table = _Table(
        rows=rows,
        values={arm: _values(found, settings) | {OUTSIDE: alike[arm]} for arm, found in rows.items()},
        gold={
            arm: [quotes_gold(row, q, asked.chunks) for row, q in zip(found, test, strict=True)]
            for arm, found in rows.items()
        },
        clusters=clusters,
        bootstrap=Bootstrap(
            evaluation.bootstrap_samples, evaluation.confidence, derived_seed(seed, "bootstrap")
        ),
    )
    groups = {
        "all": list(range(len(test))),
        "handwritten": [i for i, q in enumerate(test) if q.handwritten],
        "rule_made": [i for i, q in enumerate(test) if not q.handwritten],
    }
    out: Tree = {name: _group(table, places) for name, places in groups.items() if places}
    out["verdict_on"] = "handwritten" if groups["handwritten"] else "all"
    return out


def similarities(rows: Arms, encode: Encode) -> dict[str, Floats]:
    """Cosine of each answer with the nearest accepted one, in [0, 1].

    A refusal earns 1 where the question has no answer and 0 where it has one; an answer to a question without
    one earns 0. Equal texts earn the same in every arm.

    Args:
        rows: By arm.
        encode: Unit vectors of texts.
    """
    texts = sorted({text for found in rows.values() for row in found for text in _compared(row)})
    vectors = dict(zip(texts, encode(texts), strict=True)) if texts else {}

    def value(row: Prediction) -> float:
        answers = answerable_golds(row.answers)
        if row.refused or not answers:
            return float(row.refused and not answers)
        if not row.prediction.strip():
            return 0.0
        nearest = max(float(vectors[row.prediction] @ vectors[gold]) for gold in answers)
        return round(min(1.0, max(0.0, nearest)), 6)

    return {arm: np.array([value(row) for row in found]) for arm, found in rows.items()}


def _compared(row: Prediction) -> list[str]:
    """The texts whose vectors are needed to judge an answer."""
    answers = answerable_golds(row.answers)
    return [] if row.refused or not answers or not row.prediction.strip() else [row.prediction, *answers]


def _values(rows: Sequence[Prediction], settings: Rlhf) -> dict[str, Floats]:
    weights = settings.reward
    rewards = [
        judged(r.prediction, r.answers, r.refused, r.quote is not None, weights).total(weights) for r in rows
    ]
    return {
        "reward": np.array(rewards, dtype=np.float64),
        "token_f1": np.array([row.token_f1 for row in rows]),
        "rouge_l": np.array([row.rouge_l for row in rows]),
    }


def _group(table: _Table, places: Sequence[int]) -> Tree:
    """The metrics on some of the questions."""
    clusters = [table.clusters[i] for i in places]
    first = next(iter(table.rows.values()))
    values = {
        arm: {name: of[places] for name, of in metrics.items()} for arm, metrics in table.values.items()
    }
    return {
        "arms": {arm: _arm(table, arm, places) for arm in table.rows},
        "gain": {
            f"over_{other}": {
                name: asdict(table.bootstrap.gain(values[POLICY_ARM][name], values[other][name], clusters))
                for name in GAINS
            }
            for other in OTHERS
        },
        "questions": len(places),
        "clusters": len({table.clusters[i] for i in places if first[i].kind == "answerable"}),
    }


def _arm(table: _Table, arm: str, places: Sequence[int]) -> Tree:
    clusters, how = [table.clusters[i] for i in places], table.bootstrap
    rows = [table.rows[arm][i] for i in places]
    out = cell_metrics(rows, [table.gold[arm][i] for i in places], clusters, how)
    rewards = table.values[arm]["reward"][list(places)]
    sums = np.stack([rewards, np.ones_like(rewards)], axis=1)
    put(out, "reward", how.statistic(sums, clusters, _mean, (-1.0, 1.0)))
    put(out, OUTSIDE, how.mean(table.values[arm][OUTSIDE][list(places)], clusters))
    words = [len(row.prediction.split()) for row in rows if not row.refused]
    out["answer_words"] = sum(words) / max(len(words), 1)
    out["refused"] = sum(row.refused for row in rows) / max(len(rows), 1)
    return out


def _mean(sums: Floats) -> Floats:
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros_like(sums[..., 0]), where=sums[..., 1] > 0)
