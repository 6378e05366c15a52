"""`mark feedback add|list|review`: what was said about an answer, what waits, and what training may read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mark.errors import ConfigError, DataError

if TYPE_CHECKING:
    from mark.pipeline.feedback import FeedbackRow
    from mark.rlhf.feedback import Chosen, Screened

LAST = "last"  # the newest answer in the journal
SOURCE = "cli"  # who uses this computer's command line counts as one source
_SHOWN = 70  # characters of a question


@dataclass(frozen=True)
class Judgement:
    """The flags of one `mark feedback add`."""

    up: bool
    down: bool
    edit: str | None
    edit_file: Path | None
    comment: str | None

    def rating(self) -> Literal["up", "down"] | None:
        """The thumb.

        Raises:
            ConfigError: Both thumbs.
        """
        if self.up and self.down:
            raise ConfigError("--up and --down contradict each other; give one of them")
        return "up" if self.up else "down" if self.down else None

    def edited(self) -> str | None:
        """The better answer, of the flag or the file.

        Raises:
            ConfigError: Both are given.
            DataError: The file is missing or is no text.
        """
        if self.edit_file is None:
            return self.edit
        if self.edit is not None:
            raise ConfigError("--edit and --edit-file contradict each other; give one of them")
        try:
            return self.edit_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as fault:
            why = fault.strerror if isinstance(fault, OSError) else "not UTF-8 text"
            raise DataError(f"{self.edit_file} cannot be read: {why}; give a text file") from None


def add_judgement(response_id: str, judgement: Judgement, root: Path) -> str:
    """Put a judgement of an answer into the inbox.

    Args:
        response_id: From the last line of `mark ask`, or `last`.
        judgement: The flags.
        root: The project's root.

    Returns:
        One line: what became of it.

    Raises:
        ConfigError: Flags contradict each other.
        DataError: The answer is unknown, or the judgement is none.
    """
    from mark.pipeline.feedback import add_feedback, newest_response_id

    rating, edited = judgement.rating(), judgement.edited()
    named = newest_response_id(root) if response_id == LAST else response_id
    return placed_line(add_feedback(root, named, rating, edited, judgement.comment, SOURCE))


def placed_line(found: FeedbackRow) -> str:
    """What was said of which answer, and what became of it."""
    edited = None if found.row.edited is None else "edited"
    words = " and ".join(word for word in (found.row.thumb, edited) if word)
    return f"{found.row.id}: {words}, {found.placed}; `mark feedback review` decides"


def list_feedback(root: Path) -> str:
    """The inbox: a line for each that waits, and how much stays out and why."""
    from mark.rlhf.review import screened_inbox

    found = screened_inbox(root)
    waiting = [item for item in found.screened if item.reason is None]
    lines = [_line(item) for item in waiting]
    out = Counter(item.reason for item in found.screened if item.reason is not None)
    kept = [f"{count} {reason}" for reason, count in sorted(out.items())]
    kept += [f"{found.unreadable} unreadable"] if found.unreadable else []
    lines.append(f"{len(waiting)} wait for review" + (f"; stay out: {', '.join(kept)}" if kept else ""))
    return "\n".join(lines)


def _line(item: Screened) -> str:
    row = item.row
    kind = "edited" if row.edited is not None else row.thumb
    changed = "  (changes what was accepted)" if item.replaces else ""
    return f"{row.id}@{row.seen}  {kind:6}  {row.question[:_SHOWN]!r}{changed}"


def review_feedback(accepted: Sequence[str], refused: Sequence[str], every: bool, root: Path) -> str:
    """Accept or refuse feedback; without a choice, show each that waits in full.

    Args:
        accepted: What to accept: ID, or ID@HASH as it was printed.
        refused: Ids to refuse for good; what follows an @ counts for nothing.
        every: Accept all that wait.
        root: The project's root.

    Raises:
        ConfigError: An id is both accepted and refused.
        DataError: An id may not be accepted (says why), or has changed since its hash was printed.
    """
    from mark.rlhf.feedback import ACCEPTED
    from mark.rlhf.review import review

    if not (accepted or refused or every):
        return _in_full(root)
    if accepted and every:
        raise ConfigError("--accept and --accept-all contradict each other; give one of them")
    chosen = None if every else [_chosen(one) for one in accepted]
    done = review(root, chosen, [_chosen(one).id for one in refused])
    counts = f"{len(done.accepted)} accepted into {ACCEPTED}, {len(done.rejected)} rejected"
    return f"{counts}; `mark rlhf` says what it would train on"


def _chosen(text: str) -> Chosen:
    """ID or ID@HASH; no id holds an @."""
    from mark.rlhf.feedback import Chosen

    name, at, seen = text.partition("@")
    return Chosen(name, seen if at else None)


def _in_full(root: Path) -> str:
    """What waits, quoted: control characters in it cannot reach the terminal."""
    from mark.rlhf.review import screened_inbox

    blocks = []
    for item in screened_inbox(root).screened:
        if item.reason is not None:
            continue
        row = item.row
        lines = [f"{row.id}@{row.seen} (from {row.source!r}, {row.model!r})"]
        lines += ["  changes what was accepted"] if item.replaces else []
        lines += [f"  question: {row.question!r}", f"  answer:   {row.answer!r}"]
        lines += [f"  edited:   {row.edited!r}"] if row.edited is not None else []
        lines += [f"  thumb:    {row.thumb}"] if row.thumb is not None else []
        lines += [f"  comment:  {row.comment!r}"] if row.comment is not None else []
        blocks.append("\n".join(lines))
    blocks.append(
        "Accept with `mark feedback review --accept ID@HASH` (ID alone takes whatever waits under it then), "
        "refuse with `--reject ID`."
    )
    return "\n\n".join(blocks)
