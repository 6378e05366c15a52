"""Which sections the hand-written questions cite: those are kept out of training.

Only the citations are taken from the question files, so that data_prep never sees a question.
"""

from __future__ import annotations

from pathlib import Path

from mark.files import HANDWRITTEN_DEV, HANDWRITTEN_TEST, HELD_OUT, read_jsonl, write_json
from mark.records import HandwrittenQuestion

HeldOut = dict[str, list[list[str]]]


def held_out_sections(root: Path) -> HeldOut:
    """The cited (document, section) pairs, sorted.

    Args:
        root: The project's root.

    Returns:
        `{"test": [[document, section], ...], "val": [...]}`; a section cited by both files is
        in `test`.
    """
    test = _cited(root / HANDWRITTEN_TEST)
    val = _cited(root / HANDWRITTEN_DEV) - test
    return {"test": [list(pair) for pair in sorted(test)], "val": [list(pair) for pair in sorted(val)]}


def write_held_out(root: Path) -> Path:
    """Write the citations to data/held_out_sections.json, which data_prep reads."""
    target = root / HELD_OUT
    write_json(target, held_out_sections(root))
    return target


def _cited(path: Path) -> set[tuple[str, str]]:
    rows = read_jsonl(path, HandwrittenQuestion)
    return {(row.document, row.section) for row in rows if row.document and row.section}
