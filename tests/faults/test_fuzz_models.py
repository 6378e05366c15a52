"""Damaged model folders: they load or are one line, whatever transformers, peft and tokenizers make of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mark.errors import ModelError
from mark.models.embedder import Embedder
from mark.models.loading import load_base, load_entry
from tests.faults.mutations import examples, mutated, odd_json
from tests.models.test_loading import project

__all__ = ["project"]

TOKENS = [
    b"null",
    b"-1",
    b"{",
    b"}",
    b"[",
    b",",
    b'"',
    b"\xff",
    b"\x00",
    b"1e99",
    b"[" * 2000,
    b"F32",
    b"I64",
]
# No large numbers: a width of 2**40 would really be allocated.
ODD = [None, -1, 0, 1, 0.5, True, [], {}, "", "x", "llama", "bert", "../x", [1], {"a": 1}, "0" * 50]


def damaged(folder: Path) -> st.SearchStrategy[tuple[str, bytes]]:
    """One of a folder's files, and other bytes for it."""
    choices = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        choices.append(st.tuples(st.just(path.name), mutated([content], TOKENS)))
        if path.suffix == ".json":
            choices.append(st.tuples(st.just(path.name), odd_json(content, ODD)))
    return st.one_of(choices)


def load_all(folder: Path, load: Callable[[Path], object], limits: settings) -> dict[str, int]:
    """Load a folder again and again with one file damaged; how often it loaded and how often it was refused."""
    whole = Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-whole")))
    counts = {"loads": 0, "refused": 0}

    @limits
    @given(change=damaged(whole))
    def check(change: tuple[str, bytes]) -> None:
        name, content = change
        (folder / name).write_bytes(content)
        try:
            load(folder)
            counts["loads"] += 1
        except ModelError as fault:
            assert "\n" not in str(fault) and str(folder.parent) in str(fault), str(fault)
            counts["refused"] += 1
        finally:
            shutil.copy(whole / name, folder / name)

    check()
    return counts


@examples(few=25, many=2000)
@pytest.mark.parametrize(("model", "load"), [("tiny_llama_dir", load_base), ("tiny_bert_dir", Embedder)])
def test_models(
    limits: settings,
    model: str,
    load: Callable[[Path], object],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    folder = Path(shutil.copytree(request.getfixturevalue(model), tmp_path / "model"))
    counts = load_all(folder, load, limits)
    assert counts["refused"] > counts["loads"] * 0.1 and counts["loads"] > 0, counts
    load(folder)


@examples(few=25, many=2000)
def test_entries(limits: settings, project: Path) -> None:
    entry = project / "models/random_lora"
    counts = load_all(entry, load_entry, limits)
    assert counts["refused"] > 0 and counts["loads"] > 0, counts
    assert json.loads((entry / "entry.json").read_text())["base"] == "random"
    load_entry(entry)
