"""Whether RLHF helped: base, fine-tuned, fine-tuned for longer and policy on the same test questions."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mark.answering.engine import Engine
from mark.answering.merging import for_inference
from mark.config import Eval, Retrieval, Rlhf
from mark.errors import DataError
from mark.evaluation.calibration import calibrate
from mark.evaluation.cells import CELLS, Answer, from_generation, predict, request_for
from mark.evaluation.inputs import Asked, EvalInputs, gather
from mark.evaluation.questions import Question, stratified
from mark.evaluation.retrieval import put
from mark.evaluation.significance import Bootstrap, Floats, Gain, choose_clusters
from mark.evaluation.summary import cell_metrics, quotes_gold, rounded
from mark.files import (
    METRICS,
    PLOTS,
    REPORTS,
    read_json,
    read_jsonl,
    whole_folder,
    write_json,
    write_jsonl,
    write_text,
)
from mark.models.loading import load_entry, preferred_dtype
from mark.records import Prediction
from mark.rlhf.entry import RlhfEntry
from mark.rlhf.gate import Decision, Evidence, decide
from mark.rlhf.inputs import CONTROL, POLICY, RlhfInputs
from mark.rlhf.policy import divergence
from mark.rlhf.preferences import PreferenceLedger
from mark.rlhf.reward import judged
from mark.rlhf.sampling import Sampler, tasks_of
from mark.rlhf.table import report_text
from mark.rlhf.validation import VAL_KL, VAL_REWARD
from mark.seeding import derived_seed

ARMS = {"base": "base_retrieval", "sft": "tuned_retrieval"}  # answered by eval already
NEW = ("sft_continued", "rlhf")
OUTSIDE = "rouge_l"
GAINS = ("reward", "token_f1", OUTSIDE)
_CELL = CELLS["tuned_retrieval"]
Tree = dict[str, Any]


@dataclass(frozen=True)
class ReportInputs:
    """What the report reads."""

    eval: EvalInputs
    rlhf: RlhfInputs
    policy: Path  # models/rl_trained_lora
    control: Path  # models/sft_continued_lora
    predictions: Path  # of eval, for the arms that it answered

    @classmethod
    def of_project(cls, rlhf: RlhfInputs, seed: int, root: Path = Path()) -> ReportInputs:
        """The project's own files below `root`."""
        entry = rlhf.sft.name
        return cls(
            eval=EvalInputs.of_project(entry, seed, root),
            rlhf=rlhf,
            policy=root / "models" / POLICY,
            control=root / "models" / CONTROL,
            predictions=root / REPORTS / "eval" / entry / "predictions.jsonl",
        )


@dataclass(frozen=True)
class Report:
    """Metrics, predictions and the rows of two plots."""

    metrics: Tree
    predictions: list[Prediction]
    frontier: list[dict[str, Any]]  # reward against divergence, a row a checkpoint and arm
    arms: list[dict[str, Any]]


def make_report(inputs: ReportInputs, settings: Rlhf, evaluation: Eval, retrieval: Retrieval) -> Report:
    """Compare the arms.

    Each arm answers from the same retrieved passages; its refusal rule is fitted on the validation questions
    by the same procedure. Base and fine-tuned answers are those of eval.

    Raises:
        DataError: A file is missing, or eval answered other questions.
        ModelError: An entry cannot be loaded.
    """
    policy, control = (_entry(folder) for folder in (inputs.policy, inputs.control))
    asked = gather(inputs.eval, evaluation, retrieval)
    rows = _answered(inputs.predictions, asked.test)
    for arm, folder in zip(NEW, (inputs.control, inputs.policy), strict=True):
        answers = _answer(folder, asked, evaluation, retrieval.top_k, policy.max_seq_length)
        rule = calibrate(asked.validation, answers)
        rows[arm] = [predict(q, arm, answers[q.id], rule, asked.chunks) for q in asked.test]
    kl = {"base": _base_kl(inputs, settings, policy.max_seq_length), "sft": 0.0}
    kl |= {"sft_continued": control.val_kl, "rlhf": policy.val_kl}
    metrics = summarise(rows, asked, settings, evaluation, inputs.eval.seed)
    for arm, value in kl.items():
        metrics["arms"][arm]["kl_to_sft"] = value
    ledger = PreferenceLedger.model_validate(read_json(inputs.policy / "ledger.json"))
    metrics |= _about(policy, control, ledger)
    decision = _decide(metrics, policy, settings, evaluation)
    metrics |= {**asdict(decision), "too_few_to_judge": policy.pairs < settings.min_pairs}
    metrics = rounded(metrics)
    predictions = [row for arm in rows.values() for row in arm]
    curves = read_json(inputs.policy / "curves.json")
    return Report(metrics, predictions, frontier_rows(curves), arm_rows(metrics["arms"]))


