"""The groups of conf/: which options there are, and what each sets.

Hydra takes a tenth of a second to compose one option; here their files are read as they are. What is found by
that is composed by Hydra itself before anybody relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mark.errors import ConfigError

Values = dict[str, Any]


class Groups:
    """conf/, opened for reading many options."""

    def __init__(self, conf: Path) -> None:
        self.conf = conf
        self._read: dict[tuple[str, str], Values] = {}

    def top(self) -> Values:
        """config.yaml."""
        return _load(self.conf / "config.yaml")

    def in_order(self) -> list[str]:
        """The groups of config.yaml, each laid over those before it."""
        return [str(group) for entry in self.top()["defaults"] if isinstance(entry, dict) for group in entry]

    def options(self, group: str) -> list[str]:
        """The options of a group, by name."""
        return sorted(path.stem for path in (self.conf / group).glob("*.yaml"))

    def own(self, group: str, option: str) -> Values:
        """What an option sets in its section, with the options of its group that it builds on; not resolved.

        Raises:
            ConfigError: It builds on something else, or is no YAML.
        """
        if (group, option) not in self._read:
            path = self.conf / group / f"{option}.yaml"
            values = _load(path)
            found: Values = {}
            for entry in values.pop("defaults", ["_self_"]):
                if not isinstance(entry, str):
                    raise ConfigError(
                        f"{path}: defaults: {entry}: a group file builds on its own group alone"
                    )
                found = overlaid(found, values if entry == "_self_" else self.own(group, entry))
            self._read[group, option] = found
        return self._read[group, option]

    def section(self, name: str, choice: Mapping[str, str], around: Values) -> Values:
        """A section of params.yaml for some options of its groups.

        Args:
            name: Of the section.
            choice: Group -> option, each laid over those before it.
            around: All sections, which the options may name (`${model.name}`).
        """
        found: Values = {}
        for group, option in choice.items():
            found = overlaid(found, self.own(group, option))
        if not any(isinstance(value, str) and "${" in value for value in _scalars(found)):
            return found
        from omegaconf import OmegaConf

        resolved = OmegaConf.to_container(OmegaConf.create({**around, name: found}), resolve=True)
        assert isinstance(resolved, dict)
        inner: Values = resolved[name]
        return inner


def overlaid(below: Values, above: Mapping[str, Any]) -> Values:
    """Mappings laid over each other key by key; anything else is replaced."""
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        found[key] = overlaid(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return found


def leaves(values: Any, prefix: str = "") -> Values:
    """Dotted key -> value of everything that is no mapping; an empty mapping counts as a value."""
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    found: Values = {}
    for key, value in values.items():
        found |= leaves(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def differing(new: Any, old: Any, prefix: str = "") -> Values:
    """What must be laid over `old` to get `new`: dotted key -> new value.

    A mapping that lacks a key of the old one differs as a whole.
    """
    if not (isinstance(new, dict) and isinstance(old, dict)) or old.keys() - new.keys():
        return {} if new == old and type(new) is type(old) else {prefix: new}
    found: Values = {}
    for key in new:
        inner = f"{prefix}.{key}" if prefix else str(key)
        found |= differing(new[key], old[key], inner) if key in old else {inner: new[key]}
    return found


def _scalars(values: Any) -> list[Any]:
    if isinstance(values, dict):
        return [scalar for value in values.values() for scalar in _scalars(value)]
    if isinstance(values, list):
        return [scalar for value in values for scalar in _scalars(value)]
    return [values]


def _load(path: Path) -> Values:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        found = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OmegaConfBaseException, YAMLError, OSError) as fault:
        raise ConfigError(f"{path}: {str(fault).splitlines()[0]}") from None
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}
