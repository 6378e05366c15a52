"""The table on a screen of ordinary width, and the verdict's sentence."""

from __future__ import annotations

from typing import Any

import pytest

from mark.evaluation.report import WIDTH, dataset_text, summary_text, verdict_sentence

NAMES = (
    "exact_match", "token_f1", "f1_if_answered", "rouge_l", "bleu", "refusal_recall", "false_refusals",
    "quote_correct", "mrr_at_10", "ndcg_at_10", "wrong_document", "recall_at_1", "recall_at_10",
)  # fmt: skip
VALUES = {key: value for n in NAMES for key, value in {n: 1.0, f"{n}_low": 0.25, f"{n}_high": 1.0}.items()}
GAIN = {"difference": 0.5, "low": 0.125, "high": 0.75, "smallest_detectable": 0.25}


def metrics(verdict: str, clusters: int = 40) -> dict[str, Any]:
    return {
        "handwritten": dict.fromkeys(("base_retrieval", "tuned_retrieval", "tuned_oracle"), VALUES),
        "retrieval": {"handwritten": VALUES},
        "gain": {"handwritten": {"over_base_retrieval": GAIN, "over_extractive": GAIN}},
        "unseen_documents": {"base_retrieval": VALUES, "tuned_retrieval": VALUES},
        "test_documents_seen_in_training": {"act": 12, "code": 0},
        "counts": {"handwritten": 132, "unseen_documents": 17, "validation": 14},
        "refusal_fitted": {"base_retrieval": True, "tuned_retrieval": True},
        "clusters": {"handwritten": clusters + 9, "judged": clusters, "needed": 30},
        "verdict": verdict,
        "verdict_on": "handwritten",
    }


def test_nothing_is_cut_off_or_too_wide() -> None:
    text = summary_text({"eval_x_lora": metrics("ship")})
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "Hand-written questions: 132 in 49 clusters" in text and "Rule-made" not in text
    flat = " ".join(text.split())
    assert "recall@1 100 (25-100), recall@10 100 (25-100), MRR@10 100 (25-100), nDCG@10 100 (25-" in flat
    assert "wrong document first 100 (25-100)" in flat
    assert "base + retrieval +50.0 (+12.5 to +75.0)" in text


def test_the_table_says_which_documents_were_trained_on() -> None:
    text = " ".join(summary_text({"eval_x_lora": metrics("ship")}).split())
    assert "(never on a tested section): act 12, code 0 (unseen)" in text
    assert "Unseen documents alone (17 questions), token F1: base + retrieval 100 (25-100), tuned +" in text


def test_the_table_says_where_refusing_could_not_be_fitted() -> None:
    found = metrics("ship")
    assert "not calibrated" not in summary_text({"eval_x_lora": found})
    found["refusal_fitted"] = {"base_retrieval": True, "tuned_retrieval": False}
    text = " ".join(summary_text({"eval_x_lora": found}).split())
    assert "Refusing is not calibrated: fewer than 10 answerable or 10 unanswerable among the 14" in text


@pytest.mark.parametrize(
    ("verdict", "clusters", "expected"),
    [
        ("ship", 40, "ship; it beats base + retrieval and the best sentence"),
        ("don't ship", 40, "don't ship; it is worse than"),
        ("cannot tell", 40, "cannot tell; not both intervals"),
        ("cannot tell", 12, "cannot tell; 12 clusters are too few, 30 are needed"),
    ],
)
def test_the_verdict_names_questions_clusters_and_the_smallest_gain(
    verdict: str, clusters: int, expected: str
) -> None:
    sentence = verdict_sentence("x_lora", metrics(verdict, clusters))
    assert expected in sentence
    assert f"(132 hand-written questions, {clusters} clusters of answerable ones" in sentence
    assert sentence.endswith("smallest token F1 gain it could have seen: 25.0 points).")


def test_a_baseline_that_was_not_run_is_named() -> None:
    partial = metrics("cannot tell")
    del partial["gain"]["handwritten"]["over_extractive"]
    assert "not compared with best sentence (see eval.cells)" in verdict_sentence("x_lora", partial)


def test_one_model_on_one_file() -> None:
    text = dataset_text("x", "val_sft.jsonl", 7, {"clusters": 3, **VALUES})
    assert text.splitlines()[0] == "x on val_sft.jsonl: 7 questions in 3 clusters"
    assert "  exact match            100.0 %  (25.0 to 100.0)" in text
