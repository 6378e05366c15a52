"""The compiled scan on CPUs: tensors to pointers and strides, threads as torch has them."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from mark.models.scan.building import library
from mark.models.scan.operands import Backend, Gradients, Operands, Scanned, laid_out_like

_PAD = 16  # `kPad` of vectors.hpp
SUFFIX = {torch.float32: "float", torch.float64: "double"}


class View(ctypes.Structure):
    """`View` of vectors.hpp."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("batch", "channel", "time")),
    )


class _Job(ctypes.Structure):
    """`Job` of kernel.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "channels", "length", "states")),
        *((name, ctypes.c_int64) for name in ("groups", "threads", "softplus")),
        *((name, View) for name in ("x", "dt", "B", "C", "z", "y", "dx", "ddt", "dz")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "bias", "initial", "last", "resets", "borders")),
        *((name, ctypes.c_void_p) for name in ("dinitial", "dA", "dD", "dbias", "dB", "dC")),
    )  # fmt: skip


def backend() -> Backend | None:
    """None where the library could not be built."""
    return None if library() is None else _BACKEND


def _forward(operands: Operands, keep: bool) -> Scanned:
    rows, channels, length, states = operands.sizes
    y = laid_out_like(operands.x)
    last = torch.empty_like(operands.start())
    borders = None
    if keep:
        padded = -(-channels // _PAD) * _PAD
        borders = operands.x.new_empty(rows, _chunks(length), states, padded)
    job = _job(operands)
    job.y, job.last, job.borders = view(y), pointer(last), pointer(borders)
    _call("forward", operands, job)
    return Scanned(y, last, borders)


def _backward(operands: Operands, borders: Tensor, dy: Tensor, dlast: Tensor | None) -> Gradients:
    rows, channels, length, states = operands.sizes
    new = operands.x.new_empty
    dlast = None if dlast is None else dlast.contiguous()
    dx, ddt = laid_out_like(operands.x), laid_out_like(operands.dt)
    dz = None if operands.z is None else laid_out_like(operands.z)
    dinitial, dA = new(rows, channels, states), new(rows, channels, states)
    dD, dbias = new(rows, channels), new(rows, channels)
    job = _job(operands)
    dB, dC = new(job.groups, rows, length, states), new(job.groups, rows, length, states)
    job.y, job.last, job.borders = view(dy), pointer(dlast), pointer(borders)
    job.dx, job.ddt, job.dz = view(dx), view(ddt), view(dz)
    job.dinitial, job.dA, job.dD, job.dbias = pointer(dinitial), pointer(dA), pointer(dD), pointer(dbias)
    job.dB, job.dC = pointer(dB), pointer(dC)
    _call("backward", operands, job)
    return Gradients(
        dx, ddt, dA.sum(dim=0), dB.sum(dim=0).transpose(1, 2), dC.sum(dim=0).transpose(1, 2),
        None if operands.D is None else dD.sum(dim=0), dz,
        None if operands.delta_bias is None else dbias.sum(dim=0),
        None if operands.initial_state is None else dinitial,
    )  # fmt: skip


def _job(operands: Operands) -> _Job:
    """The sizes and the operands; the caller keeps every tensor alive until the call returns."""
    rows, channels, length, states = operands.sizes
    threads = torch.get_num_threads()
    job = _Job(rows, channels, length, states, groups_of(rows, channels, threads), threads, operands.softplus)
    for name in ("x", "dt", "B", "C", "z"):
        setattr(job, name, view(getattr(operands, name)))
    job.A, job.D, job.bias = pointer(operands.A), pointer(operands.D), pointer(operands.delta_bias)
    job.initial, job.resets = pointer(operands.initial_state), pointer(operands.resets)
    return job


def groups_of(rows: int, channels: int, threads: int) -> int:
    """Groups of channels, so many that rows x groups fills all threads; each sums B's gradient apart."""
    return max(1, min(threads // math.gcd(rows, threads), channels // _PAD))


def _chunks(length: int) -> int:
    found = library()
    assert found is not None
    return -(-length // int(found.scan_chunk()))


def _call(direction: str, operands: Operands, job: _Job) -> None:
    found = library()
    assert found is not None
    getattr(found, f"scan_{direction}_{SUFFIX[operands.x.dtype]}")(ctypes.byref(job))


def view(tensor: Tensor | None) -> View:
    if tensor is None:
        return View(None, 0, 0, 0)
    return View(tensor.data_ptr(), *tensor.stride())


def pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


_BACKEND = Backend("C++", _forward, _backward)
