"""Metric values worked out by hand, and agreement with the libraries."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from mark.evaluation.metrics import (
    bleu_counts,
    corpus_bleu,
    exact_match,
    normalize,
    rouge_l,
    score,
    sentence_bleu,
    token_f1,
)
from mark.prompting import REFUSAL

PAIRS = [
    ("within five days of the first day of each month", "within five days of the first day of each month"),
    ("The rent is 900 euros.", "900 euros"),
    ("nothing in common", "the landlord repairs"),
    ("seven years after the end of the year in which they were made", "seven years"),
    ("", "two months"),
]


def test_normalisation_is_that_of_squad() -> None:
    assert normalize("The Board's  3-year term, an (annual) fee!") == "boards 3year term annual fee"


def test_exact_match_ignores_articles_case_and_punctuation() -> None:
    assert exact_match("The treasurer.", "treasurer") == 1
    assert exact_match("treasurers", "treasurer") == 0


def test_token_f1_by_hand() -> None:
    # "rent is 900 euros" (4 words without the article) and "900 euros" share 2: 2 * 2 / (4 + 2) = 2/3.
    assert token_f1("The rent is 900 euros.", "900 euros") == pytest.approx(2 / 3)
    # A word counts as often as it stands in both: min(2, 1) = 1, so 2 * 1 / (2 + 1).
    assert token_f1("day day", "day") == pytest.approx(2 / 3)
    assert token_f1("", "day") == 0


def test_rouge_l_by_hand() -> None:
    # Longest common subsequence of "a b c d" and "a c b d" is 3 of 4 words on both sides: F = 3/4.
    assert rouge_l("a b c d", "a c b d") == pytest.approx(0.75)


def test_bleu_by_hand() -> None:
    # 5 words, 4 and 3 and 2 and 1 n-grams match of 5, 4, 3, 2 for a change of the last word:
    # precisions 4/5, 3/4, 2/3, 1/2, equal lengths: (4/5 * 3/4 * 2/3 * 1/2) ** (1/4) = .2 ** .25.
    assert sentence_bleu("one two three four six", ["one two three four five"]) == pytest.approx(0.2**0.25)


def test_the_best_accepted_answer_counts() -> None:
    found = score("two months", ["2 months", "two months", "60 days"], refused=False)
    assert (found.exact_match, found.token_f1, found.rouge_l) == (1, 1, 1)
    # Two words only: effective order 2, both precisions 1.
    assert found.bleu == pytest.approx(1.0)


@pytest.mark.parametrize("golds", [[], [REFUSAL]])
def test_unanswerable_questions_earn_the_refusal(golds: list[str]) -> None:
    assert score(REFUSAL, golds, refused=True).token_f1 == 1
    assert score("two months", golds, refused=False).token_f1 == 0


def test_refusing_an_answerable_question_earns_nothing() -> None:
    found = score(REFUSAL, ["not in these documents but elsewhere"], refused=True)
    assert (found.exact_match, found.token_f1, found.rouge_l, found.bleu) == (0, 0, 0, 0)


def test_agreement_with_the_libraries() -> None:
    rouge = RougeScorer(["rougeL"], use_stemmer=False)
    for prediction, gold in PAIRS:
        assert rouge_l(prediction, gold) == pytest.approx(rouge.score(gold, prediction)["rougeL"].fmeasure)
        expected = sacrebleu.sentence_bleu(prediction, [gold], use_effective_order=True).score / 100
        assert sentence_bleu(prediction, [gold]) == pytest.approx(expected)


@pytest.mark.parametrize("chosen", [slice(0, 5), slice(1, 4), slice(1, 2), slice(2, 3), slice(4, 5)])
def test_corpus_bleu_from_sums_equals_sacrebleu(chosen: slice) -> None:
    pairs = PAIRS[chosen]
    expected = sacrebleu.corpus_bleu([p for p, _ in pairs], [[g for _, g in pairs]]).score / 100
    sums = np.sum([bleu_counts(p, [g]) for p, g in pairs], axis=0)
    assert float(corpus_bleu(sums)) == pytest.approx(expected)


def test_corpus_bleu_takes_many_resamplings_at_once() -> None:
    counts = np.stack([bleu_counts(p, [g]) for p, g in PAIRS])
    weights = np.array([[1, 1, 1, 1, 1], [0, 3, 0, 2, 0]], dtype=np.float64)
    both = corpus_bleu(weights @ counts)
    assert both.shape == (2,)
    assert float(both[1]) == pytest.approx(float(corpus_bleu(3 * counts[1] + 2 * counts[3])))