def summarise(
    rows: Mapping[str, Sequence[Prediction]], asked: Asked, settings: Rlhf, evaluation: Eval, seed: int
) -> Tree:
    """Metrics of each arm and paired gains of the policy.

    Args:
        rows: By arm, in the order of the test questions.
        asked: The questions.
        settings: Section `rlhf`; the reward's weights.
        evaluation: Section `eval`; how intervals are made.
        seed: Of the run.
    """
    test = asked.test
    clusters = choose_clusters(
        [q.document for q in test], [q.section for q in test], [q.id for q in test], evaluation.min_clusters
    )
    how = Bootstrap(evaluation.bootstrap_samples, evaluation.confidence, derived_seed(seed, "bootstrap"))
    values = {arm: _values(found, settings) for arm, found in rows.items()}
    arms: Tree = {}
    for arm, found in rows.items():
        gold = [quotes_gold(row, q, asked.chunks) for row, q in zip(found, test, strict=True)]
        arms[arm] = cell_metrics(found, gold, clusters, how)
        put(arms[arm], "reward", how.statistic(_sums(values[arm]["reward"]), clusters, _mean, (-1.0, 1.0)))
        words = [len(row.prediction.split()) for row in found if not row.refused]
        arms[arm]["answer_words"] = sum(words) / max(len(words), 1)
        arms[arm]["refused"] = sum(row.refused for row in found) / max(len(found), 1)
    gains = {
        f"over_{other}": {
            name: asdict(how.gain(values["rlhf"][name], values[other][name], clusters)) for name in GAINS
        }
        for other in ("sft", "sft_continued", "base")
    }
    answerable = {c for c, q in zip(clusters, test, strict=True) if q.kind == "answerable"}
    return {"arms": arms, "gain": gains, "questions": len(test), "clusters": len(answerable)}


def _values(rows: Sequence[Prediction], settings: Rlhf) -> dict[str, Floats]:
    weights = settings.reward
    rewards = [
        judged(r.prediction, r.answers, r.refused, r.quote is not None, weights).total(weights) for r in rows
    ]
    return {
        "reward": np.array(rewards, dtype=np.float64),
        "token_f1": np.array([row.token_f1 for row in rows]),
        OUTSIDE: np.array([row.rouge_l for row in rows]),
    }


def _sums(values: Floats) -> Floats:
    return np.stack([values, np.ones_like(values)], axis=1)


def _mean(sums: Floats) -> Floats:
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros_like(sums[..., 0]), where=sums[..., 1] > 0)


def _entry(folder: Path) -> RlhfEntry:
    try:
        return RlhfEntry.model_validate(read_json(folder / "entry.json"))
    except ValueError as fault:
        raise DataError(f"{folder}/entry.json: {str(fault).splitlines()[0]}; run `dvc repro rlhf`") from None


def _answered(path: Path, test: Sequence[Question]) -> dict[str, list[Prediction]]:
    """The arms that eval answered, in the order of the test questions."""
    found = read_jsonl(path, Prediction)
    rows: dict[str, list[Prediction]] = {}
    for arm, cell in ARMS.items():
        by_id = {row.example_id: row for row in found if row.cell == cell}
        if sorted(by_id) != sorted(q.id for q in test):
            raise DataError(
                f"{path} holds {len(by_id)} answers of {cell} to other than the {len(test)} test questions; "
                f"put {cell} into eval.cells and run `dvc repro eval`"
            )
        rows[arm] = [by_id[q.id].model_copy(update={"cell": arm}) for q in test]
    return rows


