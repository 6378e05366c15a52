"""`mark feedback list|review`: what waits in the inbox, and what of it training may read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mark.config import Rlhf, load_section
from mark.errors import ConfigError
from mark.files import EMBEDDER, HANDWRITTEN_TEST, TEST_SFT

if TYPE_CHECKING:
    from mark.rlhf.feedback import Screened

_SHOWN = 70  # characters of a question


def list_feedback(root: Path) -> str:
    """The inbox: a line for each that waits, and how much stays out and why."""
    screened, unreadable = _screened(root)
    waiting = [item.row for item in screened if item.reason is None]
    lines = [
        f"{row.id}  {'edited' if row.edited is not None else row.thumb:6}  {row.question[:_SHOWN]!r}"
        for row in waiting
    ]
    out = Counter(item.reason for item in screened if item.reason is not None)
    kept = [f"{count} {reason}" for reason, count in sorted(out.items())]
    kept += [f"{unreadable} unreadable"] if unreadable else []
    lines.append(f"{len(waiting)} wait for review" + (f"; stay out: {', '.join(kept)}" if kept else ""))
    return "\n".join(lines)


def review_feedback(accepted: Sequence[str], refused: Sequence[str], every: bool, root: Path) -> str:
    """Accept or refuse feedback; without a choice, show each that waits in full.

    Args:
        accepted: Ids to accept.
        refused: Ids to refuse for good.
        every: Accept all that wait.
        root: The project's root.

    Raises:
        ConfigError: An id is both accepted and refused.
        DataError: An id may not be accepted (says why).
    """
    from mark.rlhf.feedback import ACCEPTED, accept, reject

    if both := sorted(set(accepted) & set(refused)):
        raise ConfigError(f"{both[0]} is both accepted and rejected; give it once")
    if not (accepted or refused or every):
        return _in_full(root)
    if refused:
        reject(refused, root)
    screened, _ = _screened(root)
    taken = accept(screened, None if every else accepted, root) if accepted or every else []
    return f"{len(taken)} accepted into {ACCEPTED}, {len(refused)} rejected; `dvc repro rlhf` trains on them"


def _in_full(root: Path) -> str:
    """What waits, quoted: control characters in it cannot reach the terminal."""
    screened, _ = _screened(root)
    blocks = []
    for row in (item.row for item in screened if item.reason is None):
        lines = [f"{row.id} (from {row.source!r}, {row.model!r})"]
        lines += [f"  question: {row.question!r}", f"  answer:   {row.answer!r}"]
        lines += [f"  edited:   {row.edited!r}"] if row.edited is not None else []
        lines += [f"  thumb:    {row.thumb}"] if row.thumb is not None else []
        blocks.append("\n".join(lines))
    blocks.append("Accept with `mark feedback review --accept ID`, refuse with `--reject ID`.")
    return "\n\n".join(blocks)


def _screened(root: Path) -> tuple[list[Screened], int]:
    from mark.models.embedder import Embedder
    from mark.rlhf.feedback import ACCEPTED, read_accepted, read_inbox, rejected_ids, screen
    from mark.rlhf.inputs import held_out_questions

    limits = load_section(Rlhf, "rlhf", root / "params.yaml").feedback
    inbox = read_inbox(root)
    known = read_accepted(root / ACCEPTED) if (root / ACCEPTED).is_file() else []
    embedder = root / EMBEDDER
    encoder = Embedder(embedder) if inbox.rows and (embedder / "config.json").is_file() else None
    test = held_out_questions(
        root / TEST_SFT.parent,
        root / HANDWRITTEN_TEST,
        None if encoder is None else lambda texts: encoder.encode(texts, truncate=True),
    )
    return screen(inbox.rows, known, rejected_ids(root), test, limits), inbox.unreadable
