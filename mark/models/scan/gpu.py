"""The scan on CUDA by Triton, which comes with torch's CUDA builds; imported only for CUDA tensors.

NOT YET RUN ON A GPU (there was none): the kernels were checked in Triton's interpreter and compiled to
machine code only. `pytest -m gpu tests/models/test_scan.py` compares them with the PyTorch loop.
Gradients of B and C are added up atomically: their last bits differ from run to run, as with `mamba_ssm`.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from mark.models.scan.operands import Backend, Gradients, Operands, Scanned

_BLOCK = 8  # channels a program
_STEPS = 16  # tokens a chunk
_WARPS = 4


def backend() -> Backend | None:
    """None where Triton is missing, or unless MARK_TRITON_SCAN=1 asks for what has not run yet."""
    wanted = os.environ.get("MARK_TRITON_SCAN") == "1"
    return BACKEND if wanted and importlib.util.find_spec("triton") is not None else None


def _forward(operands: Operands, keep: bool) -> Scanned:
    from mark.models.scan.triton_kernels import forward_kernel

    rows, channels, length, states = operands.sizes
    chunks = -(-length // _STEPS)
    o = operands
    x, dt, B, C = (_time_major(one) for one in (o.x, o.dt, o.B, o.C))
    z = None if o.z is None else _time_major(o.z)
    y, last = torch.empty_like(x), x.new_empty(rows, channels, states)
    borders = x.new_empty(rows, chunks, channels, states) if keep else None
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        forward_kernel[_grid(operands)](
            x, dt, o.A, B, C, _or(o.D, x), _or(z, x), _or(o.delta_bias, x), _or(o.initial_state, x),
            _or(_bytes(o.resets), x), y, last, _or(borders, x), channels, length, states, chunks,
            HAS_INITIAL=o.initial_state is not None, KEEP=keep, **_options(operands),
        )  # fmt: skip
    return Scanned(y.transpose(1, 2), last, borders)


def _backward(operands: Operands, borders: Tensor, dy: Tensor, dlast: Tensor | None) -> Gradients:
    from mark.models.scan.triton_kernels import backward_kernel

    rows, channels, length, states = operands.sizes
    o = operands
    x, dt, B, C, dy = (_time_major(one) for one in (o.x, o.dt, o.B, o.C, dy))
    z = None if o.z is None else _time_major(o.z)
    dx, ddt, dz = (torch.empty_like(x) for _ in range(3))
    dB, dC = torch.zeros_like(B), torch.zeros_like(C)
    dA, dinitial = x.new_empty(rows, channels, states), x.new_empty(rows, channels, states)
    dD, dbias = x.new_empty(rows, channels), x.new_empty(rows, channels)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        backward_kernel[_grid(operands)](
            x, dt, o.A, B, C, _or(o.D, x), _or(z, x), _or(o.delta_bias, x), _or(_bytes(o.resets), x), borders,
            dy, x if dlast is None else dlast.contiguous(), dx, ddt, dz, dA, dB, dC, dD, dbias, dinitial,
            channels, length, states, borders.shape[1], HAS_LAST=dlast is not None, **_options(operands),
        )  # fmt: skip
    return Gradients(
        dx.transpose(1, 2), ddt.transpose(1, 2), dA.sum(dim=0), dB.transpose(1, 2), dC.transpose(1, 2),
        None if o.D is None else dD.sum(dim=0), None if z is None else dz.transpose(1, 2),
        None if o.delta_bias is None else dbias.sum(dim=0), None if o.initial_state is None else dinitial,
    )  # fmt: skip


def _grid(operands: Operands) -> tuple[int, int]:
    rows, channels, _, _ = operands.sizes
    return -(-channels // _BLOCK), rows


def _options(operands: Operands) -> dict[str, Any]:
    """What the kernels are compiled for."""
    o = operands
    return {
        "N": 1 << max(0, o.A.shape[1] - 1).bit_length(), "BLOCK": _BLOCK, "STEPS": _STEPS,
        "SOFTPLUS": o.softplus,
        "HAS_D": o.D is not None, "HAS_Z": o.z is not None, "HAS_BIAS": o.delta_bias is not None,
        "HAS_RESETS": o.resets is not None, "num_warps": _WARPS,
    }  # fmt: skip


def _time_major(tensor: Tensor) -> Tensor:
    """[B, D, L] as a dense [B, L, D]; no copy where the mixer made it so."""
    return tensor.transpose(1, 2).contiguous()


def _bytes(resets: Tensor | None) -> Tensor | None:
    return None if resets is None else resets.view(torch.uint8)


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """A kernel's argument that is not read where there is none."""
    return other if tensor is None else tensor


BACKEND = Backend("Triton", _forward, _backward)
