# mypy: ignore-errors
# ruff: noqa: PLR0913, PLR0915
# (Triton compiles these functions itself: arguments are pointers, operations have no Python types.)
"""The scan as Triton kernels, forward and backward; launched by gpu.py.

One program takes one row and BLOCK channels through all tokens, STEPS at a time. Inside such a chunk the
states come from a parallel prefix scan over (decay, added) pairs, between chunks the state is carried on; the
backward pass recomputes a chunk from the state at its border and scans it from the end. x, dt, z, y are
[B, L, D], B and C [B, L, N], all dense.

Checked in Triton's interpreter and compiled for compute capability 8.0 and 9.0, but NOT YET RUN ON A GPU.
"""

import triton
import triton.language as tl


@triton.jit
def _after(decay, added, next_decay, next_added):
    """Two steps of h <- decay h + added as one."""
    return decay * next_decay, next_decay * added + next_added


@triton.jit
def _softplus(value):
    """The identity above 20, as in torch; log(1 + w) after Kahan, exact for small w."""
    w = tl.exp(-tl.abs(value))
    u = 1.0 + w
    log1p = tl.where(u == 1.0, w, tl.log(u) * (w / tl.where(u == 1.0, 1.0, u - 1.0)))
    return tl.where(value > 20.0, value, tl.maximum(value, 0.0) + log1p)


@triton.jit
def _sigmoid(value):
    return 1.0 / (1.0 + tl.exp(-value))


@triton.jit
def _delta(raw, here, SOFTPLUS: tl.constexpr):
    """Step sizes; zero past the end, where the state then stays as it is."""
    if SOFTPLUS:
        raw = _softplus(raw)
    return tl.where(here, raw, 0.0)


@triton.jit
def _decay(delta, rates, resets, tokens, inside, HAS_RESETS: tl.constexpr):
    """[STEPS, BLOCK, N]; zero where the state is reset before the token."""
    decay = tl.exp(delta[:, :, None] * rates[None, :, :])
    if HAS_RESETS:
        reset = tl.load(resets + tokens, mask=inside, other=0)
        decay = tl.where((reset != 0)[:, None, None], 0.0, decay)
    return decay


