"""What all evaluations of a run say together; nothing is answered here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mark.config import Eval
from mark.errors import DataError
from mark.evaluation.calibration import LOCAL
from mark.evaluation.engines import told_apart
from mark.evaluation.questions import HANDWRITTEN
from mark.evaluation.significance import Bootstrap, Gain, Verdict, choose_clusters, judge
from mark.evaluation.summary import rounded
from mark.files import METRICS, MODELS, REPORTS, read_json, read_jsonl
from mark.records import Prediction
from mark.seeding import derived_seed

GROUPS = ("handwritten", "rule_made")
METRICS_SHOWN = (
    "exact_match", "token_f1", "f1_if_answered", "rouge_l", "bleu", "refusal_recall", "false_refusals",
    "quote_correct",
)  # fmt: skip
EXTRACTIVE = "best sentence"  # no model
RETRIEVAL = " + retrieval"
_SUFFIX = {"": "", "_retrieval": RETRIEVAL, "_oracle": " + right passage"}
_POLICY_GATE = "rlhf"
Tree = dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """One entry's evaluation.

    Attributes:
        name: Of the entry.
        sft: The entry that it was trained on from; None where it started from the base model.
        base: Its base model.
        metrics: The content of metrics/eval_<entry>.json.
        predictions: Of the test questions, all cells.
    """

    name: str
    sft: str | None
    base: str
    metrics: Tree
    predictions: list[Prediction]

    def label(self, cell: str) -> str:
        """What a row of the table is called: the model, and what it was shown."""
        if cell == "extractive":
            return EXTRACTIVE
        model, _, context = cell.partition("_")
        return (self.base if model == "base" else self.name) + _SUFFIX[f"_{context}" if context else ""]


@dataclass(frozen=True)
class CompareInputs:
    """The evaluations of a run, and what RLHF's gate said."""

    entries: list[Evaluated]
    rlhf: Tree | None  # metrics/rlhf.json below `rlhf`

    @classmethod
    def of_project(cls, names: Sequence[str], root: Path = Path()) -> CompareInputs:
        """Read what eval and rlhf_report wrote.

        Args:
            names: `eval.entries`.
            root: The project's root.

        Raises:
            DataError: An entry was not evaluated, or by another version.
        """
        report = root / METRICS / "rlhf.json"
        return cls(
            entries=[_read(name, root) for name in names],
            rlhf=read_json(report).get("rlhf") if report.is_file() else None,
        )


def _read(name: str, root: Path) -> Evaluated:
    metrics, answers = root / METRICS / f"eval_{name}.json", root / REPORTS / "eval" / name
    for path in (metrics, answers / "predictions.jsonl", root / MODELS / name / "entry.json"):
        if not path.is_file():
            raise DataError(f"{path} is missing; run `dvc repro eval@{name}`")
    record = read_json(root / MODELS / name / "entry.json")
    if not isinstance(record, dict):
        raise DataError(f"models/{name}/entry.json is not an entry; run `dvc repro -f eval@{name}`")
    try:
        return Evaluated(
            name=name,
            sft=record.get("sft"),
            base=record["base"],
            metrics=dict(read_json(metrics)[f"eval_{name}"]),
            predictions=read_jsonl(answers / "predictions.jsonl", Prediction),
        )
    except (KeyError, TypeError) as fault:
        raise DataError(
            f"{metrics} or entry.json is not what its stage writes ({fault}); run `dvc repro -f eval@{name}`"
        ) from None


def compare_entries(inputs: CompareInputs, settings: Eval, seed: int) -> Tree:
    """The one table, the paired gains of each entry with retrieval, and the verdicts.

    An entry ships when it beats the base model with retrieval and the best sentence; one that was trained on
    from another entry has to beat that one too, and to be kept by RLHF's own gate.

    Args:
        inputs: The evaluations; all of the same test questions.
        settings: Section `eval`.
        seed: Of the run.

    Returns:
        The content of metrics/compare.json below `compare`: `models` (labels in the table's order), `rows`
        (group -> label -> metrics), `gain` and `verdict` by entry, `best` (an entry or "none"); `engines`
        where not one engine ran all entries.

    Raises:
        DataError: Entries answered different test questions.
    """
    answers = _answers(inputs.entries)
    first = next(iter(answers.values()))
    group = "handwritten" if any(row.rule_id == HANDWRITTEN for row in first.values()) else "all"
    asked = [row for row in first.values() if group == "all" or row.rule_id == HANDWRITTEN]
    clusters = choose_clusters(
        [row.document for row in asked],
        [row.section for row in asked],
        [row.example_id for row in asked],
        settings.min_clusters,
    )
    bootstrap = Bootstrap(settings.bootstrap_samples, settings.confidence, derived_seed(seed, "bootstrap"))
    enough = len({c for c, row in zip(clusters, asked, strict=True) if row.kind == "answerable"})
    found: Tree = {"rows": _rows(inputs.entries), "gain": {}, "verdict": {}, "reason": {}}
    for entry in inputs.entries:
        new = answers.get(entry.name + RETRIEVAL)
        if new is None:
            continue
        gains = {
            f"over {old}": _gain(bootstrap, new, answers[old], asked, clusters)
            for old in _rivals(entry, answers)
        }
        verdict, reason = _verdict(entry, gains, inputs.rlhf, enough, settings.min_clusters)
        found["gain"][entry.name] = {name: _numbers(gain) for name, gain in gains.items()}
        found["verdict"][entry.name], found["reason"][entry.name] = verdict, reason
    shipped = [entry.name for entry in inputs.entries if found["verdict"].get(entry.name) == "ship"]
    found |= {
        "entries": [entry.name for entry in inputs.entries],
        "best": shipped[-1] if shipped else "none",
        "judged": group,
        "questions": len(asked),
        "clusters": enough,
    }
    labels = dict.fromkeys(label for rows in found["rows"].values() for label in rows)
    found["models"] = sorted(labels, key=lambda label: label == EXTRACTIVE)
    found |= _notes(inputs.entries[0])
    apart = told_apart({entry.name: _engine(entry.metrics) for entry in inputs.entries})
    if apart:
        found["engines"] = apart
    return dict(rounded(found))


