"""The dry run: everything is loaded, one micro-step is measured, nothing is trained or written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ADAM_COPIES = 3  # weights, first and second moment
_CHECKPOINTS = 3  # two are kept while a third is written
_TOKENIZER_BYTES = 8 << 20


@dataclass(frozen=True)
class Plan:
    """What training would do."""

    entry: str
    base: str
    device: str
    precision: str
    trainable_parameters: int
    total_parameters: int
    processes: int
    examples: int
    validation_examples: int
    tokens: int  # of the rows of all steps
    computed_tokens: int  # that the model reads: padding counted, shared beginnings once
    steps: int
    micro_batch: int  # of one process
    accumulation: int
    asked_micro_batch: int
    seconds: float  # estimated from a timed micro-step
    tokens_per_s: float  # of that micro-step
    peak_memory_mb: int
    free_memory_mb: int
    disk_mb: int
    outputs: dict[str, str]  # what -> where
    guard: str | None  # the sentence that forbids training now

    def as_text(self) -> str:
        """For the terminal."""
        share = 100 * self.trainable_parameters / self.total_parameters
        batch = f"{self.micro_batch} x {self.accumulation} accumulated"
        if self.processes > 1:
            batch += f" in each of {self.processes} processes"
        if self.micro_batch < self.asked_micro_batch:
            batch += f" (train.batch_size {self.asked_micro_batch} does not fit into memory)"
        speed = f"{self.tokens_per_s:.0f} tokens/s in a timed micro-step"
        rows = [
            ("entry", f"{self.entry} (LoRA on models/base/{self.base})"),
            ("device", f"{self.device}, {self.precision}{self._company()}"),
            ("trainable", f"{self.trainable_parameters:,} of {self.total_parameters:,} ({share:.2f} %)"),
            ("examples", f"{self.examples:,} to train, {self.validation_examples:,} to validate"),
            ("tokens", f"{self.tokens:,} over all steps, {self._reading()}"),
            ("steps", f"{self.steps:,}, examples a step: {batch}"),
            ("time", f"about {_duration(self.seconds)} ({speed})"),
            ("memory", f"peak about {self.peak_memory_mb:,} MB; {self.free_memory_mb:,} MB are free now"),
            ("disk", f"about {self.disk_mb:,} MB while training"),
            *self.outputs.items(),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  {text}" for name, text in rows]
        head = "Training plan (dry run: nothing was trained or written)"
        return "\n".join([head, *lines, self.guard or "Add --confirm-run to train."])

    def _company(self) -> str:
        """How many processes train together."""
        return f", {self.processes} processes" if self.processes > 1 else ""

    def _reading(self) -> str:
        """How many tokens the model reads for them."""
        if self.computed_tokens >= self.tokens:
            share = 1 - self.tokens / max(1, self.computed_tokens)
            return f"{100 * share:.1f} % padding on top"
        share = 1 - self.computed_tokens / self.tokens
        return f"{100 * share:.1f} % of them shared by several rows and read once"


def disk_bytes(trainable_parameters: int) -> int:
    """Disk that a run takes at most: checkpoints with optimiser state, and the entry."""
    weights = 4 * trainable_parameters
    return weights * _ADAM_COPIES * _CHECKPOINTS + weights + _TOKENIZER_BYTES


def output_places(out: Path, plots: Path, logs: Path, checkpoints: Path) -> dict[str, str]:
    """Where each output goes, as shown in the plan."""
    return {
        "adapter": f"{out}/",
        "curves": str(plots / f"{out.name}.json"),
        "logs": f"{logs}/",
        "checkpoints": f"{checkpoints}/ (removed after success)",
    }


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
