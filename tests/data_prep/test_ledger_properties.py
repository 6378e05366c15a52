"""The account of data_prep, the splits and the rows, on random corpora."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from mark import records
from mark.data_prep.build import Dataset
from mark.data_prep.candidates import balanced, cheap_fault, make_candidates
from mark.data_prep.ledger import Ledger
from mark.data_prep.phrases import Casing
from mark.data_prep.rules import RULES
from mark.data_prep.split import HeldOut, assign_splits
from mark.data_prep.spool import Spool
from mark.errors import DataError
from mark.files import read_jsonl, write_jsonl
from mark.prompting import REFUSAL
from mark.records import PracticeQuestion, Row, Split
from tests.data_prep import corpora, passages

SLOW = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
MANY = settings(max_examples=150, deadline=None, derandomize=True)


def practice_on(chunk: records.Chunk, number: int, here: bool) -> PracticeQuestion:
    """A question by people, on a passage of the corpus or on one that it brings."""
    text = (
        chunk.text if here else f"The ferry number {number} shall carry {number + 20} rafts for its guests."
    )
    return PracticeQuestion(
        id=f"practice-{number}", question=f"How is case number {number} handled on board ship {number}?",
        answer=" ".join(text.split()[-5:]), kind="answerable", style="short",
        document=chunk.document if here else "ferry-act", section=chunk.section if here else f"Article {number}",
        quote=text, title="Ferry Act", heading_path=["Article 1"], passage=None if here else text,
    )  # fmt: skip


def check_account(found: Dataset, pages: list[records.Page], chunks: list[records.Chunk]) -> None:
    """Count everything anew, from the rows and the corpus alone."""
    ledger = Ledger.model_validate_json(found.ledger.model_dump_json())
    assert ledger.pages == len(pages) and ledger.chunks == len(chunks)
    traced = {
        chunk_id: (document, int(page), count)
        for document, by_page in ledger.trace.items()
        for page, by_chunk in by_page.items()
        for chunk_id, count in by_chunk.items()
    }
    assert set(traced) == {chunk.chunk_id for chunk in chunks}
    by_source: Counter[str] = Counter()
    for name, rows in found.rows.items():
        split = ledger.splits[name]
        answerable = [row for row in rows if row.kind == "answerable"]
        assert (split.examples, split.answerable) == (len(rows), len(answerable))
        assert split.short + split.full == split.answerable
        assert sum(ledger.balance[name].answer_words.values()) == len(answerable)
        assert sum(share.got for share in ledger.balance[name].kinds.values()) == len(rows)
        assert sum(share.got for share in ledger.balance[name].documents.values()) == len(answerable)
        by_source.update(str(row.source_chunk) for row in answerable)
    for chunk in chunks:
        document, page, count = traced[chunk.chunk_id]
        assert (document, page) == (chunk.document, chunk.pages[0])
        assert count.split == found.splits.of(chunk)
        assert count.kept == by_source.pop(chunk.chunk_id, 0)
        assert count.asked == count.kept + count.kept_without_passage + sum(count.dropped.values())
    for name, rows in found.rows.items():
        brought = [row for row in rows if row.source_chunk in by_source]
        assert len(brought) == ledger.brought[name].kept
    assert sum(count.kept for count in ledger.brought.values()) == sum(by_source.values())
    assert ledger.brought["test"].asked == 0


@SLOW
@given(
    seed=st.integers(0, 1000),
    documents=st.integers(1, 12),
    sections=st.integers(2, 5),
    samples=st.integers(1, 40),
    unanswerable=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    section_cap=st.integers(1, 6),
    practice=st.booleans(),
)
def test_the_sums_match_on_any_corpus(
    seed: int,
    documents: int,
    sections: int,
    samples: int,
    unanswerable: float,
    section_cap: int,
    practice: bool,
) -> None:
    pages, chunks = corpora.corpus(seed, documents, sections, 2)
    people = [practice_on(chunk, number, number % 2 == 0) for number, chunk in enumerate(chunks[:6])]
    changes: dict[str, object] = {
        "max_samples": samples, "unanswerable_share": unanswerable, "max_per_section": section_cap,
        "practice_share": 0.5 if practice else 0.0, "brought_share": 0.25 if practice else 0.0,
    }  # fmt: skip
    try:
        found = corpora.prepared(pages, chunks, seed, practice=people if practice else (), **changes)
    except DataError as fault:
        assert "no training question could be made" in str(fault)
        return
    check_account(found, pages, chunks)
    check_rows(found, chunks, section_cap)


def check_rows(found: Dataset, chunks: list[records.Chunk], section_cap: int) -> None:
    """Splits are respected by every row, and no section is asked about too often."""
    split_of = {chunk.chunk_id: found.splits.of(chunk) for chunk in chunks}
    allowed = {"train": {"train"}, "val": {"train", "val"}, "test": {"train", "val", "test"}}
    for name, rows in found.rows.items():
        for row in rows:
            assert {split_of.get(chunk_id, "train") for chunk_id in row.contexts} <= allowed[name]
            assert row.rule_id != "practice" or name != "test"
            assert (row.answers == [REFUSAL]) == (row.kind == "unanswerable")
        asked = Counter((r.document, r.section) for r in rows if r.document and r.rule_id != "practice")
        assert all(count <= section_cap for count in asked.values())
    questions = [row.question for rows in found.rows.values() for row in rows]
    assert len(set(questions)) == len(questions)


def test_equal_inputs_give_equal_rows_in_any_order_of_chunks() -> None:
    pages, chunks = corpora.corpus(3, 4, 6, 2)
    first = corpora.prepared(pages, chunks, 5, max_samples=30)
    again = corpora.prepared(pages, chunks, 5, max_samples=30)
    turned = corpora.prepared(pages, chunks[::-1], 5, max_samples=30)
    assert first.rows == again.rows == turned.rows
    assert first.ledger.model_dump_json() == again.ledger.model_dump_json()
    assert corpora.prepared(pages, chunks, 6, max_samples=30).rows != first.rows


def test_the_spool_keeps_the_balanced_order() -> None:
    _, chunks = corpora.corpus(1, 5, 8, 2)
    casing = Casing(chunk.text for chunk in chunks)
    made = [candidate for candidate, _ in make_candidates(chunks, RULES, casing, 1)]
    sound = [candidate for candidate in made if cheap_fault(candidate, passages.settings()) is None]
    assert len(sound) > 100
    by_id = {chunk.chunk_id: chunk for chunk in chunks}
    with Spool(by_id, 1) as spool:
        for candidate in sound[::-1]:
            spool.add("train", candidate)
        assert list(spool.balanced("train")) == balanced(sound, 1)
        assert list(spool.balanced("test")) == [] and spool.count("train") == len(sound)


@MANY
@given(
    documents=st.integers(1, 24),
    sections=st.integers(1, 6),
    shares=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    cluster=st.sets(st.integers(0, 23), max_size=5),
    held=st.sets(st.tuples(st.integers(0, 23), st.integers(1, 6)), max_size=4),
    by=st.sampled_from(["auto", "document", "section"]),
    seed=st.integers(0, 50),
)
def test_splits_on_any_corpus(
    documents: int, sections: int, shares: tuple[float, float], cluster: set[int],
    held: set[tuple[int, int]], by: str, seed: int,
) -> None:  # fmt: skip
    names = [f"doc{d}" for d in range(documents)]
    chunks = [passages.chunk(f"{n} {s}", f"Article {s}", n) for n in names for s in range(1, sections + 1)]
    group = sorted(f"doc{d}" for d in cluster if d < documents)
    clusters = [group] if len(group) > 1 else []
    held_out = HeldOut(frozenset((f"doc{d}", f"Article {s}") for d, s in held))
    made = passages.settings(test_share=shares[0], val_share=shares[1], split_by=by)
    splits = assign_splits(chunks, made, held_out, seed, clusters)
    assert assign_splits(chunks[::-1], made, held_out, seed, [group[::-1]] if clusters else []) == splits
    assert set(splits.of_section) == {(chunk.document, chunk.section) for chunk in chunks}
    cited = {(d, s) for d, s in held_out.test if (d, s) in splits.of_section}
    assert all(splits.of_section[section] == "test" for section in cited)
    twins = {s for d, s in cited if d in group}
    whole = splits.by == "document" or len(group) * sections <= 0.5 * len(splits.of_section)
    if clusters:
        for article in twins:
            assert {splits.of_section[name, article] for name in group} == {"test"}
        free = [s for s in splits.of_section if s[0] in group and s[1] not in twins]
        parts: dict[str, set[Split]] = {}
        for name, article in free:
            parts.setdefault("" if whole else article, set()).add(splits.of_section[name, article])
        assert all(len(found) == 1 for found in parts.values())
    if splits.by == "document":
        for name in names:
            found = {splits.of_section[s] for s in splits.of_section if s[0] == name and s not in cited}
            assert len(found - {"test"} if name in group else found) <= 1


ROWS = [
    value
    for value in vars(records).values()
    if isinstance(value, type) and issubclass(value, Row) and value is not Row
]


def rows_of(model: type[BaseModel]) -> st.SearchStrategy[BaseModel]:
    """Rows of a type with any text in them, line breaks of all kinds included."""
    known = {int: st.integers(1, 10**9), float: st.floats(0, 1), bool: st.booleans()}
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
        ["a\nb", "\u2028", "\x85", '"', "\\", "‘né’", "第一条", "\u0000"]
    )
    parts = {
        name: _strategy(field.annotation, known, text)
        for name, field in model.model_fields.items()
        if name != "schema_version"
    }
    return st.builds(model, **parts)


def _strategy(
    annotation: object, known: dict[type, st.SearchStrategy[object]], text: st.SearchStrategy[str]
) -> st.SearchStrategy[object]:
    origin = getattr(annotation, "__origin__", None)
    arguments = getattr(annotation, "__args__", ())
    if annotation is str:
        return text
    if annotation in known:
        return known[annotation]  # type: ignore[index]
    if annotation is type(None):
        return st.none()
    if origin is list:
        return st.lists(_strategy(arguments[0], known, text), min_size=1, max_size=3)
    if origin is tuple:
        return st.tuples(*(_strategy(part, known, text) for part in arguments))
    if origin is not None and "Literal" in str(origin):
        return st.sampled_from(arguments)
    if arguments:  # a union
        return st.one_of(*(_strategy(part, known, text) for part in arguments))
    raise AssertionError(f"no strategy for {annotation!r}")


@pytest.mark.parametrize("model", ROWS, ids=lambda model: model.__name__)
def test_every_row_type_survives_a_file(model: type[BaseModel]) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.lists(rows_of(model), max_size=4))
    def check(rows: list[BaseModel]) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "rows.jsonl"
            assert write_jsonl(path, rows) == len(rows)
            assert read_jsonl(path, model) == rows
            lines = [line for line in path.read_bytes().split(b"\n") if line]
            assert len(lines) == len(rows)
            assert all(json.loads(line)["schema_version"] == 1 for line in lines)

    check()
