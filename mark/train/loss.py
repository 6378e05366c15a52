"""Cross entropy with the language-model head applied only where an answer token is predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mark.train.collator import IGNORED


def answer_loss(model: nn.Module, body: nn.Module, batch: dict[str, Any]) -> tuple[Tensor, int]:
    """Summed cross entropy over the answer tokens of a right-padded batch.

    No attention mask is passed: under causal attention (and in a recurrent scan) nothing that
    stands right of a token can reach it, so right padding needs none, and without one the
    attention kernel skips the upper triangle. A packed batch brings its positions and segments.

    Args:
        model: The causal language model, wrapped or not (PEFT, DDP, autocast).
        body: Its transformer or scan stack, whose output the head reads.
        batch: Of `AnswerCollator` or `PackedCollator`: `input_ids` and `labels`, int64 [rows, tokens], ...

    Returns:
        The sum (float32 scalar, nats) and the number of answer tokens.
    """
    inputs = {"input_ids": batch["input_ids"]}
    if "segments" in batch:  # a ready-made mask of four dimensions keeps transformers from making one
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
        inputs |= {
            "position_ids": batch["position_ids"],
            "segments": batch["segments"],
            "attention_mask": mask,
        }
    targets = batch["labels"][:, 1:]  # [rows, tokens - 1]; position i predicts token i + 1
    keep = targets != IGNORED
    with only_positions(body, lambda hidden: hidden[:, :-1][keep]):
        logits = model(**inputs, use_cache=False).logits  # [1, answer tokens, vocabulary]
    loss = nn.functional.cross_entropy(logits[0].float(), targets[keep], reduction="sum")
    return loss, int(keep.sum())


@contextmanager
def only_positions(body: nn.Module, pick: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let `body` return only some positions, so that whatever follows it (the head) sees no others.

    A hook rather than a second forward pass of our own: the model is still called through all its
    wrappers (autocast, DistributedDataParallel).

    Args:
        body: Returns an output whose `last_hidden_state` is [rows, tokens, width].
        pick: Takes the positions [kept, width] out of [rows, tokens, width].
    """

    def select(_module: nn.Module, _args: Any, output: Any) -> Any:
        output.last_hidden_state = pick(output.last_hidden_state).unsqueeze(0)
        return output

    handle = body.register_forward_hook(select)
    try:
        yield
    finally:
        handle.remove()


def find_body(model: nn.Module) -> nn.Module:
    """The stack below the language-model head of a causal model or of its PEFT wrapper."""
    wrapper: Any = model
    inner = wrapper.get_base_model() if hasattr(wrapper, "get_base_model") else wrapper
    body = inner.base_model  # transformers: the submodule named by base_model_prefix
    assert isinstance(body, torch.nn.Module) and body is not inner
    return body
