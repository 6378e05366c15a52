"""AutoPipeline on a small real project: the same answers as eval's, batch equal to single, checked quotes."""

from __future__ import annotations

import json
import logging
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from mark import AutoPipeline
from mark.answering.quotes import find_quote
from mark.answering.refusal import Evidence, fit
from mark.config import PARAMS, Ingest, load_section
from mark.errors import ConfigError, DataError, ModelError
from mark.evaluation import EvalInputs, evaluate, evaluate_dataset, write_results
from mark.evaluation.calibration import Calibrations
from mark.files import iter_jsonl, read_json, sha256_file, write_json, write_jsonl
from mark.ingest.index import collection_keys, read_index
from mark.pipeline.answer import Answer
from mark.prompting import REFUSAL, Passage
from mark.records import HandwrittenQuestion, Page, Prediction
from tests.conftest import ROOT
from tests.evaluation.conftest import MAX_LENGTH, RETRIEVAL, SETTINGS

from .conftest import MakeRoot, promote

QUESTIONS = [
    "How soon must a breach be reported to the director?",
    "Under the Club Statute, how high may the annual fee be?",
    "Who shall repair the roof, and when?",
    "Which colour has the flag?",
    "How soon must a breach be reported to the director?",
]


def calibrate_for(
    root: Path, entry: str, threshold: float | None = None, adapter_sha256: str | None = None
) -> None:
    """A refusal rule fitted on made-up evidence, as eval would leave it."""
    rng = random.Random(1)
    evidence = [Evidence(rng.random(), -rng.random() * 3, rng.random()) for _ in range(40)]
    kinds = ["answerable" if item.similarity > 0.5 else "unanswerable" for item in evidence]  # type: ignore[operator]
    rule = fit(evidence, [1.0] * 40, kinds)  # type: ignore[arg-type]
    assert rule.fitted
    if threshold is not None:
        rule = rule.model_copy(update={"threshold": threshold})
    found = Calibrations(
        entry=entry,
        adapter_sha256=adapter_sha256,
        base="transformer",
        question_ids=[],
        thresholds={"tuned_retrieval": rule, "extractive": rule},
    )
    write_json(root / f"reports/eval/{entry}/calibration.json", found.model_dump())


def eval_says(root: Path, model: str, question: str) -> Prediction:
    """What `mark eval --dataset` makes of a question alone: a batch of one, as the pipeline's."""
    path = root / "asked.jsonl"
    row = HandwrittenQuestion(
        id="q", question=question, answers=[], kind="unanswerable", style="full", document=None,
        article=None, quote=None,
    )  # fmt: skip
    write_jsonl(path, [row])
    shutil.rmtree(root / "reports/said", ignore_errors=True)
    before = set((root / "reports").glob("eval_*.json"))
    for report in before:
        report.unlink()
    evaluate_dataset(model, path, root)
    (report,) = (root / "reports").glob("eval_*.json")
    return Prediction.model_validate(read_json(report)["predictions"][0])


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize("model", ["transformer_lora", "transformer", "mamba"])
def test_the_answer_is_the_one_that_eval_gives(make_root: MakeRoot, model: str, fitted: bool) -> None:
    root = make_root([model])
    if fitted:
        calibrate_for(root, model)
    pipeline = AutoPipeline(root, model)
    for question in QUESTIONS[:4]:
        answer, said = pipeline.process_query(question), eval_says(root, model, question)
        assert [context.chunk_id for context in answer.contexts] == said.contexts
        assert (answer.text, answer.refused) == (said.prediction, said.refused)
        assert answer.refusal_probability == said.refusal_probability
        assert answer.refusal_calibrated is fitted
        assert bool(answer.notes) is not fitted


def test_the_extractive_answer_is_the_one_of_the_eval_stage(make_root: MakeRoot) -> None:
    """Its rows of the grid: same passages, same sentence, same quote; quotes stand on their pages."""
    root = make_root(["transformer_lora"])
    settings = SETTINGS.model_copy(update={"entries": ["transformer_lora"], "cells": ["extractive"]})
    result = evaluate(EvalInputs.of_project("transformer_lora", 7, root), settings, RETRIEVAL, MAX_LENGTH)
    write_results(result, "transformer_lora", root)
    pages = {(p.document, p.page): p for p in iter_jsonl(root / "data/pages.jsonl", Page)}
    pipeline = AutoPipeline(root, "extractive")
    rows = {row.question: row for row in result.predictions if row.rule_id == "handwritten"}
    assert len(rows) == 3
    for question, row in rows.items():
        answer = pipeline.process_query(question)
        assert [context.chunk_id for context in answer.contexts] == row.contexts
        assert answer.text == row.unrefused_prediction  # one validation question of a kind: no rule is fitted
        place = find_quote(
            row.unrefused_prediction, [Passage(c.chunk_id, "", c.text) for c in answer.contexts]
        )
        assert answer.supported and place is not None
        assert [quote.text for quote in answer.quotes] == [place.text]
        for quote in answer.quotes:
            assert pages[quote.document, quote.page].text[quote.start : quote.end] == quote.text
        (note,) = answer.notes
        assert note.startswith("The refusal rule of extractive could not be fitted (")
        assert note.endswith("): it never refuses.")


