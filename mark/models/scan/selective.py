"""The scan as a function of tensors that autograd knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mark.models.scan import native, stepwise
from mark.models.scan.operands import Backend, Gradients, Operands


def selective_scan(  # noqa: PLR0913  # transformers' signature
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial_state: Tensor | None = None,
    resets: Tensor | None = None,
    **_ignored: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """h_t = exp(Δ_t A) h_(t-1) + Δ_t B_t x_t;  y_t = (C_t h_t + D x_t) silu(z_t).

    Differentiable in every tensor, once. float64 is computed in float64, everything else in float32.

    Args:
        hidden_states: x, [B, D, L].
        dt: Δ before bias and softplus, [B, D, L].
        A: [D, N], real.
        B: [B, N, L].
        C: [B, N, L].
        D: Skip connection, [D].
        z: Gate, [B, D, L].
        delta_bias: Added to dt, [D].
        delta_softplus: Whether Δ is the softplus of that.
        return_last_state: Return the state after the last token too.
        initial_state: State before the first token, [B, D, N]; None = zero.
        resets: Bool [B, L]; the state is set to zero BEFORE such a token is read.

    Returns:
        y [B, D, L] in hidden_states' dtype; with `return_last_state` also h [B, D, N], not rounded.

    Raises:
        ValueError: A shape does not fit.

    Source: arXiv 2312.00752, algorithm 2; arguments as transformers' `mamba_selective_scan`.
    """
    dtype = torch.float64 if hidden_states.dtype == torch.float64 else torch.float32

    def cast(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(dtype)

    def dense(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(dtype).contiguous()

    operands = Operands(
        hidden_states.to(dtype), dt.to(dtype), A.to(dtype).contiguous(), B.to(dtype), C.to(dtype), dense(D),
        cast(z), dense(delta_bias), dense(initial_state),
        None if resets is None else resets.to(torch.bool).contiguous(), delta_softplus,
    )  # fmt: skip
    _check(operands)
    y, last_state = scanned(operands, _backend(operands.x.device))
    y = y.to(hidden_states.dtype)
    return (y, last_state) if return_last_state else y


def scanned(operands: Operands, backend: Backend) -> tuple[Tensor, Tensor]:
    """y [B, D, L] and the last state [B, D, N] by one backend."""
    tensors = _tensors(operands)
    if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in tensors):
        apply: Any = _Scan.apply
        y, last_state = apply(backend, operands.softplus, operands.resets, *tensors)
        return y, last_state
    with torch.no_grad():
        out = backend.forward(operands, False)
    return out.y, out.last_state


class _Scan(torch.autograd.Function):
    """Keeps the operands and the states at chunk borders; the backend computes the rest anew."""

    @staticmethod
    def forward(
        ctx: Any, backend: Backend, softplus: bool, resets: Tensor | None, *tensors: Any
    ) -> tuple[Tensor, Tensor]:
        out = backend.forward(_operands(tensors, resets, softplus), True)
        ctx.save_for_backward(out.borders, resets, *tensors)
        ctx.backend, ctx.softplus = backend, softplus
        ctx.set_materialize_grads(False)
        return out.y, out.last_state

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, dy: Tensor | None, dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        borders, resets, *tensors = ctx.saved_tensors
        operands = _operands(tensors, resets, ctx.softplus)
        dy = torch.zeros_like(operands.x) if dy is None else dy
        return None, None, None, *ctx.backend.backward(operands, borders, dy, dlast)


def _tensors(operands: Operands) -> tuple[Tensor | None, ...]:
    """Those that may have a gradient."""
    return tuple(getattr(operands, name) for name in Gradients._fields)


def _operands(tensors: Sequence[Any], resets: Tensor | None, softplus: bool) -> Operands:
    return Operands(**dict(zip(Gradients._fields, tensors, strict=True)), resets=resets, softplus=softplus)


def _backend(device: torch.device) -> Backend:
    if device.type == "cpu":
        return native.backend() or stepwise.BACKEND
    if device.type == "cuda":
        from mark.models.scan import gpu

        return gpu.backend() or stepwise.BACKEND
    return stepwise.BACKEND


def _check(operands: Operands) -> None:
    """The compiled backends trust their sizes."""
    rows, channels, length, states = operands.sizes
    wanted = {
        "dt": (rows, channels, length), "A": (channels, states), "B": (rows, states, length),
        "C": (rows, states, length), "D": (channels,), "z": (rows, channels, length),
        "delta_bias": (channels,), "initial_state": (rows, channels, states), "resets": (rows, length),
    }  # fmt: skip
    for name, shape in wanted.items():
        found = getattr(operands, name)
        if found is not None and tuple(found.shape) != shape:
            raise ValueError(
                f"{name} is {tuple(found.shape)}; with these hidden_states and A it must be {shape}"
            )
        if found is not None and found.device != operands.x.device:
            raise ValueError(f"{name} is on {found.device}, hidden_states on {operands.x.device}")
