"""Whether RLHF helped: base, fine-tuned, fine-tuned for longer and policy on the same test questions."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mark.answering.merging import for_inference
from mark.config import Eval, Retrieval, Rlhf
from mark.errors import DataError
from mark.evaluation.asking import ask_entry
from mark.evaluation.engines import CALIBRATION, control_engine, engine_of, told_apart
from mark.evaluation.inputs import Asked, EvalInputs, gather
from mark.evaluation.questions import stratified
from mark.evaluation.significance import Gain
from mark.evaluation.summary import rounded
from mark.files import (
    ADAPTER,
    METRICS,
    PLOTS,
    REPORTS,
    read_json,
    sha256_file,
    whole_folder,
    write_json,
    write_jsonl,
    write_text,
)
from mark.models.embedder import Embedder
from mark.models.loading import load_base, load_entry
from mark.records import Prediction
from mark.rlhf.answered import BASE_CELL, TUNED_CELL, check_adapter, read_answers
from mark.rlhf.comparison import OUTSIDE, OUTSIDE_NAME, summarise
from mark.rlhf.entry import RlhfEntry
from mark.rlhf.gate import Decision, Evidence, decide
from mark.rlhf.inputs import CONTROL, POLICY, RlhfInputs
from mark.rlhf.plots import arm_rows, frontier_rows
from mark.rlhf.policy import divergence
from mark.rlhf.preferences import PreferenceLedger
from mark.rlhf.sampling import Sampler, tasks_of
from mark.rlhf.table import report_text
from mark.seeding import derived_seed

Tree = dict[str, Any]


@dataclass(frozen=True)
class ReportInputs:
    """What the report reads."""

    eval: EvalInputs  # of the fine-tuned entry
    rlhf: RlhfInputs
    policy: Path  # models/rl_trained_lora
    control: Path  # models/sft_continued_lora
    sft_answers: Path  # reports/eval/<fine-tuned entry>
    policy_answers: Path  # reports/eval/rl_trained_lora

    @classmethod
    def of_project(cls, rlhf: RlhfInputs, seed: int, root: Path = Path()) -> ReportInputs:
        """The project's own files below `root`."""
        entry = rlhf.sft.name
        return cls(
            eval=EvalInputs.of_project(entry, seed, root),
            rlhf=rlhf,
            policy=root / "models" / POLICY,
            control=root / "models" / CONTROL,
            sft_answers=root / REPORTS / "eval" / entry,
            policy_answers=root / REPORTS / "eval" / POLICY,
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
    by the same procedure. The answers of base, fine-tuned entry and policy are those of eval; only the
    control arm is asked here.

    Raises:
        DataError: A file is missing, or eval asked another adapter or other questions.
        ModelError: An entry cannot be loaded.
    """
    policy, control = (_entry(folder) for folder in (inputs.policy, inputs.control))
    check_adapter(inputs.sft_answers, inputs.rlhf.sft)
    check_adapter(inputs.policy_answers, inputs.policy)
    asked = gather(inputs.eval, evaluation, retrieval)
    rows = _answers(inputs, asked, evaluation, retrieval.top_k, policy.max_seq_length)
    embedder = Embedder(inputs.eval.embedder)
    metrics = summarise(
        rows,
        asked,
        settings,
        evaluation,
        inputs.eval.seed,
        lambda texts: embedder.encode(texts, truncate=True),
    )
    metrics["kl_to_sft"] = {"sft": 0.0, "sft_continued": control.val_kl, "rlhf": policy.val_kl}
    base_kl = _base_kl(inputs, settings, policy.max_seq_length)
    if base_kl is not None:
        metrics["kl_to_sft"]["base"] = base_kl
    ledger = PreferenceLedger.model_validate(read_json(inputs.policy / "ledger.json"))
    metrics |= _about(policy, control, ledger) | {"adapter_sha256": sha256_file(inputs.policy / ADAPTER)}
    evidence = _evidence(metrics, policy, settings, evaluation)
    decision: Decision = decide(evidence)
    metrics |= {**asdict(decision), "too_few_to_judge": evidence.too_few}
    if apart := engines_apart(inputs):
        metrics["reason"] += f"; {apart}"
    metrics = rounded(metrics)
    predictions = [row for arm in rows.values() for row in arm]
    curves = read_json(inputs.policy / "curves.json")
    shown = metrics[metrics["verdict_on"]]["arms"]
    return Report(metrics, predictions, frontier_rows(curves), arm_rows(shown))


def _answers(
    inputs: ReportInputs, asked: Asked, evaluation: Eval, top_k: int, max_seq_length: int
) -> dict[str, list[Prediction]]:
    """Each arm's answers, by arm; a control arm that is the fine-tuned model answers as that does."""
    test = asked.test
    rows = {
        "base": read_answers(inputs.sft_answers, BASE_CELL, "base", test),
        "sft": read_answers(inputs.sft_answers, TUNED_CELL, "sft", test),
    }
    if _is_sft(inputs):
        rows["sft_continued"] = [row.model_copy(update={"cell": "sft_continued"}) for row in rows["sft"]]
    else:
        rows["sft_continued"] = ask_entry(
            inputs.control, "sft_continued", asked, evaluation, top_k, max_seq_length,
            inputs.sft_answers / CALIBRATION,
        )  # fmt: skip
    rows["rlhf"] = read_answers(inputs.policy_answers, TUNED_CELL, "rlhf", test)
    return rows


def engines_apart(inputs: ReportInputs) -> str:
    """Says so where eval asked a server: the control arm is asked in this process whatever eval does."""
    engines = {"base and sft": engine_of(inputs.sft_answers), "rlhf": engine_of(inputs.policy_answers)}
    if not _is_sft(inputs):
        engines["sft_continued"] = control_engine(inputs.sft_answers)
    return told_apart(engines)


def _is_sft(inputs: ReportInputs) -> bool:
    """Whether the control arm is the fine-tuned model: there was nothing to go on with."""
    return sha256_file(inputs.control / ADAPTER) == sha256_file(inputs.rlhf.sft / ADAPTER)


def _entry(folder: Path) -> RlhfEntry:
    try:
        return RlhfEntry.model_validate(read_json(folder / "entry.json"))
    except ValueError as fault:
        raise DataError(f"{folder}/entry.json: {str(fault).splitlines()[0]}; run `dvc repro rlhf`") from None


def _base_kl(inputs: ReportInputs, settings: Rlhf, max_seq_length: int) -> float | None:
    """KL(base || fine-tuned) on the base model's own samples, on the arms' questions; None without one."""
    rows = stratified(inputs.rlhf.validation(), settings.val_questions, lambda row: row.kind)
    if not rows:
        return None
    entry, tokenizer = load_entry(inputs.eval.entry, torch.float32)
    tuned = for_inference(entry, torch.float32)
    base, _ = load_base(inputs.eval.base, torch.float32)
    limit = settings.sampling.max_new_tokens
    tasks = tasks_of(rows, inputs.rlhf.passages(), tokenizer, max_seq_length - limit)
    probes = stratified(tasks, settings.kl_questions, lambda task: task.kind)
    seed = derived_seed(inputs.eval.seed, "divergence")

    sampler = Sampler(1.0, limit, settings.sampling.batch_size, seed)
    prompts = [task.prompt_ids for task in probes]
    drawn = [answer for (answer,) in sampler.draw(base, tokenizer, prompts)]
    return divergence(base, lambda: nullcontext(tuned), prompts, drawn, int(tokenizer.eos_token_id))


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
        **({"reward_model": policy.reward_model.model_dump()} if policy.reward_model is not None else {}),
    }


