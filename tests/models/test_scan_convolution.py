"""Mamba's compiled convolution: against transformers' own function, and by finite differences."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from mark.models.scan.convolution import causal_convolution, convolution_fits

theirs = importlib.import_module("transformers.models.mamba.modeling_mamba")
transformers_convolution = getattr(theirs.causal_conv1d_fn, "__wrapped__", theirs.causal_conv1d_fn)
SHAPES = [(2, 19, 7, 4), (1, 16, 1, 4), (3, 33, 40, 3), (2, 48, 3, 4), (2, 5, 9, 1)]  # rows, channels, tokens, taps


@pytest.fixture(autouse=True)
def compiled() -> None:
    if not convolution_fits(torch.zeros(1, 1, 1), None):
        pytest.skip("no C++ compiler here")


def operands(
    shape: tuple[int, int, int, int], beside: bool, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """x (a half of a wider tensor with channels side by side, or plain), weight and bias."""
    rows, channels, length, taps = shape
    rng = torch.Generator().manual_seed(length)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=rng, dtype=torch.float64).to(dtype)

    wide = normal(rows, length, 2 * channels)[..., channels:].transpose(1, 2)
    x = wide if beside else normal(rows, channels, length)
    return x.requires_grad_(), normal(channels, taps).requires_grad_(), normal(channels).requires_grad_()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("activation", ["silu", None])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_transformers(
    shape: tuple[int, int, int, int], beside: bool, activation: str | None, with_bias: bool
) -> None:
    x, weight, bias = operands(shape, beside)
    given = [x, weight, *([bias] if with_bias else [])]
    slope = torch.randn(shape[:3], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = causal_convolution(*given, activation=activation)
    wanted = transformers_convolution(*given, activation=activation)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
    for one, other in zip(
        torch.autograd.grad(found, given, slope), torch.autograd.grad(wanted, given, slope), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("activation", ["silu", None])
def test_finite_differences(activation: str | None) -> None:
    given = operands((2, 5, 6, 4), beside=True)
    assert torch.autograd.gradcheck(lambda *some: causal_convolution(*some, activation=activation), given)


def test_half_precision_is_rounded_once() -> None:
    x, weight, bias = operands((2, 19, 30, 4), beside=True, dtype=torch.bfloat16)
    found = causal_convolution(x, weight, bias, "silu")
    exact = causal_convolution(x.double(), weight.double(), bias.double(), "silu")
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-6)


def test_threads_do_not_matter() -> None:
    given = operands((1, 83, 30, 4), beside=True, dtype=torch.float32)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        y = causal_convolution(*given, activation="silu")
        found.append([y, *torch.autograd.grad(y.square().sum(), given)])
    torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


def test_another_activation_is_left_to_transformers() -> None:
    assert not convolution_fits(torch.zeros(1, 1, 1), "gelu")


@pytest.mark.parametrize(("weight", "bias"), [((18, 4), (19,)), ((19, 4), (18,)), ((19,), (19,))])
def test_wrong_shapes(weight: tuple[int, ...], bias: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="19 channels"):
        causal_convolution(torch.zeros(1, 19, 5), torch.zeros(weight), torch.zeros(bias))
