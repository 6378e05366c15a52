"""YAML as DVC writes it: dvc.lock, and the params.yaml of an experiment.

DVC writes YAML 1.2, in which `1e-05` is a number and `no` and `1:30` are texts; PyYAML reads 1.1. DVC's own
reader takes four times as long, and there is a dvc.lock in every commit.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from mark.errors import DataError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it was compiled
_TAG = "tag:yaml.org,2002:"
# Name -> pattern and first characters. Source: YAML 1.2.2, section 10.3.2, the core schema.
_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}


class _Yaml12(_Loader):  # type: ignore[misc]  # its base is chosen when it is imported
    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's own name and type
        first: [(tag, pattern) for tag, pattern in known if tag.removeprefix(_TAG) not in _SCALARS]
        for first, known in _Loader.yaml_implicit_resolvers.items()
    }


for _name, (_pattern, _first) in _SCALARS.items():  # int before float: the first that fits is taken
    _Yaml12.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), list(_first))


def read_mapping(text: str, name: str) -> dict[str, Any]:
    """The content of a file that DVC wrote.

    Args:
        text: Of the file.
        name: Of the file, for people.

    Raises:
        DataError: It is no YAML, or no mapping.
    """
    try:
        loaded = yaml.load(text, Loader=_Yaml12)  # noqa: S506  # a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        raise DataError(f"{name} cannot be read: {str(fault).splitlines()[0]}") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{name} holds no sections; bring it back with git")
    return {str(key): value for key, value in loaded.items()}
