"""Loss and gradients of a micro-batch in shapes that repeat: compiled, and on a GPU recorded as one launch.

A model of 135 million parameters keeps a large GPU busy for microseconds a kernel, so that starting the
kernels is most of a step. Here the layers are compiled (fewer kernels), and forward and backward pass are
recorded in a CUDA graph for each shape. What the optimiser sees is what it would see else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mark.models.causal_attention import causal_only
from mark.models.cuda_graph import recorded
from mark.train.collator import IGNORED
from mark.train.loss import find_body, only_positions

if TYPE_CHECKING:
    from peft import PeftModel

log = logging.getLogger(__name__)
_SHAPES = 64  # that a layer is compiled for at most; more is an error, not a slow run


@dataclass(frozen=True)
class _Shape:
    """Where a shape's inputs and loss lie; `run` adds its gradients to those that are there."""

    ids: Tensor  # int64 [rows, width]
    places: Tensor  # int64 [places]
    targets: Tensor  # int64 [places]
    items: Tensor  # float32 scalar, what the summed loss is divided by
    loss: Tensor  # float32 scalar
    run: Callable[[], object]


class FixedStep:
    """Forward and backward pass over batches of `BucketCollator`.

    Args:
        model: Base model under its adapter, on its device; only adapters without dropout are trained.
        rows: Of a micro-batch; one with fewer is filled up with rows that count for nothing.
        bf16: Matrix products in bfloat16.
        backend: Of torch.compile; None = layers as they are.
    """

    def __init__(self, model: PeftModel, rows: int, bf16: bool, backend: str | None = "inductor") -> None:
        self.model, self.rows, self.bf16 = model, rows, bf16
        self.device = torch.device(model.device)
        self.body = find_body(model)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        sizes = [p.numel() for p in self.parameters]
        self.line = torch.zeros(sum(sizes), device=self.device)
        parts = torch.split(self.line, sizes)
        self.gradients = [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]
        self.shapes: dict[tuple[int, int], _Shape] = {}
        layers: Any = self.body.layers
        self.compiled = [] if backend is None else [(layer, _compiled(layer, backend)) for layer in layers]
        on_cuda = self.device.type == "cuda"
        self.pool = torch.cuda.graph_pool_handle() if on_cuda else None
        self.done = torch.cuda.Event() if on_cuda else None  # type: ignore[no-untyped-call]

    def __call__(self, batch: Mapping[str, Any], items: Tensor | float) -> Tensor:
        """Add the gradients of a micro-batch to the parameters' own; those that are None are begun anew.

        Waits until the last call's work is done, so that a clock around many calls tells their time.

        Args:
            batch: Of `BucketCollator`, on the device, or pinned or not in main memory.
            items: Answer tokens of the whole optimiser step.

        Returns:
            Summed cross entropy divided by `items`, a float32 scalar.
        """
        if self.done is not None:
            self.done.synchronize()
        if any(p.grad is None for p in self.parameters):
            self.line.zero_()
            for p, gradient in zip(self.parameters, self.gradients, strict=True):
                p.grad = gradient
        ids, places = batch["input_ids"], batch["places"]
        key = (ids.shape[1], len(places))
        if key not in self.shapes:
            self.shapes[key] = self._shape(*key)
        shape = self.shapes[key]
        _fill(shape, batch, items)
        shape.run()
        if self.done is not None:
            self.done.record()
        return shape.loss.clone()

    def _shape(self, width: int, places: int) -> _Shape:
        log.info("compiling a training step for %d rows of %d tokens, %d places", self.rows, width, places)
        ids, at, targets = (
            torch.zeros(size, dtype=torch.long, device=self.device)
            for size in ((self.rows, width), (places,), (places,))
        )
        items, loss = torch.ones((), device=self.device), torch.zeros((), device=self.device)
        before = self.line.clone()

        def work() -> None:
            found = self._loss(ids, at, targets) / items
            torch._foreach_add_(self.gradients, torch.autograd.grad(found, self.parameters))
            loss.copy_(found.detach())

        def whole() -> None:  # the layers are compiled at the first call, and a CPU calls again and again
            with ExitStack() as stack:
                stack.enter_context(causal_only(self.model))
                stack.enter_context(self._compiled_layers())
                work()

        run = recorded(whole, self.device, self.pool)
        self.line.copy_(before)  # recording has added to it
        return _Shape(ids, at, targets, items, loss, run)

    def _loss(self, ids: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        def pick(hidden: Tensor) -> Tensor:
            return hidden.flatten(0, 1).index_select(0, places)

        kind = self.device.type
        cast = torch.autocast(kind, torch.bfloat16, enabled=self.bf16, cache_enabled=False)
        with cast, only_positions(self.body, pick):
            logits = self.model(input_ids=ids, use_cache=False).logits  # [1, places, vocabulary]
        return nn.functional.cross_entropy(logits[0].float(), targets, ignore_index=IGNORED, reduction="sum")

    @contextmanager
    def _compiled_layers(self) -> Iterator[None]:
        """All layers but the first share what is compiled: it takes what no gradient is asked of."""
        for layer, forward in self.compiled:
            layer.forward = forward
        try:
            with torch._dynamo.config.patch(recompile_limit=2 * _SHAPES, fail_on_recompile_limit_hit=True):
                yield
        finally:
            for layer, _ in self.compiled:
                del layer.forward  # the class's own again


def _compiled(layer: Any, backend: str) -> Callable[..., Any]:
    """A layer's forward pass, compiled as a whole for each shape at its first use, or refused."""
    compiled: Callable[..., Any] = torch.compile(
        layer.forward, backend=backend, fullgraph=True, dynamic=False
    )
    return compiled


def _fill(shape: _Shape, batch: Mapping[str, Any], items: Tensor | float) -> None:
    rows = len(batch["input_ids"])
    shape.ids[:rows].copy_(batch["input_ids"], non_blocking=True)  # of other rows nothing is predicted
    shape.places.copy_(batch["places"], non_blocking=True)
    shape.targets.copy_(batch["targets"], non_blocking=True)
    if isinstance(items, Tensor):
        shape.items.copy_(items, non_blocking=True)
    else:
        shape.items.fill_(items)
