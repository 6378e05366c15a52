"""The first difference is named, whatever the file; relative differences are derived by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mark.reproduce.difference import changed_leaves, first_difference, relative_difference
from tests.reproduce.conftest import MakeFile


def told(make_file: MakeFile, name: str, old: bytes, new: bytes) -> str:
    """Where two contents of one name begin to differ."""
    return first_difference(name, make_file("old", old), make_file("new", new))


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("m.json", b'{"a": {"b/c": 1, "d": 2}}', b'{"a": {"b/c": 1.5, "d": 2}}', "key /a/b~1c: 1 there, 1.5 here"),
        ("m.json", b'{"a": [1, 2], "z": 1}', b'{"a": [1], "z": 2}', "key /a/1: 2 there, nothing here and 1 more value"),
        ("m.json", b'{"a": 1}', b'{ "a": 1}', "byte 1"),  # the same values, other bytes
        ("m.json", b"{", b'{"a": 1}', "byte 1 (not read as json: "),
        (
            "chunks.jsonl",
            b'{"chunk_id": "c0", "text": "a"}\n{"chunk_id": "c1", "text": "b"}\n',
            b'{"chunk_id": "c0", "text": "a"}\n{"chunk_id": "c1", "text": "B"}\n',
            'line 2 (chunk_id c1), key /text: "b" there, "B" here',
        ),
        ("rows.jsonl", b'{"id": "a"}\n', b'{"id": "a"}\n{"id": "b"}\n', "line 2: 1 lines there, 2 here"),
        ("table.txt", b"one\ntwo\n", b"one\nTwo\n", 'line 2: "two" there, "Two" here'),
        (  # a line separator inside a text ends no line
            "rows.jsonl", '{"id": "a\u2028b"}\n{"id": 1}\n'.encode(), '{"id": "a\u2028b"}\n{"id": 2}\n'.encode(),
            "line 2 (id 1), key /id: 1 there, 2 here",
        ),
        ("rows.jsonl", b'{"id": "a"}\n', b'{"id": "a"}', "byte 11"),
        ("m.json", b'{"a": ' + b"[" * 100_000, b'{"a": 1}', "byte 6 (not read as json: "),
        ("adapter.safetensors", b"no weights", b"nor these", "byte 2 (not read as safetensors: "),
        ("vectors.npy", b"", b"x", "byte 0 (not read as npy: "),
        ("page.pdf", b"%PDF\0abc", b"%PDF\0abd", "byte 7"),
        ("page.pdf", b"%PDF\0abc", b"%PDF\0abcd", "byte 8"),
    ],
)  # fmt: skip
def test_it_is_named(make_file: MakeFile, name: str, old: bytes, new: bytes, expected: str) -> None:
    assert told(make_file, name, old, new).startswith(expected)


def test_a_long_value_is_cut(make_file: MakeFile) -> None:
    found = told(make_file, "a.json", json.dumps({"a": "x" * 500}).encode(), b'{"a": 1}')
    assert len(found) < 120 and "…" in found


def test_a_changed_tensor_with_the_largest_relative_difference(tmp_path: Path) -> None:
    # q moves by 1 where its largest value is 4: 0.25; v by 1 of 2: 0.5, the largest.
    old = {"q": torch.tensor([1.0, -4.0]), "v": torch.tensor([2.0]), "w": torch.ones(2, dtype=torch.bfloat16)}
    save_file(old, tmp_path / "old")
    save_file({**old, "q": torch.tensor([2.0, -4.0]), "v": torch.tensor([1.0])}, tmp_path / "new")
    found = first_difference("adapter_model.safetensors", tmp_path / "old", tmp_path / "new")
    assert found == "tensor q and 1 more tensor, largest relative difference 5.0e-01 in v"


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"q": torch.zeros(2)}, "tensor v: only there"),
        ({"q": torch.zeros(2), "v": torch.zeros(1), "z": torch.zeros(1)}, "tensor z: only here"),
        ({"q": torch.zeros(3), "v": torch.zeros(1)}, "tensor q: float32 [2] there, float32 [3] here"),
        ({"q": torch.zeros(2), "v": torch.zeros(1).half()}, "tensor v: float32 [1] there, float16 [1] here"),
    ],
)
def test_other_tensors(tmp_path: Path, tensors: dict[str, torch.Tensor], expected: str) -> None:
    save_file({"q": torch.zeros(2), "v": torch.zeros(1)}, tmp_path / "old")
    save_file(tensors, tmp_path / "new")
    assert first_difference("a.safetensors", tmp_path / "old", tmp_path / "new") == expected


def test_a_row_of_an_array(tmp_path: Path) -> None:
    old = np.array([[1, 2], [3, 4], [5, 8]], np.float32)
    new = old.copy()
    new[1:] += [[0, 0], [0, 2]]
    for name, array in (("old.npy", old), ("new.npy", new)):
        np.save(tmp_path / name, array)
    found = first_difference("e.npy", tmp_path / "old.npy", tmp_path / "new.npy")
    assert found == "row 2, largest relative difference 2.5e-01"  # 2 of 8


def test_a_single_number_is_an_array_too(tmp_path: Path) -> None:
    for name, value in (("old.npy", 1.0), ("new.npy", 2.0)):
        np.save(tmp_path / name, np.float64(value))
    found = first_difference("e.npy", tmp_path / "old.npy", tmp_path / "new.npy")
    assert found == "row 0, largest relative difference 1.0e+00"  # 1 of 1


def test_relative_differences_at_the_edges() -> None:
    assert relative_difference([], []) == 0
    assert relative_difference([0.0], [0.0]) == 0
    assert relative_difference([0.0], [1.0]) == np.inf
    assert np.isnan(relative_difference([1.0, 2.0], [1.0, np.nan]))


def test_a_number_of_another_type_is_another_value() -> None:
    (leaf,) = changed_leaves({"a": 1, "b": True, "c": None}, {"a": 1.0, "b": True, "c": None})
    assert (leaf.pointer, leaf.old, leaf.new) == ("/a", 1, 1.0)
    (added,) = changed_leaves({}, {"b": 2})[1:] or changed_leaves({"a": {}}, {"a": {}, "b": 2})
    assert added.pointer == "/b"
