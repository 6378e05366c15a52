"""The metric outside the reward by hand, and the verdict on hand-written questions alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mark.config import Eval, load_section
from mark.evaluation.inputs import Asked
from mark.evaluation.questions import HANDWRITTEN, Question
from mark.prompting import REFUSAL
from mark.records import Prediction
from mark.rlhf.comparison import similarities, summarise
from tests.conftest import ROOT
from tests.rlhf.small import rlhf_settings

VECTORS = {"cat": (1.0, 0.0), "dog": (0.6, 0.8), "rock": (-1.0, 0.0), "cats": (0.8, 0.6)}
EVAL = load_section(Eval, "eval", ROOT / "params.yaml").model_copy(
    update={"bootstrap_samples": 200, "min_clusters": 4}
)


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.array([VECTORS[text] for text in texts], dtype=np.float32).reshape(len(texts), 2)


def answer(number: int, text: str, golds: Sequence[str] = ("cat",), **changes: Any) -> Prediction:
    refused = text == REFUSAL
    values: dict[str, Any] = {
        "example_id": f"q{number}", "cell": "arm", "question": f"{number}?", "style": "short",
        "kind": "answerable" if golds else "unanswerable", "rule_id": "amount", "document": f"d{number}",
        "section": "1", "contexts": [], "answers": list(golds), "prediction": text, "raw_prediction": text,
        "unrefused_prediction": text, "refused": refused, "refusal_probability": 0.0, "quote": None,
        "quote_chunk": None, "exact_match": 0.0, "token_f1": float(text in golds), "rouge_l": 0.0, "bleu": 0.0,
        "f1_if_answered": 0.0, "source_in_contexts": None,
    }  # fmt: skip
    return Prediction.model_validate(values | changes)


@pytest.mark.parametrize(
    ("text", "golds", "wanted"),
    [
        ("cat", ["cat"], 1.0),
        ("dog", ["cat"], 0.6),
        ("dog", ["cat", "cats"], 0.96),  # the nearest counts: 0.6 * 0.8 + 0.8 * 0.6
        ("rock", ["cat"], 0.0),  # never below 0
        (" ", ["cat"], 0.0),
        (REFUSAL, ["cat"], 0.0),  # a false refusal
        (REFUSAL, [], 1.0),
        (REFUSAL, [REFUSAL], 1.0),
        ("cat", [], 0.0),  # an answer where there is none
    ],
)
def test_similarity(text: str, golds: list[str], wanted: float) -> None:
    found = similarities({"a": [answer(1, text, golds)]}, encode)
    assert found["a"].tolist() == [pytest.approx(wanted, abs=1e-6)]


def test_the_verdict_is_on_what_people_wrote() -> None:
    """The policy is right where a rule asked and wrong where a person did."""
    people = range(6)
    rows = {
        arm: [answer(i, text[i not in people], rule_id=HANDWRITTEN if i in people else "amount") for i in range(12)]
        for arm, text in {
            "base": ("rock", "rock"), "sft": ("cat", "dog"), "sft_continued": ("cat", "dog"), "rlhf": ("dog", "cat"),
        }.items()
    }  # fmt: skip
    test = [
        Question(
            r.example_id, r.question, tuple(r.answers), r.kind, r.style, r.rule_id, r.document, "1", (), ()
        )
        for r in rows["sft"]
    ]
    asked = Asked(test, [], {}, {}, 0, {})
    found = summarise(rows, asked, rlhf_settings(), EVAL, 7, encode)
    assert found["verdict_on"] == "handwritten"
    f1 = {
        g: found[g]["gain"]["over_sft"]["token_f1"]["difference"] for g in ("all", "handwritten", "rule_made")
    }
    assert f1 == {"all": 0.0, "handwritten": -1.0, "rule_made": 1.0}
    alike = found["handwritten"]["gain"]["over_sft"]["similarity"]
    assert alike["difference"] == pytest.approx(-0.4)
    assert (found["handwritten"]["questions"], found["handwritten"]["clusters"]) == (6, 6)
    rule_made = Asked(test[6:], [], {}, {}, 0, {})
    found = summarise({arm: r[6:] for arm, r in rows.items()}, rule_made, rlhf_settings(), EVAL, 7, encode)
    assert found["verdict_on"] == "all" and "handwritten" not in found
