"""How a run is cut into steps, and in which order its rows come."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import Sampler

from mark.config import Rlhf
from mark.train.sampler import epoch_order


@dataclass(frozen=True)
class Steps:
    """The steps of policy and control arm alike."""

    steps: int  # optimiser steps of the run; 0: there is too little to train on
    steps_per_epoch: int
    every: int  # steps between evaluations, each with a checkpoint

    @classmethod
    def of(cls, settings: Rlhf, rows: int) -> Steps:
        """The schedule of a number of pairs, rated answers or questions.

        Only whole groups of rows are trained on: KTO's divergence needs a whole batch, and GRPO's and RLOO's
        answers are compared within one. With fewer rows than one step takes there is no step.
        """
        group = settings.batch_size * settings.gradient_accumulation_steps
        per_epoch = rows // group
        if per_epoch == 0:
            return cls(0, 0, 1)
        steps = settings.max_steps if settings.max_steps > 0 else math.ceil(settings.epochs * per_epoch)
        return cls(steps, per_epoch, max(1, math.ceil(steps / settings.evaluations)))

    def evaluates(self, step: int) -> bool:
        """Whether validation and a checkpoint follow a step."""
        return step % self.every == 0 or step == self.steps


class GroupSampler(Sampler[int]):
    """Rows of whole optimiser steps, each row `answers` times in a row, each step's rows `repeats` times.

    The order of an epoch depends on seed and epoch alone, so that a resumed run repeats it (TRL's own sampler
    goes on from where its generator stands). `repeats` is for GRPO and RLOO, whose loader hands over the
    whole step at each forward pass.

    Args:
        rows: How many there are.
        group: Rows of one optimiser step; an incomplete last one is left out.
        seed: Of the run.
        answers: How often a row follows itself.
        repeats: Forward passes an optimiser step.
    """

    def __init__(self, rows: int, group: int, seed: int, answers: int = 1, repeats: int = 1) -> None:
        self.rows, self.group, self.seed, self.answers, self.repeats = rows, group, seed, answers, repeats
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, that the next iteration serves."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows // self.group * self.group * self.answers * self.repeats

    def __iter__(self) -> Iterator[int]:
        order = epoch_order([0] * self.rows, self.group, self.seed + self.epoch, by_length=False)
        for start in range(0, self.rows // self.group * self.group, self.group):
            for _ in range(self.repeats):
                for row in order[start : start + self.group]:
                    yield from [row] * self.answers
