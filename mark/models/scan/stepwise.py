"""The scan in plain PyTorch, on any device: a loop over time without a graph. Reference and fallback.

States are kept at chunk borders; inside a chunk everything but the recurrence itself is one operation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mark.models.scan.operands import Backend, Gradients, Operands, Scanned

CHUNK = 32  # tokens; a chunk's states take CHUNK times the memory of one state
_SOFTPLUS_LINEAR = 20.0  # from here on torch's softplus is the identity


def _forward(operands: Operands, keep: bool) -> Scanned:
    state, borders, outputs = operands.start(), [], []
    delta = _delta(operands)
    for span in _spans(operands):
        borders.append(state)
        states = _states(_decay(operands, delta, span), _added(operands, delta, span), state)
        outputs.append(torch.einsum("tbdn,bnt->bdt", states[1:], operands.C[:, :, span]))
        state = states[-1].clone()
    y = _with_skip(operands, torch.cat(outputs, dim=2))
    if operands.z is not None:
        y = y * operands.z * operands.z.sigmoid()
    return Scanned(y, state, torch.stack(borders) if keep else None)  # borders [chunks, B, D, N]


def _backward(operands: Operands, borders: Tensor, dy: Tensor, dlast: Tensor | None) -> Gradients:
    delta = _delta(operands)
    sums = _Sums(operands, dlast)
    for number, span in reversed(list(enumerate(_spans(operands)))):
        decay = _decay(operands, delta, span)
        states = _states(decay, _added(operands, delta, span), borders[number])
        dscan = sums.through_gate(states[1:], dy, span)
        sums.add(decay, states, delta, dscan, span)
    return sums.gradients()


class _Sums:
    """Gradients as they grow from the last chunk to the first.

    Args:
        operands: Of the scan.
        dlast: Gradient of the last state, [B, D, N].
    """

    def __init__(self, operands: Operands, dlast: Tensor | None) -> None:
        self.o = operands
        self.dh = torch.zeros_like(operands.start()) if dlast is None else dlast  # [B, D, N], past the decay
        self.dx, self.ddelta = torch.empty_like(operands.x), torch.empty_like(operands.x)
        self.dA, self.dB, self.dC = (torch.zeros_like(one) for one in (operands.A, operands.B, operands.C))
        self.dD = None if operands.D is None else torch.zeros_like(operands.D)
        self.dz = None if operands.z is None else torch.empty_like(operands.z)

    def through_gate(self, states: Tensor, dy: Tensor, span: slice) -> Tensor:
        """The gradient of y before the gate, [B, D, T]; notes the gate's own."""
        dy = dy[:, :, span]
        if self.o.z is None or self.dz is None:
            return dy
        z = self.o.z[:, :, span]
        gate = z.sigmoid()
        ungated = torch.einsum("tbdn,bnt->bdt", states, self.o.C[:, :, span])
        if self.o.D is not None:
            ungated += self.o.D[:, None] * self.o.x[:, :, span]
        self.dz[:, :, span] = dy * ungated * gate * (1 + z * (1 - gate))
        return dy * z * gate

    def add(self, decay: Tensor, states: Tensor, delta: Tensor, dy: Tensor, span: slice) -> None:
        """One chunk: decay [T, B, D, N], states [T + 1, B, D, N], dy [B, D, T]."""
        x, B, C = (one[:, :, span] for one in (self.o.x, self.o.B, self.o.C))
        delta = delta[:, :, span]
        dh = torch.einsum("bdt,bnt->tbdn", dy, C)
        for t in reversed(range(len(dh))):
            self.dh = dh[t].add_(self.dh) * decay[t]
        dlog = dh * decay * states[:-1]  # of delta A
        dinflow = torch.einsum("tbdn,bnt->bdt", dh, B)
        self.dA += torch.einsum("tbdn,bdt->dn", dlog, delta)
        self.dB[:, :, span] = torch.einsum("tbdn,bdt->bnt", dh, delta * x)
        self.dC[:, :, span] = torch.einsum("tbdn,bdt->bnt", states[1:], dy)
        self.ddelta[:, :, span] = torch.einsum("tbdn,dn->bdt", dlog, self.o.A) + dinflow * x
        self.dx[:, :, span] = dinflow * delta
        if self.o.D is not None and self.dD is not None:
            self.dx[:, :, span] += dy * self.o.D[:, None]
            self.dD += (dy * x).sum(dim=(0, 2))

    def gradients(self) -> Gradients:
        """When all chunks are added."""
        o, ddt = self.o, self.ddelta
        if o.softplus:
            raw = _raw(o)
            ddt = torch.where(raw > _SOFTPLUS_LINEAR, ddt, ddt * raw.sigmoid())
        return Gradients(
            self.dx, ddt, self.dA, self.dB, self.dC, self.dD, self.dz,
            None if o.delta_bias is None else ddt.sum(dim=(0, 2)),
            None if o.initial_state is None else self.dh,
        )  # fmt: skip


def _spans(operands: Operands) -> list[slice]:
    length = operands.x.shape[2]
    return [slice(first, min(first + CHUNK, length)) for first in range(0, length, CHUNK)]


def _raw(operands: Operands) -> Tensor:
    return operands.dt if operands.delta_bias is None else operands.dt + operands.delta_bias[:, None]


def _delta(operands: Operands) -> Tensor:
    """[B, D, L]."""
    return softplus(_raw(operands), threshold=_SOFTPLUS_LINEAR) if operands.softplus else _raw(operands)


def _decay(operands: Operands, delta: Tensor, span: slice) -> Tensor:
    """[T, B, D, N]; zero where the state is reset."""
    steps = delta[:, :, span].permute(2, 0, 1)  # [T, B, D]
    decay = (steps[..., None] * operands.A).exp_()
    if operands.resets is not None:
        decay.masked_fill_(operands.resets[:, span].t()[:, :, None, None], 0.0)
    return decay


def _added(operands: Operands, delta: Tensor, span: slice) -> Tensor:
    """What each step adds to the state, [T, B, D, N]."""
    inflow = delta[:, :, span] * operands.x[:, :, span]
    return torch.einsum("bdt,bnt->tbdn", inflow, operands.B[:, :, span])


def _states(decay: Tensor, added: Tensor, first: Tensor) -> Tensor:
    """The states before the first and after each token of a chunk, [T + 1, B, D, N]."""
    states = torch.cat([first[None], added])
    for t in range(len(added)):
        states[t + 1].addcmul_(decay[t], states[t])
    return states


def _with_skip(operands: Operands, y: Tensor) -> Tensor:
    return y if operands.D is None else y + operands.D[:, None] * operands.x


BACKEND = Backend("PyTorch", _forward, _backward)