def _answer(entry: Path, asked: Asked, settings: Eval, top_k: int, max_seq_length: int) -> dict[str, Answer]:
    """An entry's answers to validation and test questions, by question id."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, tokenizer = load_entry(entry, torch.float32, device)
    engine = Engine(
        for_inference(model, preferred_dtype(device)),
        tokenizer,
        max_seq_length,
        settings.max_new_tokens,
        settings.batch_size,
    )
    questions = [*asked.test, *asked.validation]
    requests = [request_for(q, _CELL, asked.chunks, top_k) for q in questions]
    written = engine.generate(requests, entry.name)
    del model, engine
    gc.collect()
    return {
        q.id: from_generation(q, request, generation)
        for q, request, generation in zip(questions, requests, written, strict=True)
    }


def _base_kl(inputs: ReportInputs, settings: Rlhf, max_seq_length: int) -> float:
    """KL(base || fine-tuned) on the base model's own samples, on the arms' questions."""
    model, tokenizer = load_entry(inputs.eval.entry, torch.float32)
    limit = settings.sampling.max_new_tokens
    rows = stratified(inputs.rlhf.validation(), settings.val_questions, lambda row: row.kind)
    tasks = tasks_of(rows, inputs.rlhf.passages(), tokenizer, max_seq_length - limit)
    probes = stratified(tasks, settings.kl_questions, lambda task: task.kind)
    seed = derived_seed(inputs.eval.seed, "divergence")

    @contextmanager
    def tuned() -> Iterator[None]:
        model.base_model.enable_adapter_layers()
        yield
        model.base_model.disable_adapter_layers()

    with model.disable_adapter():
        sampler = Sampler(1.0, limit, settings.sampling.batch_size, seed)
        return divergence(model, tokenizer, [task.prompt_ids for task in probes], sampler, tuned)


def _about(policy: RlhfEntry, control: RlhfEntry, ledger: PreferenceLedger) -> Tree:
    return {
        "method": policy.method,
        "pairs": policy.pairs,
        "steps": policy.steps,
        "best_step": policy.best_step,
        "control_best_step": control.best_step,
        "val_reward": {
            "sft": policy.sft_val_reward,
            "sft_continued": control.val_reward,
            "rlhf": policy.val_reward,
        },
        "ledger": ledger.model_dump(exclude={"schema_version"}),
    }


def _decide(metrics: Tree, policy: RlhfEntry, settings: Rlhf, evaluation: Eval) -> Decision:
    gain = metrics["gain"]
    return decide(
        Evidence(
            pairs=policy.pairs,
            min_pairs=settings.min_pairs,
            clusters=metrics["clusters"],
            min_clusters=evaluation.min_clusters,
            val_rise=policy.val_reward - policy.sft_val_reward,
            f1_over_sft=Gain(**gain["over_sft"]["token_f1"]),
            f1_over_continued=Gain(**gain["over_sft_continued"]["token_f1"]),
            outside=Gain(**gain["over_sft"][OUTSIDE]),
            outside_name="ROUGE-L",
        )
    )


def frontier_rows(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the plot of validation reward against divergence.

    Args:
        curves: Of the policy's curves.json.
    """
    points: dict[tuple[str, int], dict[str, float]] = {}
    for row in curves:
        if row["metric"] in (VAL_REWARD, VAL_KL):
            points.setdefault((row["arm"], row["step"]), {})[row["metric"]] = row["value"]
    return [
        {"arm": arm, "step": step, "kl": point[VAL_KL], "reward": point[VAL_REWARD]}
        for (arm, step), point in sorted(points.items())
    ]


def arm_rows(arms: Tree) -> list[dict[str, Any]]:
    """Rows of the plot of the arms: arm, metric, value, low, high."""
    names = ("reward", "exact_match", "token_f1", "rouge_l", "refusal_recall", "false_refusals")
    return [
        {"arm": arm, "metric": n, "value": values[n], "low": values[f"{n}_low"], "high": values[f"{n}_high"]}
        for arm, values in arms.items()
        for n in names
        if n in values
    ]


def write_report(report: Report, root: Path = Path()) -> None:
    """Write metrics/rlhf.json, reports/rlhf/, plots/rlhf_reward_kl.json and plots/rlhf_arms.json."""
    with whole_folder(root / REPORTS / "rlhf") as folder:
        write_jsonl(folder / "predictions.jsonl", report.predictions)
        write_text(folder / "table.txt", report_text(report.metrics) + "\n")
    write_json(root / METRICS / "rlhf.json", {"rlhf": report.metrics})
    write_json(root / PLOTS / "rlhf_reward_kl.json", report.frontier)
    write_json(root / PLOTS / "rlhf_arms.json", report.arms)
