"""What the examples of a split are made of: wanted and got, and how long the answers are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from mark.records import Example

LENGTHS = (1, 3, 7, 15, 31, 63)  # upper ends of the histogram's bins, in words


class Share(BaseModel):
    """Examples of one group."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wanted: int  # a fair share; what the corpus cannot give goes to the other groups
    got: int


class Balance(BaseModel):
    """Of one split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    examples: Share
    kinds: dict[str, Share]  # answerable, withheld, and the kinds that no passage answers
    styles: dict[str, Share]  # of the answerable examples
    rules: dict[str, Share]
    documents: dict[str, Share]  # "(brought)": practice questions with a passage of their own
    answer_words: dict[str, int]  # histogram of the answerable examples


def balance(rows: Sequence[Example], wanted: Mapping[str, Mapping[str, float]]) -> Balance:
    """Compare what was kept with what was wanted.

    Args:
        rows: The examples of a split.
        wanted: For `examples`, `kinds`, `styles`, `rules` and `documents`, group -> examples.
    """
    answerable = [row for row in rows if row.kind == "answerable"]
    refused = [row for row in rows if row.kind == "unanswerable"]
    kinds = Counter("withheld" if row.document else row.rule_id for row in refused)
    kinds["answerable"] = len(answerable)
    documents = wanted["documents"]
    return Balance(
        examples=Share(wanted=round(wanted["examples"]["all"]), got=len(rows)),
        kinds=_shares(wanted["kinds"], kinds),
        styles=_shares(wanted["styles"], Counter(row.style for row in answerable)),
        rules=_shares(wanted["rules"], Counter(row.rule_id for row in answerable)),
        documents=_shares(
            documents,
            Counter(str(r.document) if r.document in documents else "(brought)" for r in answerable),
        ),
        answer_words=_histogram(answerable),
    )


def _shares(wanted: Mapping[str, float], got: Mapping[str, int]) -> dict[str, Share]:
    names = sorted({*wanted, *(name for name, count in got.items() if count)})
    return {name: Share(wanted=round(wanted.get(name, 0)), got=got.get(name, 0)) for name in names}


def _histogram(rows: Sequence[Example]) -> dict[str, int]:
    lengths = [len(row.answer.split()) for row in rows]
    bins: dict[str, int] = {}
    low = 0
    for high in LENGTHS:
        name = str(high) if high == low + 1 else f"{low + 1}-{high}"
        bins[name] = sum(low < length <= high for length in lengths)
        low = high
    bins[f"{low + 1}+"] = sum(length > low for length in lengths)
    return bins
