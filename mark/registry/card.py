"""The model card in the hub's format, made from entry.json, SOURCE.json and metrics.

Each number is written as the metrics file has it, so that a card can be checked against the file: tables name
the keys that lead to a value, in the file `eval_<entry>.<table>.<row>.<column>`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mark.errors import DataError, MarkError
from mark.files import CARDS, INGEST_REPORT, read_json, write_text
from mark.models.source_file import Source, read_source
from mark.registry.view import ENTRY_FILE, ModelInfo, Tree

Form = Literal["adapter", "merged"]

CELL_METRICS = (
    "token_f1", "exact_match", "rouge_l", "bleu", "f1_if_answered", "refusal_recall", "false_refusals",
    "quote_correct",
)  # fmt: skip
GROUPS = {"handwritten": "Questions written one by one", "rule_made": "Questions made by rules"}
_LICENCES = {"apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "bsd-3-clause", "gpl-3.0"}  # the hub's names
_TRAINING = (
    "base", "base_sha256", "architecture", "data_sha256", "params_sha256", "seed", "examples", "steps",
    "best_step", "train_loss", "val_loss", "trainable_parameters", "max_seq_length", "precision",
)  # fmt: skip


@dataclass(frozen=True)
class CardFacts:
    """What a card is made from.

    Attributes:
        name: Of the entry.
        entry: The content of entry.json.
        source: Of the base model.
        metrics: The content of metrics/eval_<name>.json below its key; None where it was not evaluated.
        documents: Name and sha256 of each document that was read.
        attribution: Whether data/ATTRIBUTION.md tells where the documents come from.
    """

    name: str
    entry: Tree
    source: Source
    metrics: Tree | None
    documents: list[tuple[str, str]]
    attribution: bool


def card_facts(info: ModelInfo, root: Path) -> CardFacts:
    """Gather what a card needs.

    Raises:
        ModelError: The base's SOURCE.json is missing or damaged.
        DataError: The ingest report is damaged.
    """
    sample = (root / "data/ATTRIBUTION.md").is_file() and _is_sample(root)
    return CardFacts(
        name=info.name,
        entry=read_json(info.folder / ENTRY_FILE),
        source=read_source(info.folder.parent / "base" / info.base),
        metrics=info.metrics,
        documents=_documents(root),
        attribution=sample,
    )


def write_card(info: ModelInfo, root: Path) -> Path:
    """Write reports/cards/<entry>/README.md."""
    path = root / CARDS / info.name / "README.md"
    write_text(path, render_card(card_facts(info, root), "adapter"))
    return path


def render_card(facts: CardFacts, form: Form) -> str:
    """The card's text.

    Args:
        facts: What it is made from.
        form: What lies beside it: the adapter, or merged weights.
    """
    parts = [
        _front_matter(facts, form),
        f"# {facts.name}",
        _summary(facts, form),
        "## How to load",
        _loading(facts, form),
        "## Measured",
        *_measured(facts),
        "## Training and data",
        _table(("key", "value"), [(key, facts.entry.get(key)) for key in _TRAINING if key in facts.entry]),
        _lineage(facts),
        "## Licences",
        _licences(facts),
        "## Limits",
        _limits(facts),
    ]
    return "\n\n".join(parts) + "\n"


def number(value: Any) -> str:
    """A scalar as the metrics file writes it."""
    return str(value) if isinstance(value, str) else json.dumps(value)


def _front_matter(facts: CardFacts, form: Form) -> str:
    licence = facts.source.licence.lower()
    known = licence in _LICENCES
    lines = ["---", f"license: {licence if known else 'other'}"]
    lines += [] if known else [f"license_name: {json.dumps(facts.source.licence)}"]
    if facts.source.repo_id is not None:  # the hub knows no other names
        lines.append(f"base_model: {facts.source.repo_id}")
    lines += [
        f"library_name: {'peft' if form == 'adapter' else 'transformers'}",
        "pipeline_tag: text-generation",
    ]
    lines += ["tags:", "- question-answering", "- retrieval", "- lora", "- mark", "---"]
    return "\n".join(lines)


def _base_id(facts: CardFacts) -> str:
    return facts.source.repo_id or str(facts.entry.get("base"))


def _summary(facts: CardFacts, form: Form) -> str:
    what = "A LoRA adapter" if form == "adapter" else "The merged weights of a LoRA adapter"
    verdict = ""
    if facts.metrics is not None:
        verdict = f" Verdict with retrieval, against its baselines: **{facts.metrics['verdict']}**."
    return (
        f"{what} on `{_base_id(facts)}`, trained by MARK to answer questions from passages, to quote them "
        f"and to say when they hold no answer.{verdict}"
    )


def _loading(facts: CardFacts, form: Form) -> str:
    if form == "merged":
        code = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'folder = "."  # where this card lies\n'
            "model = AutoModelForCausalLM.from_pretrained(folder)\n"
            "tokenizer = AutoTokenizer.from_pretrained(folder)"
        )
    else:
        code = "from mark import load_model\n\n"
        code += f'model, tokenizer, device = load_model("{facts.name}", merge=True)'
    return (
        f"```python\n{code}\n```\n\nIt was trained on prompts of one form: the instruction, numbered "
        "passages, then the question (`mark.prompting`). Other prompts are answered worse."
    )


def _measured(facts: CardFacts) -> list[str]:
    metrics = facts.metrics
    if metrics is None:
        return ["It was not evaluated."]
    parts = [
        f"Each value with its interval (confidence {number(metrics['confidence'])}, clusters of questions "
        f"resampled); 1 is perfect, but for `false_refusals`, where 0 is. "
        f"Source: `metrics/eval_{facts.name}.json`."
    ]
    for group, title in GROUPS.items():
        if group in metrics:
            parts += [f"### {title} (`{group}`)", _cells(metrics[group])]
    for group in GROUPS:
        if group in metrics["gain"]:
            title = f"### Gains in token F1 of tuned_retrieval (`gain.{group}`)"
            keys = ("difference", "low", "high", "smallest_detectable")
            rows = [
                (name, *[gain[key] for key in keys]) for name, gain in sorted(metrics["gain"][group].items())
            ]
            parts += [title, _table(("baseline", *keys), rows)]
    parts += ["### Questions (`counts`)", _table(("count", "value"), sorted(metrics["counts"].items()))]
    parts += ["### Clusters (`clusters`)", _table(("group", "value"), sorted(metrics["clusters"].items()))]
    return parts


def _cells(cells: Mapping[str, Tree]) -> str:
    columns = [name for name in CELL_METRICS if any(name in cell for cell in cells.values())]
    rows = []
    for name, cell in sorted(cells.items()):
        for end in ("", "_low", "_high"):
            rows.append(
                (f"{name}{end and ' ' + end[1:]}", *[cell.get(f"{column}{end}", "-") for column in columns])
            )
    return _table(("cell", *columns), rows)


def _lineage(facts: CardFacts) -> str:
    seen = {} if facts.metrics is None else facts.metrics.get("test_documents_seen_in_training", {})
    lines = [
        "The documents that questions were made from (`sha256` of the file). Questions and passages are "
        "split before training by document or section; `data_sha256` covers the rows that were trained and "
        "validated on, and their passages."
    ]
    if not facts.documents:
        return f"{lines[0]}\n\nThe report of the documents (`{INGEST_REPORT}`) is not there."
    rows = [(name, f"`{sha}`", seen.get(name, "-")) for name, sha in facts.documents]
    return "\n\n".join([*lines, _table(("document", "sha256", "training rows"), rows)])


def _licences(facts: CardFacts) -> str:
    where = facts.source.requirement or facts.source.repo_id or facts.source.path or facts.source.origin
    texts = (
        "The documents' sources and licences stand in `data/ATTRIBUTION.md` of the project."
        if facts.attribution
        else "The documents are the user's own; their licences bind the use of this model too."
    )
    return (
        f"- Base model: {facts.source.licence} (`{where}`, weights `{facts.entry.get('base_sha256')}`).\n"
        f"- {texts}\n- The adapter: the licence of the base model applies to it and to merged weights."
    )


def _limits(facts: CardFacts) -> str:
    lines = [
        "- Answers are no legal advice. It may answer wrongly and it may refuse what the passages do hold: "
        "see `false_refusals`.",
        "- It answers from the passages that it is shown; without them it knows little of the documents.",
        "- Rule-made test questions favour a model trained on such; the tables show them apart.",
        "- Entries that were promoted one after another were all judged on the same test questions.",
    ]
    if facts.metrics is not None and facts.metrics["verdict"] != "ship":
        lines.append("- The evaluation did not show that it beats its baselines.")
    if facts.source.random:
        lines.append("- Its base model has random weights: it is for tests and useless otherwise.")
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(number(value) for value in row)} |" for row in rows)])


def _documents(root: Path) -> list[tuple[str, str]]:
    path = root / INGEST_REPORT
    if not path.is_file():
        return []
    try:
        return [(str(file["document"]), str(file["doc_id"])) for file in read_json(path)["files"]]
    except (KeyError, TypeError):
        raise DataError(f"{path} is damaged; run `dvc repro -f ingest`") from None


def _is_sample(root: Path) -> bool:
    from mark.config import project_params

    try:
        return project_params(root).corpus.source == "sample"
    except MarkError:
        return False
