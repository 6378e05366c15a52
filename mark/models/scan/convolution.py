"""Mamba's causal convolution with SiLU behind it, compiled; PyTorch's own copies its operands before and after.

u_t = bias + sum_k weight_k x_(t - K + 1 + k);  y_t = silu(u_t), or u_t without activation. Kept for the backward
pass: x. Shapes: B rows, D channels, L tokens, K taps.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mark.models.scan.building import library
from mark.models.scan.native import SUFFIX, View, groups_of, pointer, view

_ACTIVATIONS = (None, "silu", "swish")


class _Job(ctypes.Structure):
    """`Convolution` of convolution.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "channels", "length", "taps", "groups", "threads", "silu")),
        *((name, View) for name in ("x", "y", "dx")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "dweight", "dbias")),
    )


def convolution_fits(hidden_states: Tensor, activation: str | None) -> bool:
    """Whether `causal_convolution` computes this: on a CPU, with the compiled library, plain or with SiLU."""
    return hidden_states.device.type == "cpu" and activation in _ACTIVATIONS and library() is not None


def causal_convolution(
    hidden_states: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None
) -> Tensor:
    """Differentiable in every tensor, once. float64 is computed in float64, everything else in float32.

    Args:
        hidden_states: x, [B, D, L], best with the channels side by side in memory.
        weight: [D, K].
        bias: [D].
        activation: None, or one of SiLU's names.

    Returns:
        y [B, D, L] in hidden_states' dtype, its channels side by side.

    Raises:
        ValueError: A shape does not fit.

    Source: arguments as transformers' `causal_conv1d_fn`.
    """
    rows, channels, _ = hidden_states.shape
    if weight.dim() != 2 or len(weight) != channels or (bias is not None and bias.shape != (channels,)):
        raise ValueError(f"{channels} channels need a weight of as many rows and a bias of as many numbers")
    dtype = torch.float64 if hidden_states.dtype == torch.float64 else torch.float32
    x = hidden_states.to(dtype)
    x = x if x.stride(1) == 1 else x.transpose(1, 2).contiguous().transpose(1, 2)
    taps = weight.to(dtype).t().contiguous()
    y: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
        x, taps, None if bias is None else bias.to(dtype).contiguous(), activation is not None
    )
    return y.to(hidden_states.dtype)


class _Convolution(torch.autograd.Function):
    """x [B, D, L] with channel stride 1, weight [K, D], bias [D]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
        y = _beside(x)
        job = _job(x, weight, bias, silu)
        job.y = view(y)
        _call("forward", x, job)
        ctx.save_for_backward(x, weight, bias)
        ctx.silu = silu
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        dy = dy if dy.stride(1) == 1 else dy.transpose(1, 2).contiguous().transpose(1, 2)
        dx = _beside(x)
        dweight, dbias = x.new_empty(len(x), *weight.shape), x.new_empty(x.shape[:2])
        job = _job(x, weight, bias, ctx.silu)
        job.y, job.dx = view(dy), view(dx)
        job.dweight, job.dbias = pointer(dweight), pointer(dbias)
        _call("backward", x, job)
        return dx, dweight.sum(dim=0), None if bias is None else dbias.sum(dim=0), None


def _beside(x: Tensor) -> Tensor:
    """Empty, of x's shape [B, D, L], its channels side by side."""
    rows, channels, length = x.shape
    return x.new_empty(rows, length, channels).transpose(1, 2)


def _job(x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> _Job:
    """The caller keeps every tensor alive until the call returns."""
    rows, channels, length = x.shape
    threads = torch.get_num_threads()
    job = _Job(rows, channels, length, len(weight), groups_of(rows, channels, threads), threads, silu)
    job.x, job.weight, job.bias = view(x), pointer(weight), pointer(bias)
    return job


def _call(direction: str, x: Tensor, job: _Job) -> None:
    found = library()
    assert found is not None
    getattr(found, f"convolution_{direction}_{SUFFIX[x.dtype]}")(ctypes.byref(job))