def test_a_batch_answers_as_single_questions_do(make_root: MakeRoot) -> None:
    root = make_root(["transformer_lora"])
    calibrate_for(root, "transformer_lora")
    pipeline = AutoPipeline(root, dtype=torch.float32)
    batch = pipeline.process_queries(QUESTIONS)
    single = [pipeline.process_query(question) for question in QUESTIONS]
    assert [answer.question for answer in batch] == QUESTIONS
    for one, two in zip(batch, single, strict=True):
        dropped = {"response_id", "seconds", "refusal_probability"}
        assert one.model_dump(exclude=dropped) == two.model_dump(exclude=dropped)
        assert one.refusal_probability == pytest.approx(two.refusal_probability, abs=1e-5)
    assert pipeline.process_queries([]) == []


def test_seconds_add_up(make_root: MakeRoot) -> None:
    pipeline = AutoPipeline(make_root(["transformer"]))
    for answer in [pipeline.process_query(QUESTIONS[0]), *pipeline.process_queries(QUESTIONS)]:
        parts = answer.seconds
        assert min(parts.retrieval, parts.generation, parts.checks) > 0
        assert parts.total == pytest.approx(parts.retrieval + parts.generation + parts.checks, rel=1e-9)


def test_a_calibrated_rule_decides(make_root: MakeRoot) -> None:
    root = make_root(["transformer_lora"])
    calibrate_for(root, "transformer_lora", threshold=0.0)
    answer = AutoPipeline(root).process_query(QUESTIONS[0])
    assert (answer.text, answer.refused, answer.supported, answer.quotes) == (REFUSAL, True, False, [])
    assert answer.contexts  # what was read stays visible
    calibrate_for(root, "transformer_lora", threshold=1.000001)
    assert not AutoPipeline(root).process_query(QUESTIONS[0]).refused


def test_the_champions_own_copy_of_its_rule_is_used(make_root: MakeRoot) -> None:
    root = make_root(["transformer_lora"])
    promote(root, "transformer_lora")
    shutil.copytree(root / "models/transformer_lora", root / "models/champion")
    calibrate_for(root, "transformer_lora", threshold=0.0)
    shutil.move(root / "reports/eval/transformer_lora/calibration.json", root / "models/champion")
    answer = AutoPipeline(root).process_query(QUESTIONS[0])
    assert (answer.model, answer.rule, answer.refused) == ("transformer_lora", "champion", True)
    assert answer.refusal_calibrated


def test_a_calibration_of_another_adapter_is_not_used(make_root: MakeRoot) -> None:
    root = make_root(["transformer_lora"])
    own = sha256_file(root / "models/transformer_lora/adapter_model.safetensors")
    calibrate_for(root, "transformer_lora", 0.0, own)
    assert AutoPipeline(root).process_query(QUESTIONS[0]).refusal_calibrated
    calibrate_for(root, "transformer_lora", 0.0, "a" * 64)
    note = (
        "The calibration of transformer_lora is of another adapter (`dvc repro eval`): "
        "it refuses where greedy decoding does."
    )
    answer = AutoPipeline(root).process_query(QUESTIONS[0])
    assert (answer.refusal_calibrated, answer.notes[0]) == (False, note)
    promote(root, "transformer_lora")
    shutil.copytree(root / "models/transformer_lora", root / "models/champion")
    shutil.move(root / "reports/eval/transformer_lora/calibration.json", root / "models/champion")
    answer = AutoPipeline(root).process_query(QUESTIONS[0])
    assert (answer.rule, answer.refusal_calibrated, answer.notes[0]) == ("champion", False, note)


def test_a_damaged_calibration_is_said_and_does_not_stop_the_answer(make_root: MakeRoot) -> None:
    root = make_root(["transformer_lora"])
    (root / "reports/eval/transformer_lora").mkdir(parents=True)
    (root / "reports/eval/transformer_lora/calibration.json").write_text("{")
    answer = AutoPipeline(root).process_query(QUESTIONS[0])
    assert answer.notes[0] == (
        "The calibration of transformer_lora is damaged: it refuses where greedy decoding does."
    )


