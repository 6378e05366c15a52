"""What each rule family gave, from the ledger, and kept examples to read."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mark.data_prep.candidates import CHEAP_FAULTS
from mark.data_prep.ledger import Count
from mark.errors import DataError
from mark.records import Example
from mark.seeding import derived_seed

UNTRIED = (
    "beyond_limit",
    "document_cap",
    "rule_cap",
    "style_cap",
    "section_cap",
    "answer_cap",
    "same_answer",
)
COLUMNS = ("family", "question", "answer", "quote", "document", "section", "verdict", "reason")


@dataclass(frozen=True)
class Yield:
    """One rule family's way from drafts to examples."""

    family: str
    drafts: int  # wordings that the rule made
    sound: int  # of those, without a plain fault
    tried: int  # of those, not set aside by a cap or a full split
    kept: int  # with or without their passage

    @property
    def kept_share(self) -> float | None:
        """Of the tried ones, in [0, 1]; None where none was tried."""
        return self.kept / self.tried if self.tried else None


def yields(rules: Mapping[str, Count]) -> list[Yield]:
    """The families of a ledger by name.

    Args:
        rules: `Ledger.rules`.
    """
    rows = []
    for family, count in sorted(rules.items()):
        faulty = sum(n for reason, n in count.dropped.items() if reason in CHEAP_FAULTS)
        waiting = sum(n for reason, n in count.dropped.items() if reason in UNTRIED)
        kept = count.kept + count.kept_without_passage
        rows.append(Yield(family, count.asked, count.asked - faulty, count.asked - faulty - waiting, kept))
    return rows


def yield_table(rules: Mapping[str, Count]) -> str:
    """A Markdown table of drafts, sound ones, tried ones, kept ones."""
    lines = ["| family | drafts | sound | tried | kept | kept of tried |", "|---|---:|---:|---:|---:|---:|"]
    for row in yields(rules):
        share = "-" if row.kept_share is None else f"{100 * row.kept_share:.0f} %"
        lines.append(f"| {row.family} | {row.drafts} | {row.sound} | {row.tried} | {row.kept} | {share} |")
    return "\n".join(lines)


def sample_kept(examples: Sequence[Example], per_family: int, seed: int) -> list[Example]:
    """Kept answerable examples and made-up unanswerable ones, evenly from each family.

    Args:
        examples: Of one split.
        per_family: Most of each family.
        seed: Another seed gives other examples.
    """
    families: defaultdict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda example: example.example_id):
        if example.kind == "answerable" or example.document is None:
            families[example.rule_id].append(example)
    picked = []
    for family, members in sorted(families.items()):
        rng = random.Random(derived_seed(seed, "read", family))
        picked += rng.sample(members, min(per_family, len(members)))
    return picked


def write_reading_list(examples: Sequence[Example], path: Path) -> None:
    """A CSV with empty columns for verdict and reason.

    Raises:
        DataError: The file exists: it may hold verdicts.
    """
    if path.exists():
        raise DataError(f"{path} exists and may hold verdicts; name another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in examples:
            writer.writerow(
                [
                    row.rule_id,
                    row.question,
                    row.answer,
                    row.quote or "",
                    row.document or "",
                    row.section or "",
                    "",
                    "",
                ]
            )
