"""One Mamba layer forward and backward, our scan against the others: `python -m bench.mamba_scan`.

The layer is transformers' own `MambaMixer` of Mamba-130M's size in training mode, with all that `install`
puts in place, so that its projections, which are the same on both sides, count too: in float32 they are nine
tenths of our time, which bounds the ratio to mambapy. One row has the products in bfloat16, as training has
them where the hardware multiplies it natively; one has the scan alone.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.rows import Row, alternate, compared, limited, show, unmeasured
from mark.models.loading import preferred_dtype
from mark.models.scan import install, installed, selective_scan, transformers_scan
from mark.models.scan.native import backend

WIDTH, STATES = 768, 16
SHORT, LONG = 512, 2048
GPU_ROWS = 4
NAMES = (
    "mamba_scan: layer, 512 tokens, torch loop",
    "mamba_scan: layer, 512 tokens, mambapy",
    "mamba_scan: layer, 512 tokens, bfloat16 products, mambapy",
    "mamba_scan: layer, 2,048 over 512 tokens",
    "mamba_scan: scan alone, 512 tokens, mambapy",
    "mamba_scan: GPU layer, 4 x 512 tokens, torch loop",
    "mamba_scan: GPU layer, 4 x 512 tokens, mamba-ssm",
)
_LIMIT = 4.6
_BARS = (150.0, 8.0, None, _LIMIT, None, 30.0, 1 / 1.5)
_ROUNDS = 9
_SLOW_ROUNDS = 2  # the torch loop takes a quarter of a minute a call
_PEERS = (
    "transformers' torch loop", "transformers with mambapy", "transformers with mambapy", "a limit",
    "transformers with mambapy",
    "transformers' torch loop", "mamba-ssm",
)  # fmt: skip


def rows() -> Iterator[Row]:
    """On the CPU the first five, on a GPU the others."""
    if torch.cuda.is_available():
        yield from (_not(number, "a CPU's row, and a GPU is in use") for number in range(5))
        yield from _gpu_rows()
        return
    note = "" if backend() is not None else "without a C++ compiler: the PyTorch scan"
    ours = layer(selective_scan, SHORT)
    peer = layer(transformers_scan(), SHORT)
    yield compared(NAMES[0], alternate(ours, peer, _SLOW_ROUNDS), "s", _PEERS[0], _BARS[0], note)
    yield _against_mambapy(1, ours, layer(transformers_scan(), SHORT, use_mambapy=True), note)
    if preferred_dtype("cpu") == torch.bfloat16:
        low = layer(transformers_scan(), SHORT, use_mambapy=True, bf16=True)
        low_note = ", ".join(filter(None, ["both under bfloat16 autocast, as training has it here", note]))
        yield _against_mambapy(2, layer(selective_scan, SHORT, bf16=True), low, low_note)
    else:
        yield _not(2, "this CPU does not multiply bfloat16 natively")
    pair = alternate(layer(selective_scan, LONG), ours, _ROUNDS)
    yield limited(NAMES[3], pair.ratios(more_is_better=True), "times", _LIMIT, note)
    yield _against_mambapy(4, alone(selective_scan), alone(transformers_scan(), use_mambapy=True), note)
    yield from (_not(number, "no GPU") for number in (5, 6))


def _against_mambapy(number: int, ours: Callable[[], None], peer: Callable[[], None], note: str) -> Row:
    if importlib.util.find_spec("mambapy") is None:  # without it, transformers quietly takes its loop
        return _not(number, "the package mambapy is not installed")
    return compared(NAMES[number], alternate(ours, peer, _ROUNDS), "s", _PEERS[number], _BARS[number], note)


def _gpu_rows() -> Iterator[Row]:
    ours = layer(selective_scan, SHORT, GPU_ROWS, "cuda")
    with_package = importlib.util.find_spec("mamba_ssm") is not None
    if with_package:
        yield _not(5, "transformers has mamba-ssm's scan in the place of its loop")
        peer = layer(transformers_scan(), SHORT, GPU_ROWS, "cuda")
        yield compared(NAMES[6], alternate(ours, peer, _ROUNDS), "s", _PEERS[6], _BARS[6])
        return
    peer = layer(transformers_scan(), SHORT, GPU_ROWS, "cuda")
    yield compared(NAMES[5], alternate(ours, peer, _SLOW_ROUNDS), "s", _PEERS[5], _BARS[5])
    yield _not(6, "mamba-ssm is not installed")


def layer(
    scan: Callable[..., Any],
    tokens: int,
    batch: int = 1,
    device: str = "cpu",
    use_mambapy: bool = False,
    bf16: bool = False,
) -> Callable[[], None]:
    """One forward and backward pass of a layer that uses `scan`; float32, seeded.

    Args:
        scan: Ours or transformers'.
        tokens: Of a row.
        batch: Rows.
        device: Where.
        use_mambapy: transformers' scan goes through mambapy.
        bf16: Products in bfloat16, as training has them where the hardware multiplies it natively.
    """
    from transformers import MambaConfig

    theirs = importlib.import_module("transformers.models.mamba.modeling_mamba")
    torch.manual_seed(0)
    mixer = theirs.MambaMixer(MambaConfig(hidden_size=WIDTH, state_size=STATES, use_mambapy=use_mambapy), 0)
    mixer.to(device).train()
    hidden = torch.randn(batch, tokens, WIDTH, device=device, requires_grad=True)
    slope = torch.randn(batch, tokens, WIDTH, device=device)

    def step() -> None:
        mixer.zero_grad()
        hidden.grad = None
        with _swapped(theirs, scan):
            with torch.autocast(device, torch.bfloat16, enabled=bf16):
                out = mixer(hidden)
            out.backward(slope.to(out.dtype))
        if device != "cpu":
            torch.cuda.synchronize()

    return step


def alone(scan: Callable[..., Any], **options: bool) -> Callable[[], None]:
    """One forward and backward pass of the scan, its operands as the layer of `layer` hands them over."""
    channels = 2 * WIDTH
    rng = torch.Generator().manual_seed(0)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=rng)

    given = [
        normal(1, SHORT, channels).transpose(1, 2),  # x
        normal(1, channels, SHORT) - 4,  # dt
        -torch.arange(1.0, STATES + 1).repeat(channels, 1),  # A
        normal(1, SHORT, STATES).transpose(1, 2),  # B
        normal(1, SHORT, STATES).transpose(1, 2),  # C
        torch.ones(channels),  # D
        normal(1, SHORT, channels).transpose(1, 2),  # z
        torch.zeros(channels),  # delta_bias
    ]
    leaves = [one.requires_grad_() for one in given]
    slope = normal(1, SHORT, channels).transpose(1, 2)

    def step() -> None:
        torch.autograd.grad(scan(*leaves, delta_softplus=True, **options), leaves, slope)

    return step


@contextmanager
def _swapped(theirs: Any, scan: Callable[..., Any]) -> Iterator[None]:
    """The module with `scan` in use, ours as `install` puts it there.

    Beside mamba-ssm, whose kernel for the whole layer would pass our scan by, nothing but the scan is ours.
    """
    holders = {name: theirs for name in ("mamba_selective_scan", "mamba_inner_fn", "causal_conv1d_fn")}
    holders["forward"] = theirs.MambaMixer
    before = {name: getattr(holder, name) for name, holder in holders.items()}
    if scan is not selective_scan:
        assert not installed()
        theirs.mamba_selective_scan = scan
    elif not install():
        theirs.mamba_selective_scan, theirs.mamba_inner_fn = scan, lambda *_args, **_kwargs: None
    try:
        yield
    finally:
        for name, one in before.items():
            setattr(holders[name], name, one)


def _not(number: int, why: str) -> Row:
    unit = "times" if number == 3 else "s"
    return unmeasured(NAMES[number], unit, _PEERS[number], _BARS[number], why)


def main() -> None:
    """Measure and print the table."""
    show(rows())


if __name__ == "__main__":
    main()