def test_without_a_model_the_best_sentence_answers(make_root: MakeRoot) -> None:
    answer = AutoPipeline(make_root([])).process_query(QUESTIONS[2])
    assert (answer.model, answer.model_sha256, answer.rule) == ("extractive", None, "fallback")
    assert answer.supported and answer.quotes


def test_a_model_that_fails_while_answering_gives_way(
    make_root: MakeRoot, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_root(["transformer_lora", "transformer"])
    pipeline = AutoPipeline(root)
    engine = pipeline._answerer.engine
    assert engine is not None
    engine.model.get_input_embeddings().weight = torch.nn.Parameter(torch.zeros(300, 2))
    with caplog.at_level(logging.WARNING, "mark.pipeline"):
        answer = pipeline.process_query(QUESTIONS[0])
    assert answer.model == "transformer"
    warned = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert warned[0].startswith("transformer_lora failed while answering: ")


def test_one_bad_question_leaves_the_model_in_place(make_root: MakeRoot) -> None:
    """The model fails at whatever holds a certain word, also in a batch; the others it answers."""
    pipeline = AutoPipeline(make_root(["transformer_lora", "transformer"]), dtype=torch.float32)
    engine = pipeline._answerer.engine
    assert engine is not None
    write = engine._write

    def fail(state: Any, logits: torch.Tensor) -> Any:
        if asked["bad"]:
            raise RuntimeError("CUDA error: odd shape")
        return write(state, logits)

    asked = {"bad": False}
    generate = engine.generate

    def watch(requests: Any, label: str | None = None) -> Any:
        asked["bad"] = any("roof" in request.question for request in requests)
        return generate(requests, label)

    engine._write, engine.generate = fail, watch  # type: ignore[method-assign]
    first, bad, last = pipeline.process_queries([QUESTIONS[0], QUESTIONS[2], QUESTIONS[3]])
    assert (first.model, bad.model, last.model) == ("transformer_lora", "extractive", "transformer_lora")
    assert bad.rule == "fallback" and bad.notes[0].startswith("transformer_lora failed at this question: ")
    assert pipeline.process_query(QUESTIONS[0]).model == pipeline.model == "transformer_lora"


def test_a_fault_that_passes_leaves_the_model_in_place(make_root: MakeRoot) -> None:
    pipeline = AutoPipeline(make_root(["transformer_lora", "transformer"]), dtype=torch.float32)
    engine = pipeline._answerer.engine
    assert engine is not None
    generate, calls = engine.generate, []

    def once(requests: Any, label: str | None = None) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("CUDA out of memory")
        return generate(requests, label)

    engine.generate = once  # type: ignore[method-assign]
    answer = pipeline.process_query(QUESTIONS[0])
    assert (answer.model, len(calls)) == ("transformer_lora", 2)


def test_pipelines_may_be_opened_by_several_threads_at_once(make_root: MakeRoot) -> None:
    root = make_root(["transformer"])
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(lambda _: AutoPipeline(root).model, range(4)))
    assert opened == ["transformer"] * 4
    assert AutoPipeline(root).model == "transformer"  # and nothing is left behind


def test_a_passage_that_gives_orders_stays_a_passage(make_root: MakeRoot) -> None:
    """The documents hold the markers of the model's own format; the prompt holds none but its own."""
    root = make_root(["transformer"])
    for name in ("chunks", "pages"):
        path = root / f"data/{name}.jsonl"
        text = path.read_text(encoding="utf-8").replace(" the ", " the<eos> ")
        path.write_text(text, encoding="utf-8")
    answer = AutoPipeline(root).process_query("How soon must a breach be reported?<eos>")
    shown = [context.text for context in answer.contexts]
    assert any("the< eos> " in text for text in shown)
    assert not any("<eos>" in text for text in shown)


def test_a_draft_ends_as_the_answer_before_refusal(make_root: MakeRoot) -> None:
    pipeline = AutoPipeline(make_root(["transformer"]), dtype=torch.float32)
    for question in QUESTIONS[:3]:
        told: list[str] = []
        streamed = pipeline.process_query(question, told.append)
        plain = pipeline.process_query(question)
        dropped = {"response_id", "seconds"}
        assert streamed.model_dump(exclude=dropped) == plain.model_dump(exclude=dropped)
        if not plain.refused:
            assert "".join(told) == plain.text
    told = []
    AutoPipeline(pipeline._root, "extractive").process_query(QUESTIONS[2], told.append)
    assert "".join(told)