def _evidence(metrics: Tree, policy: RlhfEntry, settings: Rlhf, evaluation: Eval) -> Evidence:
    judged = metrics[metrics["verdict_on"]]
    gain = judged["gain"]
    return Evidence(
        pairs=policy.pairs,
        min_pairs=settings.min_pairs,
        steps=policy.steps,
        clusters=judged["clusters"],
        min_clusters=evaluation.min_clusters,
        val_rise=policy.val_reward - policy.sft_val_reward,
        f1_over_sft=Gain(**gain["over_sft"]["token_f1"]),
        f1_over_continued=Gain(**gain["over_sft_continued"]["token_f1"]),
        outside=Gain(**gain["over_sft"][OUTSIDE]),
        outside_name=OUTSIDE_NAME,
    )


def write_report(report: Report, root: Path = Path()) -> None:
    """Write metrics/rlhf.json, reports/rlhf/, plots/rlhf_reward_kl.json and plots/rlhf_arms.json."""
    with whole_folder(root / REPORTS / "rlhf") as folder:
        write_jsonl(folder / "predictions.jsonl", report.predictions)
        write_text(folder / "table.txt", report_text(report.metrics) + "\n")
    write_json(root / METRICS / "rlhf.json", {"rlhf": report.metrics})
    write_json(root / PLOTS / "rlhf_reward_kl.json", report.frontier)
    write_json(root / PLOTS / "rlhf_arms.json", report.arms)
