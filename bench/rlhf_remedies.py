"""What other settings of RLHF bring: `python -m bench.rlhf_remedies ARM ... --out DIR [--project DIR]`.

An arm is `NAME:KEY=VALUE,...` with keys of section `rlhf`, e.g. `fast:learning_rate=1e-4`. Each is trained as
stage rlhf trains, from the project's fine-tuned entry, on the preferences that the last run left
(models/rl_trained_lora/preferences.jsonl; grpo and rloo sample their own), and answers all questions that
stage rlhf takes `rlhf.val_questions` of to choose a checkpoint. No test question is read. Printed is a row an
arm: the reward as deployed (refusal rule fitted anew) and its paired gain over the fine-tuned model, the gain
of the raw greedy answers, F1 and quotes of answerable questions, refusals of unanswerable and of answerable
ones (raw in brackets), how many answers differ, and nats an answer from the fine-tuned model. What stands in
--out, made with the same settings, data and adapter, is not run again.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from mark.answering.engine import Generation
from mark.answering.refusal import is_refusal
from mark.config import PARAMS, Eval, Reward, Rlhf, Train, load_section, load_seed, validate
from mark.errors import MarkError
from mark.evaluation.questions import evenly
from mark.evaluation.significance import Bootstrap, choose_clusters
from mark.files import (
    EMBEDDER,
    HANDWRITTEN_TEST,
    MODELS,
    REPORTS,
    VAL_SFT,
    read_json,
    read_jsonl,
    sha256_text,
    write_json,
)
from mark.models.loading import load_tokenizer
from mark.models.quiet import quiet_progress
from mark.records import Example
from mark.rlhf.arms import Arms
from mark.rlhf.feedback import ACCEPTED
from mark.rlhf.gathering import ONLINE, offered_questions
from mark.rlhf.inputs import POLICY, RlhfInputs
from mark.rlhf.policy import load_deployed
from mark.rlhf.preferences import (
    FromPeople,
    FromSamples,
    Pair,
    Preferences,
    QuestionCounts,
    build_preferences,
)
from mark.rlhf.reward import judge
from mark.rlhf.sampling import Task, tasks_of
from mark.rlhf.schedule import Steps
from mark.rlhf.validation import Validation
from mark.seeding import derived_seed
from mark.train.hardware import training_device, wants_bf16

Answers = list[dict[str, Any]]


@dataclass(frozen=True)
class KeptValidation(Validation):
    """A validation that keeps the answers of each of its measurements."""

    kept: list[Answers] = field(default_factory=list)

    def asked(self, model: Any, tokenizer: Any) -> list[tuple[Generation, float]]:
        """Greedy answers with their rewards."""
        found = super().asked(model, tokenizer)
        self.kept.append(
            [
                {
                    "id": task.id,
                    "answerable": task.kind == "answerable",
                    "question": task.question,
                    "golds": list(task.golds),
                    "answer": answer.text,
                    "raw answer": answer.raw_text,
                    "refusal probability": answer.refusal_probability,
                    "reward": reward,
                    "refused": float(is_refusal(answer.text)),
                    "raw refused": float(is_refusal(answer.raw_text)),
                    "words": len(answer.text.split()),
                    **_parts(task, answer, self.weights),
                }
                for task, (answer, reward) in zip(self.tasks, found, strict=True)
            ]
        )
        return found


def _parts(task: Task, answer: Generation, weights: Reward) -> dict[str, float]:
    parts, raw = (
        judge(text, task.golds, answer.passages_shown, weights) for text in (answer.text, answer.raw_text)
    )
    return {"token_f1": parts.token_f1, "quote": parts.quote, "raw reward": raw.total(weights)}


@dataclass(frozen=True)
class Bench:
    """The project, what it is asked, and where results go."""

    inputs: RlhfInputs
    settings: Rlhf
    evaluation: Eval
    train: Train
    seed: int
    rows: list[Example]
    pairs: list[Pair]
    out: Path

    @classmethod
    def of(cls, project: Path, out: Path) -> Bench:
        """Read a project whose stage rlhf has run."""
        params = project / PARAMS
        settings = load_section(Rlhf, "rlhf", params)
        inputs = RlhfInputs(
            data=project / VAL_SFT.parent,
            sft=project / MODELS / settings.entry,
            feedback=project / ACCEPTED,
            handwritten_test=project / HANDWRITTEN_TEST,
            calibration=project / REPORTS / "eval" / settings.entry / "calibration.json",
            embedder=project / EMBEDDER,
            checkpoints=out,
            plots=out,
        )
        return cls(
            inputs=inputs,
            settings=settings,
            evaluation=load_section(Eval, "eval", params),
            train=Train.model_validate(inputs.sft_record["params"]),
            seed=load_seed(params),
            rows=inputs.validation(),
            pairs=read_jsonl(project / MODELS / POLICY / "preferences.jsonl", Pair),
            out=out,
        )

    def made_of(self, settings: Rlhf) -> dict[str, Any]:
        """What answers depend on."""
        return {
            "data": self.inputs.data_sha256(),
            "adapter": self.inputs.sft_sha256(),
            "preferences": sha256_text("\n".join(pair.model_dump_json() for pair in self.pairs)),
            "seed": self.seed,
            "settings": settings.recorded(),
        }

    def start(self) -> Answers:
        """The fine-tuned model's own answers."""
        model, tokenizer = load_deployed(self.inputs.sft, training_device())
        validation = self._validation(self.settings, tokenizer)
        validation.reward(model, tokenizer)
        return validation.kept[-1]

    def arm(self, settings: Rlhf, chosen: str) -> tuple[Answers, float]:
        """Train one arm; its answers at the end and its divergence in nats an answer."""
        tokenizer, device = load_tokenizer(self.inputs.sft), training_device()
        preferences, asked = self._preferences(settings, chosen)
        steps = Steps.of(settings, preferences.ledger.rows)
        if steps.steps == 0:
            raise SystemExit(f"{preferences.ledger.rows} rows are fewer than one step takes")
        validation = self._validation(settings, tokenizer)
        with tempfile.TemporaryDirectory(dir=self.out) as folder:
            arms = Arms(
                inputs=self.inputs,
                settings=settings,
                train=self.train,
                seed=self.seed,
                folder=Path(folder),
                chunks=self.inputs.passages(),
                validation=validation,
                start=0.0,
                device=device,
                bf16=wants_bf16(settings.precision, device),
                steps=steps,
            )
            state = arms.policy(preferences, asked, None)
        kl = next(row["val_kl"] for row in reversed(state.log_history) if "val_kl" in row)
        return validation.kept[-1], float(kl)

    def _preferences(self, settings: Rlhf, chosen: str) -> tuple[Preferences, Sequence[Example]]:
        offered = offered_questions(self.inputs.train(), settings, self.seed)
        pairs = [pair for pair in self.pairs if pair.gap is None or pair.gap >= settings.sampling.min_gap]
        if chosen == "balanced":
            pairs = balanced(pairs)
        if chosen == "gold":
            gold = {row.example_id: row.answer for row in self.inputs.train()}
            pairs = [pair.model_copy(update={"chosen": gold[pair.id]}) for pair in pairs if pair.id in gold]
        online = settings.method in ONLINE
        made = FromSamples(
            pairs=[] if online else pairs, questions=QuestionCounts(asked=len(offered) if online else 0)
        )
        seed = derived_seed(self.seed, "ratings")
        return build_preferences(settings.method, made, FromPeople(), settings.max_pairs, seed), offered

    def _validation(self, settings: Rlhf, tokenizer: Any) -> KeptValidation:
        room = self.train.max_seq_length - settings.sampling.max_new_tokens
        tasks = tasks_of(self.rows, self.inputs.passages(), tokenizer, room)
        return KeptValidation(
            tasks=tasks,
            probes=[task.prompt_ids for task in tasks[:: max(1, len(tasks) // settings.kl_questions)]],
            weights=self.settings.reward,
            max_seq_length=self.train.max_seq_length,
            max_new_tokens=settings.sampling.max_new_tokens,
            batch_size=settings.sampling.batch_size,
            seed=derived_seed(self.seed, "divergence"),
        )

    def row(self, name: str, answers: Answers, start: Answers, kl: float) -> str:
        """One line of the table."""
        rows = self.rows
        clusters = choose_clusters(
            [row.document for row in rows],
            [row.section for row in rows],
            [row.example_id for row in rows],
            self.evaluation.min_clusters,
        )
        bootstrap = Bootstrap(self.evaluation.bootstrap_samples, self.evaluation.confidence, self.seed)

        def gained(part: str) -> str:
            new, old = (np.array([row[part] for row in found]) for found in (answers, start))
            gain = bootstrap.gain(new, old, clusters)
            return f"{gain.difference:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"

        changed = sum(a["raw answer"] != b["raw answer"] for a, b in zip(answers, start, strict=True))
        return (
            f"{name:<22} {_mean(answers, 'reward'):.3f}  {gained('reward')}  {gained('raw reward')}  "
            f"{_mean(answers, 'token_f1', True):.3f} {_mean(answers, 'quote', True):.3f} "
            f"{_mean(answers, 'refused', False):.2f} ({_mean(answers, 'raw refused', False):.2f}) "
            f"{_mean(answers, 'refused', True):.2f} ({_mean(answers, 'raw refused', True):.2f}) "
            f"{changed:4} {kl:.2f}"
        )


def balanced(pairs: Sequence[Pair]) -> list[Pair]:
    """As many pairs that choose a refusal as pairs that reject one; the excess is left out evenly."""
    for_it = [pair for pair in pairs if is_refusal(pair.chosen)]
    against = [pair for pair in pairs if is_refusal(pair.rejected)]
    each = min(len(for_it), len(against))
    kept = {pair.id for rows in (for_it, against) for pair in evenly(rows, each)}
    about = {pair.id for pair in (*for_it, *against)}
    return [pair for pair in pairs if pair.id in kept or pair.id not in about]


def _mean(answers: Answers, part: str, answerable: bool | None = None) -> float:
    found = [row[part] for row in answers if answerable is None or row["answerable"] == answerable]
    return sum(found) / max(len(found), 1)


def parsed(text: str, settings: Rlhf) -> tuple[str, Rlhf, str]:
    """`NAME:KEY=VALUE,...` as a name, the settings, and whose answer is the better one of a pair."""
    name, _, changes = text.partition(":")
    if name in ("", "start"):
        raise SystemExit(f"{text}: an arm needs a name, and another one than start")
    wanted = [change for change in changes.split(",") if change]
    chosen = next((change.partition("=")[2] for change in wanted if change.startswith("pairs=")), "sampled")
    dotted = [change for change in wanted if not change.startswith("pairs=")]
    merged = OmegaConf.merge(settings.model_dump(), OmegaConf.from_dotlist(["evaluations=1", *dotted]))
    return name, validate(Rlhf, OmegaConf.to_container(merged), "rlhf", Path("ARM")), chosen


def main(arguments: Sequence[str]) -> None:
    """Train and compare the arms, one after the other"""
    parser = argparse.ArgumentParser(prog="python -m bench.rlhf_remedies", description=__doc__)
    parser.add_argument("arm", nargs="*", help="NAME or NAME:KEY=VALUE,...; pairs=balanced|gold")
    parser.add_argument("--project", type=Path, default=Path(), help="where stage rlhf has run")
    parser.add_argument("--out", type=Path, required=True, help="a folder for answers")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    bench = Bench.of(given.project.resolve(), given.out.resolve())
    arms = [parsed(text, bench.settings) for text in given.arm]
    if any(settings.reward_model.enabled for _, settings, _ in arms):
        parser.error("rlhf.reward_model.enabled: no reward model is trained here")
    with quiet_progress():
        start = kept(given.out / "start.json", bench.made_of(bench.settings), lambda: (bench.start(), 0.0))[0]
        _say(_head(bench))
        _say(bench.row("fine-tuned", start, start, 0.0))
        for name, settings, chosen in arms:
            how = bench.made_of(settings) | {"pairs": chosen}
            train = functools.partial(bench.arm, settings, chosen)
            answers, kl = kept(given.out / f"{name}.json", how, train)
            _say(bench.row(name, answers, start, kl))


def kept(path: Path, how: dict[str, Any], make: Callable[[], tuple[Answers, float]]) -> tuple[Answers, float]:
    """What an earlier call with the same settings left, else what is made now and left there."""
    if path.is_file() and (found := read_json(path))["how"] == how:
        return found["answers"], found["kl"]
    answers, kl = make()
    write_json(path, {"how": how, "kl": kl, "answers": answers})
    return answers, kl


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _head(bench: Bench) -> str:
    answerable = sum(row.kind == "answerable" for row in bench.rows)
    return (
        f"{len(bench.rows)} questions, {answerable} answerable; {len(bench.pairs)} pairs\n"
        f"{'arm':<22} reward {'gain as deployed':<26} {'gain of raw answers':<26} "
        "F1    quote refused     false       diff KL"
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except MarkError as fault:
        raise SystemExit(str(fault)) from None