def _engine(metrics: Tree) -> str:
    """What gave an entry's answers; in which precision, where it is known."""
    precision = f" in {metrics['precision']}" if "precision" in metrics else ""
    return f"{metrics.get('engine', LOCAL)}{precision}"


def _answers(entries: Sequence[Evaluated]) -> dict[str, dict[str, Prediction]]:
    """Label -> question id -> answer; the base model's and the best sentence's come from the first entry."""
    answers: dict[str, dict[str, Prediction]] = {}
    for entry in entries:
        for row in entry.predictions:
            label = entry.label(row.cell)
            answers.setdefault(label, {}).setdefault(row.example_id, row)
    asked = {label: frozenset(rows) for label, rows in answers.items()}
    if len(set(asked.values())) > 1:
        sizes = ", ".join(f"{label} {len(ids)}" for label, ids in asked.items())
        raise DataError(
            f"the entries answered different test questions ({sizes}); run `dvc repro eval` for all of them"
        )
    if not answers:
        raise DataError("no answer to a test question was found; run `dvc repro eval`")
    return answers


def _rows(entries: Sequence[Evaluated]) -> Tree:
    """Group -> label -> metrics with intervals, each label once."""
    rows: Tree = {}
    for group in GROUPS:
        for entry in entries:
            for cell, values in entry.metrics.get(group, {}).items():
                kept = {
                    f"{name}{end}": values[f"{name}{end}"]
                    for name in METRICS_SHOWN
                    if name in values
                    for end in ("", "_low", "_high")
                }
                rows.setdefault(group, {}).setdefault(entry.label(cell), kept)
    return rows


def _notes(first: Evaluated) -> Tree:
    """What all entries share: retrieval, and what training saw of the tested documents."""
    unseen = first.metrics.get("unseen_documents", {})
    return {
        "retrieval": {group: dict(values) for group, values in first.metrics["retrieval"].items()},
        "seen_in_training": dict(first.metrics["test_documents_seen_in_training"]),
        "unseen_documents": {
            first.label(cell): {n: values[n] for n in ("token_f1", "token_f1_low", "token_f1_high")}
            for cell, values in unseen.items()
        },
        "unseen_questions": first.metrics["counts"].get("unseen_documents", 0),
    }


def _rivals(entry: Evaluated, answers: Mapping[str, object]) -> list[str]:
    wanted = [entry.base + RETRIEVAL, EXTRACTIVE]
    if entry.sft is not None:
        wanted.append(entry.sft + RETRIEVAL)
    return [label for label in wanted if label in answers]


def _gain(
    bootstrap: Bootstrap,
    new: Mapping[str, Prediction],
    old: Mapping[str, Prediction],
    asked: Sequence[Prediction],
    clusters: Sequence[str],
) -> Gain:
    """Paired difference in token F1 on the judged questions."""
    ours = np.array([new[row.example_id].token_f1 for row in asked])
    theirs = np.array([old[row.example_id].token_f1 for row in asked])
    return bootstrap.gain(ours, theirs, clusters)


def _verdict(
    entry: Evaluated, gains: Mapping[str, Gain], rlhf: Tree | None, clusters: int, needed: int
) -> tuple[Verdict, str]:
    wanted = 2 if entry.sft is None else 3
    if len(gains) < wanted:
        return "cannot tell", f"compared only {' and '.join(gains) or 'with nothing'} (see eval.cells)"
    if clusters < needed:
        return "cannot tell", f"{clusters} clusters of answerable questions are too few, {needed} are needed"
    if entry.sft is not None and (rlhf is None or rlhf["kept"] != _POLICY_GATE):
        if rlhf is None:
            return "cannot tell", "RLHF's own gate did not judge it (`dvc repro rlhf_report`)"
        return "don't ship" if rlhf["verdict"] == "don't ship" else "cannot tell", str(rlhf["reason"])
    verdict = judge(list(gains.values()))
    below = [name for name, gain in gains.items() if gain.high < 0]
    unsure = [name for name, gain in gains.items() if gain.low <= 0]
    if verdict == "ship":
        return verdict, f"its token F1 is higher {' and '.join(gains)}"
    if below:
        return verdict, f"its gain is below zero {' and '.join(below)}"
    return verdict, f"no gain is shown {' and '.join(unsure)}"


def _numbers(gain: Gain) -> Tree:
    return {
        "difference": gain.difference,
        "low": gain.low,
        "high": gain.high,
        "smallest_detectable": gain.smallest_detectable,
    }
