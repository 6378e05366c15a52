"""Which questions are asked, and from which chunks they can be answered."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mark.errors import LeakError
from mark.evaluation.questions import (
    Question,
    check_leaks,
    evenly,
    from_handwritten,
    gold_chunks,
    load_handwritten,
    stratified,
)
from mark.files import write_jsonl
from mark.records import Chunk, Example, HandwrittenQuestion


def chunk(chunk_id: str, text: str, section: str = "Article 1", document: str = "lease") -> Chunk:
    return Chunk(
        chunk_id=chunk_id, doc_id="d", document=document, title="Lease", heading_path=[section],
        section=section, pages=[1], start=0, end=len(text), text=text,
    )  # fmt: skip


def asked(quote: str | None = "the rent is 900 euros", document: str | None = "lease") -> HandwrittenQuestion:
    return HandwrittenQuestion(
        id="hw-1", question="How high is the rent?", answers=["900 euros"] if quote else [],
        kind="answerable" if quote else "unanswerable", style="short", document=document,
        article="1" if document else None, quote=quote,
    )  # fmt: skip


def trained(question: str = "Something else?", section: str = "Article 9") -> Example:
    return Example(
        example_id="train-1", split="train", question=question, contexts=["c1"], answers=["x"], quote=None,
        page=None, kind="answerable", style="short", rule_id="definition", document="lease", section=section,
        source_chunk="c1",
    )  # fmt: skip


def test_gold_chunks_hold_the_quote_or_most_of_its_words() -> None:
    chunks = [
        chunk("whole", "Here the  rent is 900\neuros a month."),
        chunk("three-of-five", "the rent is due"),  # 3 of 5 words: exactly 60 %
        chunk("two-of-five", "the rent"),
        chunk("elsewhere", "the rent is 900 euros", section="Article 2"),
        chunk("other", "the rent is 900 euros", document="policy"),
    ]
    assert gold_chunks(asked(), chunks) == ("whole", "three-of-five")
    assert gold_chunks(asked(quote=None), chunks) == ()


def test_evenly_spaced() -> None:
    # 10 items, 3 wanted: the middles of three stretches, 10/6, 30/6 and 50/6, rounded down.
    assert evenly(list(range(10)), 3) == [1, 5, 8]
    assert evenly([1, 2], 5) == [1, 2]
    assert evenly([1, 2], 0) == []


def test_strata_keep_their_shares() -> None:
    # 12 of "a" and 4 of "b", 6 wanted: 4.5 and 1.5, the spare seat goes to the first of the tie.
    items = ["a"] * 12 + ["b"] * 4
    assert Counter(stratified(items, 6, lambda item: item)) == {"a": 5, "b": 1}
    numbers = list(range(100))
    chosen = stratified(numbers, 10, lambda n: n % 4 == 0)
    assert chosen == sorted(chosen) and sum(n % 4 == 0 for n in chosen) in (2, 3)


def test_questions_about_another_corpus_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "handwritten_test.jsonl"
    write_jsonl(path, [asked(), asked(quote=None, document=None)])
    with caplog.at_level("INFO"):
        assert load_handwritten(path, [chunk("c1", "x", document="policy")]) == ([], 2)
    assert "2 questions left out, the corpus lacks lease" in caplog.text
    questions, left_out = load_handwritten(path, [chunk("c1", "the rent is 900 euros")])
    assert [q.gold for q in questions] == [("c1",), ()] and left_out == 0


def question() -> Question:
    return from_handwritten(asked(), [chunk("c1", "the rent is 900 euros")])


def test_no_leak_no_error() -> None:
    check_leaks([question()], [trained()])


def test_a_trained_question_is_a_leak() -> None:
    with pytest.raises(LeakError, match="hw-1 is also train-1"):
        check_leaks([question()], [trained(question="How high\u00a0is the RENT?")])


def test_a_cited_section_is_a_leak() -> None:
    with pytest.raises(LeakError, match="lease, Article 1 is cited by test question hw-1"):
        check_leaks([question()], [trained(section="Article 1")])
