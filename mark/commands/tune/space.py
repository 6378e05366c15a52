"""The search space: Hydra's sweep syntax as dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mark.errors import ConfigError

_EXAMPLE = "write train.lora.r=8,16 or train.learning_rate=tag(log,interval(1e-4,1e-3))"


@dataclass(frozen=True)
class Choices:
    """One of a few values, as Hydra writes them."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Interval:
    """A number between two bounds."""

    key: str
    low: float  # whole where `integer`
    high: float
    log: bool  # drawn evenly in its logarithm
    integer: bool

    def text(self, value: float) -> str:
        """A value as it is written into an override: four digits are enough."""
        return str(int(value)) if self.integer else f"{value:.4g}"


@dataclass(frozen=True)
class Space:
    """What is searched, and what every trial sets besides."""

    dimensions: tuple[Choices | Interval, ...]
    fixed: tuple[str, ...]  # overrides with one value each

    @property
    def size(self) -> float:
        """How many settings there are; infinite with an interval of fractions."""
        sizes = [
            len(d.values) if isinstance(d, Choices) else d.high - d.low + 1 if d.integer else math.inf
            for d in self.dimensions
        ]
        return math.prod(sizes)

    def corners(self) -> list[list[str]]:
        """Overrides in which each choice and each end of an interval occurs at least once."""
        columns = [
            [f"{d.key}={value}" for value in d.values]
            if isinstance(d, Choices)
            else [f"{d.key}={d.text(d.low)}", f"{d.key}={d.text(d.high)}"]
            for d in self.dimensions
        ]
        rows = max(len(column) for column in columns)
        return [[*self.fixed, *(column[i % len(column)] for column in columns)] for i in range(rows)]


def key_of(override: str) -> str:
    """What an override sets."""
    return override.partition("=")[0]


def parse_space(overrides: Sequence[str]) -> Space:
    """Read overrides; those with several values are searched, the others hold in every trial.

    Args:
        overrides: e.g. `train.lora.r=8,16`, `train.learning_rate=tag(log,interval(1e-4,1e-3))`,
            `train.epochs=2`.

    Raises:
        ConfigError: One is not understood, a key comes twice, or none has several values.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    found: dict[str, Choices | Interval] = {}
    fixed: list[str] = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            raise ConfigError(f"override not understood: {text[:120]}; {_EXAMPLE}") from None
        if override.is_delete() or override.is_add() or override.is_force_add():
            raise ConfigError(f"{text}: only keys that are there can be set; {_EXAMPLE}")
        key = str(override.get_key_element())
        if not override.is_sweep_override():
            fixed.append(text)
        elif key in found:
            raise ConfigError(f"{key} is searched twice; give all its values at once")
        else:
            found[key] = _dimension(key, override, text)
    for text in fixed:
        if (key := key_of(text)) in found:
            raise ConfigError(f"{key} is searched and has one value too ({text}); leave one of them out")
    if not found:
        raise ConfigError(f"nothing to search: no key has several values; {_EXAMPLE}")
    return Space(tuple(found.values()), tuple(fixed))


def _dimension(key: str, override: Any, text: str) -> Choices | Interval:
    if override.is_interval_sweep():
        value = override.value()
        low, high, log = value.start, value.end, "log" in value.tags
        if low is None or high is None or not low < high or (log and low <= 0):
            raise ConfigError(f"{text}: an interval goes from a smaller to a larger number, above 0 with log")
        return Interval(key, low, high, log, isinstance(low, int) and isinstance(high, int))
    from hydra.core.override_parser.types import ValueType

    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        raise ConfigError(f"{text}: name the options, DVC takes no glob")
    values = tuple(dict.fromkeys(str(value) for value in override.sweep_string_iterator()))
    if not values:
        raise ConfigError(f"{text} holds no value; {_EXAMPLE}")
    return Choices(key, values)
