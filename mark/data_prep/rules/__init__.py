"""The registry of question rules: one module a family."""

from __future__ import annotations

import difflib

from mark.data_prep.rules import (
    agent,
    amount,
    cloze,
    complement,
    condition,
    crossref,
    definition,
    listing,
    manner,
    obligation,
    provision,
    purpose,
)
from mark.data_prep.rules.base import Draft, Rule, Source
from mark.errors import ConfigError

RULES: dict[str, Rule] = {
    "agent": agent.make,
    "amount": amount.make,
    "cloze": cloze.make,
    "complement": complement.make,
    "condition": condition.make,
    "crossref": crossref.make,
    "definition": definition.make,
    "listing": listing.make,
    "manner": manner.make,
    "obligation": obligation.make,
    "provision": provision.make,
    "purpose": purpose.make,
}

__all__ = ["RULES", "Draft", "Rule", "Source", "chosen_rules"]


def chosen_rules(names: list[str]) -> dict[str, Rule]:
    """The rule families that the settings name.

    Raises:
        ConfigError: An unknown name, with the nearest known one.
    """
    for name in names:
        if name not in RULES:
            near = difflib.get_close_matches(name, RULES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(RULES))}"
            raise ConfigError(f"data_prep.rules: {name!r} is no rule family; {hint}")
    return {name: RULES[name] for name in names}
