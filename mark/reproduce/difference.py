"""Where two versions of an output begin to differ: the line, the key or the tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SHOWN = 60  # characters of a value
_IDS = ("example_id", "chunk_id", "doc_id", "id")  # how a row of JSONL is called
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Leaf:
    """A value of a JSON document.

    Attributes:
        pointer: To it, as RFC 6901 writes it: `/compare/gain/transformer_lora`.
        old: None where only the new document has it.
        new: None where only the old document has it.
    """

    pointer: str
    old: Any
    new: Any


def leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Pointer and value of everything in a JSON document that holds nothing itself; keys in order.

    Args:
        value: The document.
        pointer: To it.
    """
    children: Iterator[tuple[str, Any]] | None = None
    if isinstance(value, Mapping) and value:
        children = ((str(key), value[key]) for key in sorted(value))
    elif isinstance(value, list) and value:
        children = ((str(index), item) for index, item in enumerate(value))
    if children is None:
        yield pointer, value
        return
    for key, item in children:
        yield from leaves(item, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")


def changed_leaves(old: Any, new: Any) -> list[Leaf]:
    """What differs between two JSON documents: first in the old one's order, then what only the new has."""
    before, after = dict(leaves(old)), dict(leaves(new))
    return [
        Leaf(pointer, before.get(pointer), after.get(pointer))
        for pointer in dict.fromkeys([*before, *after])
        if (pointer in before) != (pointer in after) or not _same(before[pointer], after[pointer])
    ]


def first_difference(name: str, old: Path, new: Path) -> str:
    """Where two files of one name and different bytes begin to differ, for people.

    Args:
        name: Of the file: its ending says how to read it.
        old: The original, under whatever name.
        new: The other one.

    Returns:
        e.g. `line 3 (chunk_id 1f2e), key /text: "a" there, "b" here`.
    """
    from safetensors import SafetensorError

    readers = {".json": _json, ".jsonl": _jsonl, ".npy": _npy, ".safetensors": _safetensors}
    reader = readers.get(Path(name).suffix, _text)
    # What a reader raises where one of the files is not what its name says.
    unreadable = (ValueError, KeyError, TypeError, OSError, EOFError, RuntimeError, SafetensorError)
    try:
        return reader(old, new) or _bytes(old, new)
    except unreadable as fault:
        return f"{_bytes(old, new)} (not read as {Path(name).suffix[1:] or 'text'}: {str(fault)[:_SHOWN]})"


def relative_difference(old: Any, new: Any) -> float:
    """The largest difference of two arrays of one shape, as a share of the old one's largest value."""
    import numpy as np

    first, second = np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64)
    if not first.size:
        return 0.0
    with np.errstate(invalid="ignore"):
        gap = float(np.max(np.abs(first - second)))
        largest = float(np.max(np.abs(first)))
    return gap / largest if largest > 0 else math.inf if gap > 0 else gap


def _json(old: Path, new: Path) -> str:
    changed = changed_leaves(*(json.loads(path.read_text(encoding="utf-8")) for path in (old, new)))
    return f"{_told(changed[0])}{_more(len(changed), 'value')}" if changed else ""


def _jsonl(old: Path, new: Path) -> str:
    before, after = (path.read_text(encoding="utf-8").removesuffix("\n").split("\n") for path in (old, new))
    for number, (first, second) in enumerate(zip(before, after, strict=False), 1):
        if first != second:
            rows = json.loads(first), json.loads(second)
            changed = changed_leaves(*rows)
            where = f"line {number}{_row_name(rows[0])}"
            return f"{where}, {_told(changed[0])}" if changed else where
    if len(before) != len(after):
        return f"line {min(len(before), len(after)) + 1}: {len(before)} lines there, {len(after)} here"
    return ""


def _npy(old: Path, new: Path) -> str:
    import numpy as np

    before, after = (np.load(path, mmap_mode="r", allow_pickle=False) for path in (old, new))
    shapes = [f"{array.dtype} {list(array.shape)}" for array in (before, after)]
    if shapes[0] != shapes[1]:
        return f"{shapes[0]} there, {shapes[1]} here"
    changed = np.atleast_1d(before != after)
    rows = np.flatnonzero(np.any(changed.reshape(len(changed), -1), axis=1))
    if not rows.size:
        return ""
    gap = relative_difference(before, after)
    return f"row {rows[0]}{_more(len(rows), 'row')}, largest relative difference {gap:.1e}"


def _safetensors(old: Path, new: Path) -> str:
    from safetensors import safe_open

    with safe_open(old, framework="pt") as before, safe_open(new, framework="pt") as after:
        names = [set(file.keys()) for file in (before, after)]
        for one, other, where in ((0, 1, "there"), (1, 0, "here")):
            if missing := sorted(names[one] - names[other]):
                return f"tensor {missing[0]}: only {where}"
        gaps: dict[str, float] = {}
        for name in sorted(names[0]):
            first, second = before.get_tensor(name), after.get_tensor(name)
            if first.shape != second.shape or first.dtype != second.dtype:
                kinds = [f"{t.dtype} {list(t.shape)}".removeprefix("torch.") for t in (first, second)]
                return f"tensor {name}: {kinds[0]} there, {kinds[1]} here"
            if not first.equal(second):
                gaps[name] = relative_difference(first.double().numpy(), second.double().numpy())
    if not gaps:
        return ""
    worst = max(gaps, key=lambda name: gaps[name])
    first_name = next(iter(gaps))
    largest = f"largest relative difference {gaps[worst]:.1e}"
    return f"tensor {first_name}{_more(len(gaps), 'tensor')}, {largest}{_in(worst, first_name)}"


def _in(worst: str, first: str) -> str:
    return "" if worst == first else f" in {worst}"


def _text(old: Path, new: Path) -> str:
    before, after = (path.read_bytes() for path in (old, new))
    if b"\0" in before[:_BLOCK] or b"\0" in after[:_BLOCK]:
        return ""
    lines = [content.decode("utf-8").split("\n") for content in (before, after)]
    for number, (first, second) in enumerate(zip(*lines, strict=False), 1):
        if first != second:
            return f"line {number}: {_value(first)} there, {_value(second)} here"
    return f"line {min(map(len, lines)) + 1}: {len(lines[0])} lines there, {len(lines[1])} here"


def _bytes(old: Path, new: Path) -> str:
    position = 0
    with old.open("rb") as before, new.open("rb") as after:
        while True:
            first, second = before.read(_BLOCK), after.read(_BLOCK)
            if first != second:
                pairs = enumerate(zip(first, second, strict=False))
                same = min(len(first), len(second))
                return f"byte {position + next((i for i, (a, b) in pairs if a != b), same)}"
            if not first:
                return "no byte"
            position += len(first)


def _told(leaf: Leaf) -> str:
    return f"key {leaf.pointer or '/'}: {_value(leaf.old)} there, {_value(leaf.new)} here"


def _value(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _row_name(row: Any) -> str:
    key = next((key for key in _IDS if isinstance(row, dict) and key in row), None)
    return "" if key is None else f" ({key} {row[key]})"


def _more(count: int, what: str) -> str:
    return "" if count == 1 else f" and {count - 1} more {what}{'s' if count > 2 else ''}"


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and first == second
