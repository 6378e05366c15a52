"""bfloat16 answers only where its answers are those of float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mark.answering.engine import Generation
from mark.answering.refusal import PLAIN, Calibration
from mark.errors import DataError
from mark.evaluation.calibration import Calibrations, PrecisionCheck
from mark.evaluation.engines import CALIBRATION, control_engine, engine_of
from mark.evaluation.precision import answering_dtype, compared, dtype_of_model
from mark.files import CHAMPION_COPY, REPORTS, write_json

LOW = torch.bfloat16


def said(text: str, refuses: float = 0.1, nats: float = -0.5) -> Generation:
    return Generation(text, text, nats, refuses, ())


def calibrated(folder: Path, check: PrecisionCheck | None) -> Path:
    answers_in = None if check is None else "bfloat16" if check.agrees else "float32"
    found = Calibrations(
        entry="e", base="b", question_ids=[], thresholds={}, precision_check=check, answers_in=answers_in
    )
    write_json(folder / CALIBRATION, found.model_dump(mode="json"))
    return folder / CALIBRATION


def test_answers_are_compared_by_their_words(caplog: pytest.LogCaptureFixture) -> None:
    full = [said("within 72 hours"), said("the Commission"), said("")]
    caplog.set_level("INFO")
    same = compared(full, full)
    assert (same.questions, same.same_text, same.token_f1, same.refusal_difference) == (3, 3, 1.0, 0.0)
    assert same.agrees and "3 of 3 answers are the same text" in caplog.text
    near = compared(full, [said("within 24 hours", nats=-0.9), said("the Commission", nats=-0.54), said("")])
    assert (near.same_text, near.logprob_difference) == (2, 0.02)
    assert 0.85 < near.token_f1 < 0.9 and near.agrees


@pytest.mark.parametrize(
    "other",
    [said("nobody knows"), said("within 72 hours", refuses=0.4), said("within 72 hours", nats=-0.7)],
    ids=["words", "refusal", "probability"],
)
def test_answers_that_are_apart_are_written_in_float32(
    other: Generation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    full = [said("within 72 hours"), said("the Commission")]
    assert not compared(full, [other, full[1]]).agrees
    assert "are written in float32" in caplog.text


def test_what_eval_found_decides_wherever_the_entry_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mark.evaluation.precision.preferred_dtype", lambda device: LOW)
    full = [said("one"), said("two")]
    assert answering_dtype(tmp_path / CALIBRATION, "cpu") == LOW  # never evaluated
    assert answering_dtype(calibrated(tmp_path, None), "cpu") == LOW  # evaluated where there was no choice
    assert answering_dtype(calibrated(tmp_path, compared(full, full)), "cpu") == LOW
    assert engine_of(tmp_path) == control_engine(tmp_path) == "local in bfloat16"
    path = calibrated(tmp_path, compared(full, full[::-1]))
    assert answering_dtype(path, "cpu") == torch.float32
    assert engine_of(tmp_path) == control_engine(tmp_path) == "local in float32"  # told where it is compared
    path.write_text("{")
    with pytest.raises(DataError):
        answering_dtype(path, "cpu")
    monkeypatch.setattr("mark.evaluation.precision.preferred_dtype", lambda device: torch.float32)
    path = calibrated(tmp_path, compared(full, full))
    assert answering_dtype(path, "cpu") == torch.float32  # bfloat16 is not emulated


def test_a_base_model_and_the_champion_answer_as_they_were_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mark.evaluation.precision.preferred_dtype", lambda device: LOW)
    rule = Calibration(
        threshold=0.5, fitted=False, model=PLAIN, mean_f1=0.0, answerable=1, unanswerable=1, curve=[]
    )
    found = Calibrations(entry="e", base="b", question_ids=[], thresholds={"base": rule, "tuned": rule})
    for answers_in, dtype in (("float32", torch.float32), ("bfloat16", LOW), (None, LOW)):
        kept = found.model_copy(update={"answers_in": answers_in}).model_dump(mode="json")
        for folder in (tmp_path / REPORTS / "eval/e", tmp_path / CHAMPION_COPY):
            write_json(folder / CALIBRATION, kept)
        assert {dtype_of_model(name, tmp_path, "cpu") for name in ("e", "b", "champion")} == {dtype}
        assert dtype_of_model("another", tmp_path, "cpu") == LOW
