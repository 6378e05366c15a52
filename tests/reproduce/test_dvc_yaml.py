"""What DVC writes is read as it was."""

from __future__ import annotations

import math

import pytest

from mark.errors import DataError
from mark.reproduce.dvc_yaml import read_mapping

VALUES = {
    "texts": ["no", "on", "off", "y", "1:30", "010", "0o7", "2026-01-01", "12e3", "1_000", "0x1f", ".5", "~", "null"],
    "numbers": [0, 7, -3, 1.5, 2e-05, -1e-05, 1e22, 0.1, math.inf, -math.inf],
    "others": [True, False, None, [], {}],
}  # fmt: skip


def test_values_come_back_with_their_types() -> None:
    from dvc.utils.serialize import dumps_yaml

    found = read_mapping(dumps_yaml(VALUES), "params.yaml")
    assert found == VALUES
    for name, row in VALUES.items():
        assert [type(value) for value in found[name]] == [type(value) for value in row]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "dvc.lock cannot be read: "),
        ("<<<<<<< HEAD\na: 1\n", "dvc.lock cannot be read: "),
        ("", "dvc.lock holds no sections"),
        ("- 1", "dvc.lock holds no sections"),
        ("a: !!python/object:os.system {}", "dvc.lock cannot be read: "),
    ],
)
def test_damage_is_one_line(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as fault:
        read_mapping(text, "dvc.lock")
    assert "\n" not in str(fault.value)
