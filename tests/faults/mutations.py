"""Damaged bytes for property tests, and how many of them: few and always the same in CI, many by `make test-long`."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

Edit = Callable[[bytes], bytes]


def examples(few: int, many: int) -> pytest.MarkDecorator:
    """A parameter `limits`: the profile of CI, and that of the long tests."""
    return pytest.mark.parametrize(
        "limits",
        [
            pytest.param(_profile(few, derandomize=True), id="few"),
            pytest.param(_profile(many, derandomize=False), id="many", marks=pytest.mark.long),
        ],
    )


def _profile(count: int, derandomize: bool) -> settings:
    """No examples are kept on disk: a failure prints how to repeat it."""
    phases = (Phase.explicit, Phase.generate, Phase.shrink)
    return settings(
        max_examples=count, derandomize=derandomize, deadline=None, database=None, phases=phases, print_blob=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def mutated(originals: Sequence[bytes], tokens: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of some contents after one to six edits: cut, flipped, doubled, overwritten, something put in.

    Args:
        originals: Whole contents.
        tokens: What means something in their format.
    """
    places = st.floats(min_value=0, max_value=1)
    lengths = st.integers(min_value=1, max_value=64)
    inserted = st.one_of(st.sampled_from(tokens), st.binary(max_size=16))
    edits = st.one_of(
        st.builds(_cut_off, places),
        st.builds(_removed, places, lengths),
        st.builds(_doubled, places, lengths),
        st.builds(_flipped, places, st.integers(min_value=0, max_value=7)),
        st.builds(_put_in, places, inserted),
        st.builds(_overwritten, places, inserted),
    )
    return st.builds(_edited, st.sampled_from(originals), st.lists(edits, min_size=1, max_size=6))


def odd_json(original: bytes, odd: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """A JSON file of which one value, somewhere, is another.

    Args:
        original: The whole file.
        odd: The other values.
    """
    value = json.loads(original)
    edits = st.tuples(st.sampled_from(list(_places(value))), st.sampled_from(odd))
    return st.builds(lambda edit: json.dumps(_with(value, *edit)).encode(), edits)


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands; of long lists the first items."""
    yield place
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    )
    for key, inner in items:
        yield from _places(inner, (*place, key))


def _with(value: Any, place: tuple[Any, ...], other: Any) -> Any:
    if not place:
        return other
    changed = copy.copy(value)
    changed[place[0]] = _with(value[place[0]], place[1:], other)
    return changed


def _edited(content: bytes, edits: list[Edit]) -> bytes:
    for edit in edits:
        content = edit(content)
    return content


def _cut_off(place: float) -> Edit:
    return lambda content: content[: int(place * len(content))]


def _removed(place: float, length: int) -> Edit:
    return lambda content: content[: (at := int(place * len(content)))] + content[at + length :]


def _doubled(place: float, length: int) -> Edit:
    return lambda content: content[: (at := int(place * len(content))) + length] + content[at:]


def _flipped(place: float, bit: int) -> Edit:
    def edit(content: bytes) -> bytes:
        if not content:
            return content
        at = min(int(place * len(content)), len(content) - 1)
        return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]

    return edit


def _put_in(place: float, text: bytes) -> Edit:
    return lambda content: content[: (at := int(place * len(content)))] + text + content[at:]


def _overwritten(place: float, text: bytes) -> Edit:
    return lambda content: content[: (at := int(place * len(content)))] + text + content[at + len(text) :]
