"""Rows of a collection put back together as documents."""

from __future__ import annotations

from mark.ingest.snapshot import CollectionRow, collection_documents


def row(row_id: str, text: str, **metadata: str | int | float | bool) -> CollectionRow:
    return CollectionRow(id=row_id, text=text, metadata=metadata)


def test_documents_pages_and_order():
    documents = collection_documents(
        [
            row("c10", "Third text.", source="/home/a/law.pdf", page=1),
            row("c9", "Second text.", source="/home/a/law.pdf", page=1),
            row("c1", "First text.", source="/home/a/law.pdf", page=0, title="The Law"),
            row("z", "Another document.", source="notes.txt"),
            row("e", "   ", source="empty.txt"),
        ]
    )
    law, notes = documents
    assert (law.document, law.title, notes.document) == ("law", "The Law", "notes")
    # pages are counted from 0 in this collection; c9 comes before c10
    assert [(page.page, page.text) for page in law.pages] == [
        (1, "First text."),
        (2, "Second text.\n\nThird text."),
    ]
    assert [page.page for page in notes.pages] == [1]


def test_overlaps_are_kept_once():
    shared = "which is shared by both of the rows."
    (document,) = collection_documents(
        [
            row("1", f"The first row ends with text {shared}", start_index=0),
            row("2", f"{shared} And it goes on.", start_index=30),
        ]
    )
    assert document.pages[0].text == f"The first row ends with text {shared}\n\n And it goes on."
    assert document.document == "collection"


def test_missing_pages_are_accounted_for():
    (document,) = collection_documents([row("1", "Text one.", page=1), row("2", "Text two.", page="3")])
    assert document.page_count == 3
    assert document.dropped == {2: "blank"}


def test_two_sources_of_one_name_stay_apart():
    documents = collection_documents(
        [row("1", "Text.", source="a/law.pdf"), row("2", "Other.", source="b/law.pdf")]
    )
    assert [document.document for document in documents] == ["law", "law-2"]
    assert documents[0].doc_id != documents[1].doc_id
