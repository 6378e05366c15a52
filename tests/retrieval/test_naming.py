"""Which documents a question names, and what is left of it."""

from __future__ import annotations

import pytest

from mark.records import Chunk
from mark.retrieval.naming import DocumentNames


def chunk(document: str, title: str, text: str) -> Chunk:
    return Chunk(
        chunk_id=f"{abs(hash((document, text))):016x}"[:16], doc_id="d" * 64, document=document, title=title,
        heading_path=[], section="", pages=[1], start=0, end=len(text), text=text,
    )  # fmt: skip


NAMES = DocumentNames(
    [
        chunk("cra", "Cyber Resilience Act", "Manufacturers shall report."),
        chunk("ai_act-2024", "Artificial Intelligence Act", "Providers of DORA tools shall report."),
        chunk("dora", "Digital Operational Resilience Act (DORA)", "Banks shall report."),
        chunk("lease", "Lease", "The tenant may end this lease. The records policy applies."),
        chunk("Records Policy", "Records Policy", "Keep records."),
        chunk("2023", "Untitled", "Nothing."),
        chunk("a1", "Minutes of the Board", "One."),
        chunk("a2", "Minutes of the Board", "Two."),
    ]
)


@pytest.mark.parametrize(
    ("question", "documents", "rest"),
    [
        ("Who must report under the CRA?", {"cra"}, "Who must report ?"),
        ("who reports breaches under dora", {"dora"}, "who reports breaches"),
        ("What are DORA's reporting deadlines?", {"dora"}, "What are reporting deadlines?"),
        ("Does the Cyber Resilience Act bind sellers abroad?", {"cra"}, "Does bind sellers abroad?"),
        ("How do CRA and DORA treat late reports?", {"cra", "dora"}, "How do and treat late reports?"),
        ("Digital Operational Resilience Act fines for banks", {"dora"}, "fines for banks"),
        ("What is the DORA?", {"dora"}, "What is the DORA?"),  # nothing would be left to search for
    ],
)
def test_names(question: str, documents: set[str], rest: str) -> None:
    mention = NAMES.mention(question)
    assert mention is not None
    assert (mention.documents, mention.rest) == (documents, rest)


@pytest.mark.parametrize(
    "question",
    [
        "When may the tenant end the lease?",  # `lease` is a common noun: a text writes it small
        "What does the records policy say?",  # so is this one
        "What happened in 2023?",
        "What do the Minutes of the Board say?",  # two documents have this title
        "Which untitled scan is missing?",
        "What about the Cyber Resilience",  # ends inside a name
        "",
    ],
)
def test_no_names(question: str) -> None:
    assert NAMES.mention(question) is None
