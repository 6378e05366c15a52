"""Keyword scores against the formula."""

from __future__ import annotations

import math

import pytest

from mark.records import Chunk
from mark.retrieval.bm25 import KeywordIndex, indexed_text, tokenise


def chunk(number: int, text: str) -> Chunk:
    return Chunk(
        chunk_id=f"{number:016x}", doc_id="d" * 64, document="x", title="Law", heading_path=[], section="",
        pages=[1], start=0, end=len(text), text=text,
    )  # fmt: skip


def test_stems_without_function_words():
    assert tokenise("The controllers SHALL not be processing it") == ["control", "shall", "not", "process"]


def test_scores_follow_lucenes_formula():
    # tokens: [x, law, bread, fresh, bread] and [x, law, roll]; average length 4, k1 1.5, b 0.75
    # idf(bread) = ln(1 + (2 - 1 + 0.5) / (1 + 0.5)) = ln 2
    # tf part = 2 / (2 + 1.5 * (1 - 0.75 + 0.75 * 5 / 4)) = 2 / 3.78125
    index = KeywordIndex([chunk(1, "Bread, fresh bread"), chunk(2, "Rolls")])
    scores = index.scores("Is bread here?")
    assert scores[0] == pytest.approx(math.log(2) * 2 / 3.78125, rel=1e-5)
    assert scores[1] == 0.0


def test_a_document_is_found_by_its_file_name():
    named = chunk(1, "Bread").model_copy(update={"document": "ai_act-2024"})
    assert KeywordIndex([named, chunk(2, "Bread")]).scores("the AI Act").tolist()[1] == 0.0
    assert KeywordIndex([named, chunk(2, "Bread")]).scores("the AI Act")[0] > 0.0


def test_a_definition_is_found_by_its_term():
    # Two mentions against one: only the extra mentions put the definition first.
    uses = chunk(1, "The deployer shall tell any other deployer of the system what it does with persons.")
    words = "(4) ‘deployer’ means a natural or legal person that uses the system."
    defines, plain = chunk(2, words), chunk(2, words.replace("‘", "").replace("’", ""))
    question, rest = "Who counts as a deployer?", chunk(3, "Rolls")
    unquoted = KeywordIndex([uses, plain, rest]).scores(question)
    assert unquoted[0] > unquoted[1]
    quoted = KeywordIndex([uses, defines, rest]).scores(question)
    assert quoted[1] > quoted[0] > quoted[2]
    assert indexed_text(defines).count("deployer") == 3
    assert indexed_text(uses) == f"x\nLaw\n{uses.text}"


def test_unknown_words_score_nothing():
    assert KeywordIndex([chunk(1, "Bread"), chunk(2, "Rolls")]).scores("zebra").tolist() == [0.0, 0.0]