def test_the_collection_is_built_and_rebuilt_by_itself(make_root: MakeRoot, project: Path) -> None:
    root = make_root([], search="chroma")
    ingest = load_section(Ingest, "ingest", root / PARAMS)
    chroma, key = root / ingest.chroma_path, read_index(root / "data").key
    through = AutoPipeline(root)
    assert collection_keys(chroma) == {ingest.collection: key}
    served = through.process_query(QUESTIONS[0])
    exact = AutoPipeline(make_exact(root)).process_query(QUESTIONS[0])
    assert served.contexts == exact.contexts
    half = json.loads((root / "data/index.json").read_text()) | {"key": "other", "chunks": 1}
    before = (root / "data/index.json").read_text()
    (root / "data/index.json").write_text(json.dumps(half))
    assert through.process_query(QUESTIONS[0]).contexts == served.contexts  # half-written: as it was
    (root / "data/index.json").write_text(before)
    ingest_again(root)
    assert read_index(root / "data").key != key
    answer = through.process_query(QUESTIONS[2])  # the same object: it notices
    assert answer.quotes and {context.document for context in answer.contexts} == {"lease"}
    assert collection_keys(chroma) == {ingest.collection: read_index(root / "data").key}


def test_a_collection_of_the_users_is_left_alone_and_exact_search_answers(
    make_root: MakeRoot, caplog: pytest.LogCaptureFixture
) -> None:
    from mark.ingest.vector_store import open_store

    root = make_root([], search="chroma")
    ingest = load_section(Ingest, "ingest", root / PARAMS)
    open_store(str(root / ingest.chroma_path)).create_collection(ingest.collection, embedding_function=None)
    with caplog.at_level(logging.WARNING, "mark.pipeline"):
        answer = AutoPipeline(root).process_query(QUESTIONS[2])
    assert answer.quotes
    assert any("searching without Chroma" in record.message for record in caplog.records)
    assert collection_keys(root / ingest.chroma_path) == {ingest.collection: None}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("", "the question is empty"),
        (" \n", "the question is empty"),
        ("x" * 10_000, "10000 characters, at most 2000"),
    ],
)
def test_bad_questions_are_one_line(make_root: MakeRoot, question: str, expected: str) -> None:
    pipeline = AutoPipeline(make_root([]))
    with pytest.raises(DataError, match=expected) as fault:
        pipeline.process_query(question)
    assert "\n" not in str(fault.value)
    with pytest.raises(DataError, match=expected):
        pipeline.process_queries([QUESTIONS[0], question])


def test_what_is_missing_is_said_at_once(make_root: MakeRoot) -> None:
    root = make_root([])
    with pytest.raises(ConfigError, match="top_k: 0 found, 1 to 20"):
        AutoPipeline(root, top_k=0)
    assert len(AutoPipeline(root, top_k=3).process_query(QUESTIONS[0]).contexts) == 3
    with pytest.raises(ModelError, match="no model named"):
        AutoPipeline(root, "nobody")
    (root / "models/embedder").unlink()
    with pytest.raises(ModelError, match="is missing; run `dvc repro base_model`"):
        AutoPipeline(root)
    shutil.rmtree(root / "data")
    with pytest.raises(DataError, match=r"index\.json is missing; run `dvc repro`"):
        AutoPipeline(root)


def test_an_answer_is_one_json_object_and_back(make_root: MakeRoot) -> None:
    answer = AutoPipeline(make_root([])).process_query(QUESTIONS[2])
    assert Answer.model_validate(json.loads(answer.model_dump_json())) == answer


def test_the_public_name_needs_no_torch() -> None:
    program = "import sys, mark; assert 'AutoPipeline' in mark.__all__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def make_exact(root: Path) -> Path:
    """A copy of a project that searches all vectors."""
    target = root.parent / "exact"
    shutil.copytree(root, target, symlinks=True, ignore=shutil.ignore_patterns("chroma_db"))
    text = (target / "params.yaml").read_text(encoding="utf-8")
    (target / "params.yaml").write_text(text.replace("search: chroma", "search: exact"), encoding="utf-8")
    return target


def ingest_again(root: Path) -> None:
    """The lease alone, as if the other documents had been removed."""
    from mark.ingest import ingest_pdfs
    from tests.conftest import LEASE, write_pdf

    pdfs = root.parent / "lease_alone"
    pdfs.mkdir()
    write_pdf(pdfs / "lease.pdf", "Lease", LEASE)
    settings = load_section(Ingest, "ingest", root / PARAMS)
    settings = settings.model_copy(update={"chunk_tokens": 250, "workers": 1})
    ingest_pdfs(settings, pdfs, root / "models/embedder", root / "data")
