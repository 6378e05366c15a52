"""A Mamba layer in training between its first projection and its output, without copies into another layout.

transformers asks `mamba_inner_fn` first in training and goes its own way where that gives nothing. The channels
stay side by side in memory from the first projection to the last, gradients included: PyTorch would join the
gradients of a split across them, and then multiply matrices that lie the other way. The layers of the mixer are
called as modules, so that an adapter on them counts. Letters as in the package's docstring.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from mark.models.scan.convolution import causal_convolution, convolution_fits
from mark.models.scan.selective import selective_scan


@dataclass(frozen=True)
class Running:
    """The mixer whose forward pass runs.

    Attributes:
        mixer: transformers' `MambaMixer`.
        mask: 0 at padding, [B, L]; None = no padding.
    """

    mixer: Any
    mask: Tensor | None


RUNNING: ContextVar[Running | None] = ContextVar("the Mamba layer that runs now", default=None)


def mamba_inner(projected: Tensor, *args: Any, **_: Any) -> Tensor | None:
    """The layer's output [B, L, width], or None where transformers is to go its own way.

    Args:
        projected: x before the convolution and the gate z, [B, 2 D, L].
        args: What the mixer holds itself, but for A [D, N] behind six of them.
    """
    now = RUNNING.get()
    if now is None or not convolution_fits(projected, now.mixer.activation):
        return None
    mixer = now.mixer
    x, z = _halves(projected)
    x = causal_convolution(x, mixer.conv1d.weight.squeeze(1), mixer.conv1d.bias, mixer.activation)
    if now.mask is not None:
        x = x * now.mask[:, None].to(x.dtype)
    sizes = [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    steps, B, C = mixer.x_proj(x.transpose(1, 2)).split(sizes, dim=-1)
    bias = mixer.dt_proj.bias
    y = selective_scan(
        x, linear(steps, mixer.dt_proj.weight).transpose(1, 2), args[6], B.transpose(1, 2), C.transpose(1, 2),
        mixer.D.float(), z, None if bias is None else bias.float(), delta_softplus=True,
    )  # fmt: skip
    assert isinstance(y, Tensor)
    out: Tensor = mixer.out_proj(y.transpose(1, 2).to(projected.dtype))
    return out


def _halves(projected: Tensor) -> tuple[Tensor, Tensor]:
    """x and z [B, D, L] of [B, 2 D, L]."""
    x, z = _Halves.apply(projected)  # type: ignore[no-untyped-call]
    return x, z


class _Halves(torch.autograd.Function):
    """`chunk` whose gradient lies as the tensor does: channels side by side."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor) -> tuple[Tensor, Tensor]:
        x, z = projected.detach().chunk(2, dim=1)
        return x, z

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, dx: Tensor, dz: Tensor) -> Tensor:
        return torch.cat([dx.transpose(1, 2), dz.transpose(1, 2)], dim=2).transpose(1, 2)
