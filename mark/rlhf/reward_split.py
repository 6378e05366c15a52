"""Which preferences the reward model is judged on: whole documents or sections that it is not trained on."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from mark.answering.quotes import fold
from mark.evaluation.significance import choose_clusters
from mark.records import Chunk, Example
from mark.rlhf.preferences import Pair
from mark.seeding import derived_seed


def clusters_of(
    pairs: Sequence[Pair],
    examples: Sequence[Example],
    chunks: Mapping[str, Chunk],
    share: float,
    min_clusters: int,
) -> list[str]:
    """The cluster of each preference; those of one question are in one.

    Args:
        pairs: [N] preferences.
        examples: The questions that sampled ones are about; people's belong to their first passage.
        chunks: By id.
        share: Of the preferences that is to be held out.
        min_clusters: Held-out clusters that are wanted: documents where there are enough, else sections.

    Returns:
        [N] names.
    """
    places = {row.example_id: (row.document, row.section) for row in examples}
    shown = [next((chunks[i] for i in pair.contexts if i in chunks), None) for pair in pairs]
    found = [
        places.get(pair.id, (None, None) if chunk is None else (chunk.document, chunk.section))
        for pair, chunk in zip(pairs, shown, strict=True)
    ]
    questions = [fold(pair.question).casefold() for pair in pairs]
    documents, sections = [place[0] for place in found], [place[1] for place in found]
    names = choose_clusters(documents, sections, questions, math.ceil(min_clusters / share))
    first: dict[str, str] = {}
    return [first.setdefault(question, name) for question, name in zip(questions, names, strict=True)]


def hold_out(clusters: Sequence[str], share: float, seed: int) -> list[bool]:
    """Which preferences are held out: whole clusters, in a seeded order, until there are enough.

    Args:
        clusters: [N], of each preference.
        share: Of the preferences; a cluster that would take it beyond twice as many is passed over.
        seed: Of the run.

    Returns:
        [N].
    """
    sizes, wanted = Counter(clusters), round(share * len(clusters))
    order = sorted(sizes)
    random.Random(derived_seed(seed, "reward_model", "held_out")).shuffle(order)
    chosen: set[str] = set()
    taken = 0
    for name in order:
        if taken < wanted and taken + sizes[name] <= 2 * wanted:
            chosen.add(name)
            taken += sizes[name]
    return [name in chosen for name in clusters]
