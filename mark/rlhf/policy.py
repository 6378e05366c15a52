"""The policy: the fine-tuned adapter made trainable, and how far it has moved from its frozen copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mark.models.loading import load_entry
from mark.models.quiet import quiet_progress
from mark.rlhf.sampling import Sampled, Sampler

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

REFERENCE = "ref"  # the name under which TRL keeps the frozen copy of the adapter


def load_policy(entry: Path, device: torch.device) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Load a fine-tuned entry with its adapter trainable, float32.

    Raises:
        ModelError: Entry or base is missing, damaged, or they do not belong together.
    """
    from peft import PeftModel

    checked, tokenizer = load_entry(entry, torch.float32, device)
    with quiet_progress():
        model = PeftModel.from_pretrained(
            checked.unload(), entry, is_trainable=True, torch_device=str(device)
        )
    return model.to(device).train(), tokenizer


def add_reference(model: PeftModel) -> None:
    """Keep a frozen copy of the adapter beside it, as TRL's trainers do by themselves."""
    if REFERENCE in model.peft_config:
        return
    model.add_adapter(REFERENCE, model.peft_config["default"])
    weights = dict(model.named_parameters())
    for name, weight in weights.items():
        if f".{REFERENCE}." in name:
            weight.data.copy_(weights[name.replace(f".{REFERENCE}.", ".default.")].data)
            weight.requires_grad_(False)
    model.set_adapter("default")


@contextmanager
def as_reference(model: Any) -> Iterator[None]:
    """The frozen copy answers inside the block."""
    model.set_adapter(REFERENCE)
    try:
        yield
    finally:
        model.set_adapter("default")


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode inside the block; no dropout."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@torch.no_grad()
def divergence(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    sampler: Sampler,
    reference: Any,
) -> float:
    """KL(policy || reference) in nats an answer, on the policy's own samples.

    At each position of a sampled answer the divergence of the two next-token distributions is taken over the
    whole vocabulary; their sum has the same expectation as the log ratio of the answer and less variance.

    Args:
        model: The policy, in evaluation mode.
        tokenizer: Its tokenizer.
        prompts: Token ids.
        sampler: Draws one answer each, at temperature 1.
        reference: A function that gives a context in which `model` is the reference.

    Source: Amini, Vieira and Cotterell 2025, Better Estimation of the KL Divergence Between Language Models.
    """
    assert sampler.temperature == 1.0
    eos, total = int(tokenizer.eos_token_id), 0.0
    drawn = sampler.draw(model, tokenizer, prompts)
    for prompt, (answer,) in zip(prompts, drawn, strict=True):
        ids = torch.tensor([[*prompt, *_with_end(answer, eos)]], device=model.device)
        kept = ids.shape[1] - len(prompt) + 1
        policy = _log_probabilities(model, ids, kept)
        with reference():
            other = _log_probabilities(model, ids, kept)
        total += float((policy.exp() * (policy - other)).sum())
    return total / max(len(prompts), 1)


def _with_end(answer: Sampled, eos: int) -> list[int]:
    return [*answer.ids] if answer.truncated else [*answer.ids, eos]


def _log_probabilities(model: Any, ids: Tensor, kept: int) -> Tensor:
    """Of the next token at each answer position, [answer tokens, V]; the last row predicts nothing."""
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
    found: Tensor = logits[0, -kept:-1].float().log_softmax(dim=-1)
    return found
