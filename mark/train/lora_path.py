"""LoRA's linear layers as one operation with its own backward pass.

peft's layer casts the input to the adapter's float32 and back, scales the low-rank product and adds it to
the frozen one: five passes over a batch's activations, and as many in the backward pass. Here the matrix
product itself accumulates the low-rank part into the frozen one. Same formula, same precision of products:

    y = x W^T + bias + s (x A^T) B^T        dx = dy W + s (dy B) A
    dA = s (dy B)^T x                       dB = s dy^T (x A^T)

x [rows, in] input, W [out, in] frozen weight, A [rank, in] and B [out, rank] the adapter, s its scale
(Hu et al. 2021, arXiv 2106.09685, section 4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from peft import PeftModel


def use_one_operation(model: PeftModel) -> int:
    """Let every adapted layer that can compute as one operation; how many do.

    Left as they are: layers with dropout, biased or weight-decomposed adapters, other than plain linear
    layers, and any layer while its adapter is disabled or merged.
    """
    from peft.tuners.lora import Linear

    found = [module for module in model.modules() if isinstance(module, Linear) and _plain(module)]
    for module in found:
        module.forward = _Forward(module, module.forward)
    return len(found)


def _plain(layer: Any) -> bool:
    """Whether a peft layer has one adapter, without extras, on a plain linear layer."""
    names = list(layer.active_adapters)
    if len(names) != 1 or type(layer.get_base_layer()) is not nn.Linear or layer.lora_variant:
        return False
    dropout = layer.lora_dropout[names[0]]
    quiet = isinstance(dropout, nn.Identity) or getattr(dropout, "p", 1.0) == 0.0
    return quiet and layer.lora_B[names[0]].bias is None and not getattr(layer, "fan_in_fan_out", False)


class _Forward:
    """Stands in for a layer's `forward`."""

    def __init__(self, layer: Any, plain: Any) -> None:
        self.layer, self.plain = layer, plain
        self.name: str = layer.active_adapters[0]

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer = self.layer
        if layer.disable_adapters or layer.merged or args or kwargs or layer.active_adapters != [self.name]:
            return self.plain(x, *args, **kwargs)  # type: ignore[no-any-return]
        base = layer.get_base_layer()
        kind = x.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        with torch.autocast(kind, enabled=False):
            out: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
                x.to(low),
                base.weight.to(low),
                None if base.bias is None else base.bias.to(low),
                layer.lora_A[self.name].weight,
                layer.lora_B[self.name].weight,
                layer.scaling[self.name],
            )
        return out


class _LoraLinear(torch.autograd.Function):
    """See the module's docstring for the symbols; W and bias get no gradient."""

    @staticmethod
    def forward(  # noqa: PLR0913 - autograd passes what it differentiates one by one
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low_a, low_b = a.to(x.dtype), (b * scale).to(x.dtype)
        narrow = rows @ low_a.t()  # [rows, rank]
        out = nn.functional.linear(rows, weight, bias).addmm_(narrow, low_b.t())
        ctx.save_for_backward(rows, narrow, weight, low_a, low_b)
        ctx.scale, ctx.shape, ctx.types = scale, x.shape, (a.dtype, b.dtype)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, narrow, weight, a, b = ctx.saved_tensors
        dy = grad.reshape(-1, grad.shape[-1])
        dn = dy @ b  # [rows, rank], the scale is in b
        dx = (dy @ weight).addmm_(dn, a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        da = (dn.t() @ rows).to(ctx.types[0])
        db = (dy.t() @ narrow).to(ctx.types[1]).mul_(ctx.scale)
        return dx, None, None, da, db, None
