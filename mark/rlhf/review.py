"""The review of feedback: what waits, and what of it is taken over or refused, one reviewer at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mark.append_log import locked
from mark.config import PARAMS, Rlhf, load_section
from mark.errors import ConfigError
from mark.files import EMBEDDER, HANDWRITTEN_TEST, TEST_SFT
from mark.rlhf.feedback import (
    ACCEPTED,
    Chosen,
    Encode,
    NotReviewedError,
    Screened,
    accept,
    printable,
    read_accepted,
    read_inbox,
    reject,
    rejected_ids,
    screen,
)
from mark.rlhf.inputs import held_out_questions

Encoder = Callable[[Path], Encode | None]

_REVIEW = Path("feedback/review")  # names the lock


@dataclass(frozen=True)
class Waiting:
    """The inbox, every row with the reason why it stays out or None."""

    screened: list[Screened]
    unreadable: int  # lines that are no feedback


@dataclass(frozen=True)
class Reviewed:
    """What a review did."""

    accepted: list[str]  # ids
    rejected: list[str]


def project_encoder(root: Path) -> Encode | None:
    """The project's embedder, loaded; None where there is none, and wording alone tells questions apart.

    Raises:
        ModelError: It is damaged.
    """
    if not (root / EMBEDDER / "config.json").is_file():
        return None
    from mark.models.embedder import Embedder

    embedder = Embedder(root / EMBEDDER)
    return lambda texts: embedder.encode(texts, truncate=True)


def screened_inbox(root: Path, encoder: Encoder = project_encoder) -> Waiting:
    """The inbox, screened against what was reviewed before and against the test questions.

    Args:
        root: The project's root.
        encoder: Makes the embedder from the root; not called for an empty inbox.

    Raises:
        DataError: A file of earlier reviews or of the test is damaged.
        ModelError: The embedder is damaged.
    """
    limits = load_section(Rlhf, "rlhf", root / PARAMS).feedback
    inbox = read_inbox(root)
    known = read_accepted(root / ACCEPTED) if (root / ACCEPTED).is_file() else []
    encode = encoder(root) if inbox.rows else None
    test = held_out_questions(root / TEST_SFT.parent, root / HANDWRITTEN_TEST, encode)
    return Waiting(screen(inbox.rows, known, rejected_ids(root), test, limits), inbox.unreadable)


def review(
    root: Path,
    accepted: Sequence[Chosen] | None,
    refused: Sequence[str],
    encoder: Encoder = project_encoder,
) -> Reviewed:
    """Accept and refuse feedback; nothing is written where an id does not allow it.

    Args:
        root: The project's root.
        accepted: What to accept; None: all that wait and are not refused.
        refused: Ids to refuse for good; what was accepted before is taken out again.
        encoder: As of `screened_inbox`.

    Raises:
        ConfigError: An id is both accepted and refused.
        NotReviewedError: An id is unknown, may not be accepted (says why), or is not what was seen.
        DataError: Another review goes on, or a file is damaged.
    """
    if both := sorted({one.id for one in accepted or ()} & set(refused)):
        raise ConfigError(f"{printable(both[0])} is both accepted and rejected; give it once")
    with locked(root / _REVIEW):
        screened = screened_inbox(root, encoder).screened
        _check_known(root, screened, refused)
        left = [item for item in screened if item.row.id not in refused]
        taken = accept(left, accepted, root) if accepted is None or accepted else []
        if refused:
            reject(refused, root)
    return Reviewed(taken, list(dict.fromkeys(refused)))


def _check_known(root: Path, screened: Sequence[Screened], ids: Sequence[str]) -> None:
    known = {item.row.id for item in screened}
    known |= {row.id for row in read_accepted(root / ACCEPTED)} if (root / ACCEPTED).is_file() else set()
    if unknown := [name for name in ids if name not in known]:
        raise NotReviewedError(unknown[0], "is not in the inbox; `mark feedback list` shows what waits")
