"""Validation while training: reward of greedy answers and distance from the fine-tuned model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from tqdm import tqdm
from transformers import TrainerCallback

from mark.answering.engine import Engine, Generation, Request
from mark.answering.refusal import Evidence, fit
from mark.config import Reward
from mark.evaluation.metrics import answerable_golds, token_f1
from mark.prompting import REFUSAL
from mark.rlhf.policy import as_reference, deployed, divergence, evaluating
from mark.rlhf.reward import judge
from mark.rlhf.sampling import Sampler, Task
from mark.rlhf.schedule import Steps
from mark.train.callbacks import ProgressCallback

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase, TrainerControl, TrainerState, TrainingArguments

VAL_REWARD, VAL_KL = "val_reward", "val_kl"


@dataclass(frozen=True)
class Validation:
    """The validation questions and how they are asked.

    Attributes:
        tasks: Their greedy answers give the reward.
        probes: Prompts on which the divergence is estimated.
        weights: Of the reward.
        max_seq_length: Tokens of prompt and answer together.
        max_new_tokens: Of an answer.
        batch_size: Questions answered together.
        seed: Of the samples that the divergence is estimated on: the same at every step.
        dtype: Of the weights that answer; None = what the hardware does best.
    """

    tasks: Sequence[Task]
    probes: Sequence[Sequence[int]]
    weights: Reward
    max_seq_length: int
    max_new_tokens: int
    batch_size: int
    seed: int
    dtype: torch.dtype | None = None

    @property
    def answers_in(self) -> Literal["float32", "bfloat16"] | None:
        """`dtype`, as records have it."""
        if self.dtype is None:
            return None
        return "float32" if self.dtype == torch.float32 else "bfloat16"

    def measure(self, model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
        """`val_reward` and `val_kl` (nats an answer) of a policy with its reference beside it."""
        answering = deployed(model, self.dtype)
        reward = self.reward(answering, tokenizer)
        sampler = Sampler(1.0, self.max_new_tokens, self.batch_size, self.seed)
        drawn = [answer for (answer,) in sampler.draw(answering, tokenizer, self.probes)]
        del answering
        eos = int(tokenizer.eos_token_id)
        with evaluating(model):
            kl = divergence(model, lambda: as_reference(model), self.probes, drawn, eos)
        return {VAL_REWARD: round(reward, 6), VAL_KL: round(max(kl, 0.0), 6)}

    def reward(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> float:
        """Mean reward of the answers as they would be given; see `asked`."""
        rewards = [reward for _, reward in self.asked(model, tokenizer)]
        return sum(rewards) / max(len(rewards), 1)

    def asked(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> list[tuple[Generation, float]]:
        """Greedy answers with their rewards, in the order of the tasks.

        When to refuse is fitted anew, as eval does for the entry, though on these questions alone and without
        looking at similarity: a policy that only shifts how often it refuses gains or loses nothing by that.
        With fewer than ten questions of a kind its own probability of refusing decides.

        Args:
            model: As it is deployed.
            tokenizer: Its tokenizer.
        """
        engine = Engine(model, tokenizer, self.max_seq_length, self.max_new_tokens, self.batch_size)
        requests = [Request(task.question, task.passages) for task in self.tasks]
        answers = engine.generate(requests, "validating")
        if not answers:
            return []
        evidence = [Evidence(answer.refusal_probability, answer.mean_logprob) for answer in answers]
        scores = [_f1(answer.text, task.golds) for task, answer in zip(self.tasks, answers, strict=True)]
        rule = fit(evidence, scores, [task.kind for task in self.tasks])
        found = []
        for task, answer, shown in zip(self.tasks, answers, evidence, strict=True):
            text = REFUSAL if rule.decide(shown)[0] else answer.text
            parts = judge(text, task.golds, answer.passages_shown, self.weights)
            found.append((replace(answer, text=text), parts.total(self.weights)))
        return found


def _f1(text: str, golds: Sequence[str]) -> float:
    return max((token_f1(text, gold) for gold in answerable_golds(golds)), default=0.0)


class ValidationCallback(TrainerCallback):  # type: ignore[misc]
    """Measures at each evaluation, keeps it in the trainer's history, and asks for a checkpoint."""

    def __init__(self, steps: Steps, measure: Callable[[], dict[str, float]], taken: list[float]) -> None:
        """Take what to do when.

        Args:
            steps: Of the run.
            measure: The validation.
            taken: Gets the seconds of each, for the progress line.
        """
        self.steps, self.measure, self.taken = steps, measure, taken

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before the checkpoint is written, so that it holds the measurement."""
        if not self.steps.evaluates(state.global_step):
            return
        started = time.monotonic()
        found = self.measure()
        self.taken.append(time.monotonic() - started)
        state.log_history.append({"step": state.global_step, **found})
        control.should_save = control.should_log = True


class StepProgress(ProgressCallback):
    """The progress line of training; the time left follows from the steps."""

    def __init__(self, meter: Any, steps: Steps, name: str) -> None:
        super().__init__(meter, 0, -(-steps.steps // steps.every))
        self.name, self.done = name, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar under the method's name."""
        super().on_train_begin(args, state, control, **kwargs)
        bar: tqdm[Any] = self.bar
        bar.set_description_str(self.name, refresh=False)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the steps of this session."""
        self.done += 1
        super().on_step_end(args, state, control, **kwargs)

    def _seconds_left(self, state: TrainerState) -> float:
        left = state.max_steps - state.global_step
        taken = self.meter.validation_seconds
        each = sum(taken) / len(taken) if taken else 0.0
        share = left / max(state.max_steps, 1)
        seconds = self.meter.seconds / max(self.done, 1) * left + each * round(share * self.validations)
        return float(seconds)
