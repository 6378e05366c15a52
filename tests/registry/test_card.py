"""Every number of a model card stands in the metrics file or in entry.json."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mark.files import write_json
from mark.registry import ModelRegistry
from mark.registry.card import Form, card_facts, render_card, write_card

from .conftest import edit_entry

NAME = "transformer_lora"


def tables(text: str) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(key in the heading above, column names, rows) of each table."""
    key, head, rows = "", [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            found = re.search(r"\(`([\w.]+)`\)", line)
            key = found.group(1) if found else ""
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not head:
                head = cells
            elif not set(line) <= set("|-"):
                rows.append(cells)
        elif head:
            yield key, head, rows
            head, rows = [], []


def looked_up(
    table: str, kind: str, row: str, column: str, metrics: dict[str, Any], entry: dict[str, Any]
) -> Any:
    """The value that a table's cell claims to show."""
    if kind == "key":
        return entry[row]
    if kind == "document":
        return metrics["test_documents_seen_in_training"][row]
    if kind == "cell":
        cell, _, end = row.partition(" ")
        return metrics[table][cell][f"{column}_{end}" if end else column]
    value: Any = metrics
    for key in [*table.split("."), row, *([column] if kind == "baseline" else [])]:
        value = value[key]
    return value


def scalars(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        for value in tree.values():
            yield from scalars(value)
    else:
        yield tree


@pytest.fixture
def card(
    registry: ModelRegistry, evaluated: Callable[..., None]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The written card, the metrics and entry.json."""
    evaluated(NAME, np.full(4, 0.5))
    files = [{"document": "acts", "doc_id": "a" * 64}, {"document": "gdpr", "doc_id": "b" * 64}]
    write_json(registry.root / "data/ingest_report.json", {"files": files})
    text = write_card(registry.get(NAME), registry.root).read_text(encoding="utf-8")
    metrics = json.loads((registry.root / f"metrics/eval_{NAME}.json").read_text())[f"eval_{NAME}"]
    return text, metrics, json.loads((registry.root / f"models/{NAME}/entry.json").read_text())


def test_every_table_value_equals_the_metrics_file(card: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    text, metrics, entry = card
    compared = 0
    for key, head, rows in tables(text):
        for row in rows:
            for column, shown in zip(head[1:], row[1:], strict=True):
                if shown != "-" and column != "sha256":
                    wanted = looked_up(key, head[0], row[0], column, metrics, entry)
                    assert shown == (wanted if isinstance(wanted, str) else json.dumps(wanted)), (key, row)
                    compared += 1
    assert compared > 250
    for group in ("handwritten", "rule_made"):  # and none of the main cells is left out
        for cell in metrics[group]:
            assert f"| {cell} |" in text


def test_no_other_number_stands_in_the_card(card: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    text, metrics, entry = card
    known = {json.dumps(v) for v in [*scalars(metrics), *scalars(entry)] if not isinstance(v, str | bool)}
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)
    prose = re.sub(r"[A-Za-z]{3,}-[\d.]+", "", prose)  # Apache-2.0
    for key in ("data_sha256", "params_sha256", "base_sha256"):
        prose = prose.replace(entry[key], "")
    numbers = re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w])", prose)
    odd = [number for number in numbers if number not in known and number not in ("1", "0")]
    assert odd == [] and len(numbers) > 250


def test_the_front_matter_is_the_hubs(card: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    _, matter, rest = card[0].split("---\n", 2)
    found = yaml.safe_load(matter)
    assert found["license"] == "other" and found["license_name"] == "none"  # of the tiny base
    assert found["library_name"] == "peft" and "base_model" not in found  # it is on no hub
    for heading in ("How to load", "Measured", "Training and data", "Licences", "Limits"):
        assert f"## {heading}" in rest
    assert f'load_model("{NAME}", merge=True)' in rest
    assert f"| acts | `{'a' * 64}` | - |" in rest and "the user's own" in rest
    seen = card[1]["test_documents_seen_in_training"]["gdpr"]
    assert f"| gdpr | `{'b' * 64}` | {seen} |" in rest
    assert "random weights" in rest


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_a_card_without_metrics_says_so(registry: ModelRegistry, form: Form) -> None:
    text = render_card(card_facts(registry.get(NAME), registry.root), form)
    assert "It was not evaluated." in text
    assert ("AutoModelForCausalLM" in text) == (form == "merged")
    edit_entry(registry.root, NAME, val_loss=None)
    assert "| val_loss | null |" in render_card(card_facts(registry.get(NAME), registry.root), form)


def test_the_sample_corpus_names_its_licences(registry: ModelRegistry, project: Path) -> None:
    (project / "data/ATTRIBUTION.md").write_text("x")
    assert "data/ATTRIBUTION.md" in render_card(card_facts(registry.get(NAME), project), "adapter")