@triton.jit
def forward_kernel(
    x, dt, A, B, C, D, z, bias, initial, resets, y, last, borders, channels, length, states, chunks,
    N: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr, SOFTPLUS: tl.constexpr, HAS_D: tl.constexpr,
    HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_INITIAL: tl.constexpr, HAS_RESETS: tl.constexpr,
    KEEP: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    state = tl.arange(0, N)
    step = tl.arange(0, STEPS)
    real, used = channel < channels, state < states
    rates = tl.load(
        A + channel[:, None] * states + state[None, :], mask=real[:, None] & used[None, :], other=0.0
    )
    cell = (row * channels + channel)[:, None] * states + state[None, :]
    cells = real[:, None] & used[None, :]
    h = tl.zeros_like(rates)
    if HAS_INITIAL:
        h = tl.load(initial + cell, mask=cells, other=0.0)
    for chunk in range(0, chunks):
        if KEEP:
            at = ((row * chunks + chunk) * channels + channel)[:, None] * states + state[None, :]
            tl.store(borders + at, h, mask=cells)
        time = chunk * STEPS + step
        inside = time < length
        token = row * length + time
        here = inside[:, None] & real[None, :]
        at = token[:, None] * channels + channel[None, :]
        pairs = token[:, None] * states + state[None, :]
        both = inside[:, None] & used[None, :]
        raw = tl.load(dt + at, mask=here, other=0.0)
        if HAS_BIAS:
            raw += tl.load(bias + channel, mask=real, other=0.0)[None, :]
        delta = _delta(raw, here, SOFTPLUS)
        value = tl.load(x + at, mask=here, other=0.0)
        decay = _decay(delta, rates, resets, token, inside, HAS_RESETS)
        added = (delta * value)[:, :, None] * tl.load(B + pairs, mask=both, other=0.0)[:, None, :]
        total, local = tl.associative_scan((decay, added), 0, _after)
        hs = total * h[None, :, :] + local
        out = tl.sum(hs * tl.load(C + pairs, mask=both, other=0.0)[:, None, :], axis=2)
        if HAS_D:
            out += value * tl.load(D + channel, mask=real, other=0.0)[None, :]
        if HAS_Z:
            gate = tl.load(z + at, mask=here, other=0.0)
            out *= gate * _sigmoid(gate)
        tl.store(y + at, out, mask=here)
        h = tl.sum(tl.where((step == STEPS - 1)[:, None, None], hs, 0.0), axis=0)
    tl.store(last + cell, h, mask=cells)


@triton.jit
def backward_kernel(
    x, dt, A, B, C, D, z, bias, resets, borders, dy, dlast, dx, ddt, dz, dA, dB, dC, dD, dbias, dinitial,
    channels, length, states, chunks,
    N: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr, SOFTPLUS: tl.constexpr, HAS_D: tl.constexpr,
    HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_LAST: tl.constexpr, HAS_RESETS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    state = tl.arange(0, N)
    step = tl.arange(0, STEPS)
    real, used = channel < channels, state < states
    rates = tl.load(
        A + channel[:, None] * states + state[None, :], mask=real[:, None] & used[None, :], other=0.0
    )
    cell = (row * channels + channel)[:, None] * states + state[None, :]
    cells = real[:, None] & used[None, :]
    carried = tl.zeros_like(rates)  # gradient of the state after the chunk
    if HAS_LAST:
        carried = tl.load(dlast + cell, mask=cells, other=0.0)
    sum_A = tl.zeros_like(rates)
    shift = tl.zeros([BLOCK], dtype=rates.dtype)
    skip = tl.zeros([BLOCK], dtype=rates.dtype)
    sum_D = tl.zeros([BLOCK], dtype=rates.dtype)
    sum_bias = tl.zeros([BLOCK], dtype=rates.dtype)
    if HAS_BIAS:
        shift = tl.load(bias + channel, mask=real, other=0.0)
    if HAS_D:
        skip = tl.load(D + channel, mask=real, other=0.0)
    for back in range(0, chunks):
        chunk = chunks - 1 - back
        time = chunk * STEPS + step
        inside = time < length
        token = row * length + time
        here = inside[:, None] & real[None, :]
        at = token[:, None] * channels + channel[None, :]
        pairs = token[:, None] * states + state[None, :]
        both = inside[:, None] & used[None, :]
        # The states of the chunk anew.
        raw = tl.load(dt + at, mask=here, other=0.0) + shift[None, :]
        delta = _delta(raw, here, SOFTPLUS)
        value = tl.load(x + at, mask=here, other=0.0)
        decay = _decay(delta, rates, resets, token, inside, HAS_RESETS)
        inputs = tl.load(B + pairs, mask=both, other=0.0)
        outputs = tl.load(C + pairs, mask=both, other=0.0)
        added = (delta * value)[:, :, None] * inputs[:, None, :]
        border = ((row * chunks + chunk) * channels + channel)[:, None] * states + state[None, :]
        h = tl.load(borders + border, mask=cells, other=0.0)
        total, local = tl.associative_scan((decay, added), 0, _after)
        hs = total * h[None, :, :] + local
        # Through the gate.
        grad = tl.load(dy + at, mask=here, other=0.0)
        if HAS_Z:
            gate = tl.load(z + at, mask=here, other=0.0)
            is_open = _sigmoid(gate)
            ungated = tl.sum(hs * outputs[:, None, :], axis=2) + value * skip[None, :]
            tl.store(dz + at, grad * ungated * is_open * (1.0 + gate * (1.0 - is_open)), mask=here)
            grad *= gate * is_open
        # dh_t = C_t dy_t + decay_(t+1) dh_(t+1): the same scan from the end, with the NEXT token's decay. The
        # last step takes what the chunk after it carried back, decay included.
        following = (time + 1 < length) & (step < STEPS - 1)
        next_here = following[:, None] & real[None, :]
        next_raw = tl.load(dt + at + channels, mask=next_here, other=0.0) + shift[None, :]
        next_delta = _delta(next_raw, next_here, SOFTPLUS)
        next_decay = _decay(next_delta, rates, resets, token + 1, following, HAS_RESETS)
        source = grad[:, :, None] * outputs[:, None, :]
        total, local = tl.associative_scan((next_decay, source), 0, _after, reverse=True)
        dh = total * carried[None, :, :] + local
        # What each factor of the step gets; h minus what was added is decay times the state before.
        dlog = dh * (hs - added)
        through = tl.sum(dh * inputs[:, None, :], axis=2)
        ddelta = tl.sum(dlog * rates[None, :, :], axis=2) + through * value
        if SOFTPLUS:
            ddelta = tl.where(raw > 20.0, ddelta, ddelta * _sigmoid(raw))
        tl.store(dx + at, through * delta + grad * skip[None, :], mask=here)
        tl.store(ddt + at, ddelta, mask=here)
        tl.atomic_add(dB + pairs, tl.sum(dh * (delta * value)[:, :, None], axis=1), mask=both)
        tl.atomic_add(dC + pairs, tl.sum(hs * grad[:, :, None], axis=1), mask=both)
        sum_A += tl.sum(dlog * delta[:, :, None], axis=0)
        sum_D += tl.sum(grad * value, axis=0)
        sum_bias += tl.sum(tl.where(here, ddelta, 0.0), axis=0)
        carried = tl.sum(tl.where((step == 0)[:, None, None], decay * dh, 0.0), axis=0)
    tl.store(dinitial + cell, carried, mask=cells)
    tl.store(dA + cell, sum_A, mask=cells)
    tl.store(dD + row * channels + channel, sum_D, mask=real)
    tl.store(dbias + row * channels + channel, sum_bias, mask=real)
