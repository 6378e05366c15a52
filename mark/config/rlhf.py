"""The section of RLHF."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mark.config.section import Fraction, Section


class Sampling(Section):
    questions: int = Field(ge=1)  # training questions that are asked at most
    answers: int = Field(ge=2)  # sampled answers a question; of grpo and rloo: the group's size
    temperature: float = Field(gt=0, le=2)
    max_new_tokens: int = Field(ge=1)  # of an answer; one that does not end within them is truncated
    batch_size: int = Field(ge=1)  # answers written together
    min_gap: float = Field(ge=0)  # in reward, between the better and the worse answer of a pair


class Reward(Section):
    """Weights of the parts; see mark/rlhf/reward.py."""

    token_f1: float = Field(ge=0)  # of an answer to an answerable question
    quote: float = Field(ge=0)  # it stands verbatim in a passage that was shown
    refusal: float = Field(ge=0)  # an unanswerable question was refused
    length: float = Field(ge=0)  # taken off for an answer of twice the allowed words or more
    free_words: int = Field(ge=1)  # always allowed


class Feedback(Section):
    max_per_source: int = Field(ge=1)  # accepted feedback of one source on one day
    max_accepted: int = Field(ge=1)  # rows in data/feedback_accepted.jsonl


class RewardModel(Section):
    """A learnt part of the reward of grpo and rloo; see docs/rlhf.md."""

    enabled: bool
    weight: float = Field(gt=0)  # the most that it adds to the rule-based reward, or takes off
    min_pairs: int = Field(ge=1)  # fewer preferences: it is not trained
    held_out_share: float = Field(gt=0, lt=1)  # of the preferences, on which it is judged
    min_clusters: int = Field(ge=2)  # held-out documents or sections; fewer: it is not trained
    epochs: float = Field(gt=0)
    batch_size: int = Field(ge=1)  # preferences a forward pass
    gradient_accumulation_steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    bootstrap_samples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1.0)  # of the interval of its accuracy


class Rlhf(Section):
    method: Literal["dpo", "kto", "grpo", "rloo"]
    entry: str = Field(pattern=r"^[a-z][a-z0-9_]*$")  # the fine-tuned entry that it starts from
    dry_run: bool  # true: plan only
    epochs: float = Field(ge=0)  # 0: no training
    max_steps: int = Field(ge=-1)  # optimiser steps; -1 = by epochs
    batch_size: int = Field(ge=1)  # pairs, rated answers or questions a forward pass
    gradient_accumulation_steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    control_learning_rate: float = Field(gt=0)  # of the control arm: fine-tuning continued as many steps
    warmup_ratio: Fraction
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    beta: float = Field(ge=0)  # weight of staying near the fine-tuned model
    rpo_alpha: float = Field(ge=0)  # dpo: weight of fine-tuning on the better answers beside the pairs
    precision: Literal["auto", "fp32", "bf16"]
    min_pairs: int = Field(ge=1)  # fewer preferences: too few to judge
    max_pairs: int = Field(ge=1)  # pairs (kto: twice as many rated answers; grpo, rloo: questions)
    evaluations: int = Field(ge=1)  # validation reward, divergence and checkpoint, spread over the run
    val_questions: int = Field(ge=1)  # of those that choose the checkpoint
    kl_questions: int = Field(ge=1)  # of those that the divergence is estimated on
    sampling: Sampling
    reward: Reward
    feedback: Feedback
    reward_model: RewardModel

    @model_validator(mode="after")
    def _fits(self) -> Rlhf:
        if self.method == "kto" and self.batch_size < 2:
            raise ValueError("method=kto needs batch_size of 2 or more: it compares answers within a batch")
        if self.reward_model.enabled and self.method not in ("grpo", "rloo"):
            raise ValueError(
                f"reward_model.enabled=true is of no use to method={self.method}, which samples nothing "
                "while it trains; choose rlhf=grpo or rlhf=rloo, or set it to false"
            )
        if self.rpo_alpha > 0 and self.method != "dpo":
            raise ValueError(f"rpo_alpha={self.rpo_alpha} is of no use to method={self.method}; set it to 0")
        return self

    def recorded(self) -> dict[str, Any]:
        """What an entry's record and its hash hold: a reward model that is off leaves no trace."""
        return self.model_dump(exclude=None if self.reward_model.enabled else {"reward_model"})
