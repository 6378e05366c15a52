"""The forgetting probe: does an entry still know what its base model knew in general?

probe.jsonl holds short sentences to continue, written for this project, each with a right and a wrong end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mark.files import read_jsonl
from mark.records import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = Path(__file__).with_name("probe.jsonl")
_BATCH = 32  # continuations a forward pass


class ProbeItem(Row):
    """One sentence with a right and a wrong continuation."""

    id: str
    topic: str
    context: str
    right: str
    wrong: str


@dataclass(frozen=True)
class Forgetting:
    """The probe before and after fine-tuning.

    Attributes:
        items: Sentences asked.
        before: Share that the base model continues rightly.
        after: Share that the entry continues rightly.
        lost: Ids of those that only the base model continues rightly.
    """

    items: int
    before: float
    after: float
    lost: tuple[str, ...]

    @property
    def fall(self) -> float:
        """By how much the share fell; negative where it rose."""
        return self.before - self.after

    def passes(self, margin: float) -> bool:
        """Whether the fall stays within a margin (a share of the items)."""
        return self.fall <= margin + 1e-9

    def sentence(self, margin: float) -> str:
        """One line: both shares, and the margin."""
        right = [round(share * self.items) for share in (self.before, self.after)]
        line = f"{right[1]} of {self.items} general sentences continued rightly, {right[0]} by the base model"
        state = "within" if self.passes(margin) else "beyond"
        return f"{line}: a fall of {100 * self.fall:.1f} points, {state} the margin of {100 * margin:.1f}"


def load_probe(path: Path = PROBE) -> list[ProbeItem]:
    """The shipped items.

    Raises:
        DataError: The file is missing or damaged.
    """
    return read_jsonl(path, ProbeItem)


def measure_forgetting(
    model: Any, tokenizer: PreTrainedTokenizerBase, items: Sequence[ProbeItem]
) -> Forgetting:
    """Ask an entry and, with its adapter switched off, its base model.

    Args:
        model: A PeftModel in evaluation mode, not merged.
        tokenizer: Its tokenizer.
        items: What to ask.
    """
    after = margins(model, tokenizer, items)
    with model.disable_adapter():
        before = margins(model, tokenizer, items)
    lost = [item.id for item, a, b in zip(items, after, before, strict=True) if b > 0 >= a]
    return Forgetting(
        items=len(items),
        before=sum(value > 0 for value in before) / len(items),
        after=sum(value > 0 for value in after) / len(items),
        lost=tuple(lost),
    )


def margins(model: Any, tokenizer: PreTrainedTokenizerBase, items: Sequence[ProbeItem]) -> list[float]:
    """For each item: mean log probability of the right continuation's tokens minus that of the wrong one's.

    Positive where the model prefers the right one. Per token, so that a longer continuation is not at a
    disadvantage.

    Source: length-normalised scoring of multiple choice, Brown et al. 2020, Language Models are Few-Shot
        Learners, section 2.4.
    """
    pairs = [(item.context, text) for item in items for text in (item.right, item.wrong)]
    scores: list[float] = []
    for start in range(0, len(pairs), _BATCH):
        scores += _mean_logprobs(model, tokenizer, pairs[start : start + _BATCH])
    return [right - wrong for right, wrong in zip(scores[::2], scores[1::2], strict=True)]


def _mean_logprobs(model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Mean log probability a token of each continuation after its context, nats."""
    import torch

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    contexts = [ids(context) for context, _ in pairs]
    answers = [ids(f" {answer}") for _, answer in pairs]
    rows = [c + a for c, a in zip(contexts, answers, strict=True)]
    width = max(len(row) for row in rows)
    pad = tokenizer.pad_token_id  # on the right, where nothing that is read can see it
    tokens = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=model.device)  # [B, T]
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits.float()  # [B, T, V]
    steps = logits[:, :-1].log_softmax(dim=-1).gather(2, tokens[:, 1:, None]).squeeze(2)  # [B, T - 1]
    return [
        float(steps[i, len(context) - 1 : len(context) - 1 + len(answer)].mean())
        for i, (context, answer) in enumerate(zip(contexts, answers, strict=True))
    ]
