"""Test passages and test answers, which no feedback may bring into training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from mark.answering.refusal import is_refusal
from mark.data_prep.passage_copies import near_copies
from mark.data_prep.similarity import SHORT_TEXT, words
from mark.data_prep.split import Section
from mark.evaluation.metrics import answerable_golds
from mark.files import TEST_SFT, read_jsonl
from mark.records import Chunk, Example, HandwrittenQuestion
from mark.rlhf.feedback import AcceptedFeedback


@dataclass(frozen=True)
class TestText:
    """The sections that test questions are about, and the texts that answer them."""

    __test__ = False  # not a test of pytest's

    sections: frozenset[Section] = frozenset()
    answers: tuple[str, ...] = ()  # accepted answers and quotes

    @classmethod
    def read(cls, data: Path, handwritten: Path) -> TestText:
        """Of test_sft.jsonl below `data`, and of handwritten_test.jsonl; either may be missing.

        Raises:
            DataError: A file is damaged.
        """
        rows: list[Example | HandwrittenQuestion] = []
        if (data / TEST_SFT.name).is_file():
            rows += read_jsonl(data / TEST_SFT.name, Example)
        if handwritten.is_file():
            rows += read_jsonl(handwritten, HandwrittenQuestion)
        sections = {(r.document, r.section) for r in rows if r.document is not None and r.section is not None}
        answers = {text for row in rows for text in (*answerable_golds(row.answers), row.quote) if text}
        return cls(frozenset(sections), tuple(sorted(answers)))


@dataclass(frozen=True)
class TestTextFound:
    """Where test text was found."""

    __test__ = False

    rows: frozenset[str] = frozenset()  # ids of feedback that is not trained on
    passages: frozenset[str] = frozenset()  # ids of chunks that no training prompt may show


def with_test_text(
    rows: Sequence[AcceptedFeedback], test: TestText, chunks: Mapping[str, Chunk]
) -> TestTextFound:
    """Passages in feedback's contexts that the test is about, and the feedback that rests on them.

    A passage counts where it belongs to a test section or is a near-copy, a part or a rewording of a passage
    of one. Feedback counts where

    - an answer is the like of such a passage or of a test answer (answers below `SHORT_TEXT` words say too
      little to be told from chance);
    - no other passage was shown; or an answer is a refusal, which may be right or wrong for them;
    - more of an answer's words stand in one of them than in any other passage that was shown.

    Other feedback can be trained on with the passages that are left. Words and numbers are compared, not
    meanings.

    Args:
        rows: The feedback.
        test: What must not be seen.
        chunks: All passages by id.
    """
    hidden = [c for c in chunks.values() if (c.document, c.section) in test.sections]
    shown = {i: chunks[i] for row in rows for i in row.contexts if i in chunks}
    seen = ({chunk.chunk_id for chunk in hidden} | near_copies(shown.values(), hidden).keys()) & shown.keys()
    said = [
        _passage(row.id, text) for row in rows for text in _answers(row) if len(words(text)) >= SHORT_TEXT
    ]
    answered = [_passage(f"answer {number}", text) for number, text in enumerate(test.answers)]
    repeated = near_copies(said, [*hidden, *answered]).keys() if said else set()
    resting = {row.id for row in rows if row.id not in repeated and _rests_on(row, seen, shown)}
    return TestTextFound(frozenset(repeated | resting), frozenset(seen))


def _answers(row: AcceptedFeedback) -> list[str]:
    return [text for text in (row.answer, row.edited) if text is not None]


def _rests_on(row: AcceptedFeedback, seen: Set[str], shown: Mapping[str, Chunk]) -> bool:
    """Whether without these passages the answers would lose what they are made from."""
    out, left = (
        [set(words(shown[i].text)) for i in row.contexts if i in shown and (i in seen) == taken]
        for taken in (True, False)
    )
    if not out:
        return False
    if not left or any(is_refusal(text) for text in _answers(row)):
        return True
    told = [set(words(text)) for text in _answers(row)]
    return any(max(len(one & w) for w in out) > max(len(one & w) for w in left) for one in told)


def _passage(name: str, text: str) -> Chunk:
    """A text as what copies are looked for in."""
    return Chunk(
        chunk_id=name, doc_id="", document="", title="", heading_path=[], section="", pages=[], start=0,
        end=len(text), text=text,
    )  # fmt: skip
