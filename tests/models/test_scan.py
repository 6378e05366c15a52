"""The selective scan: against transformers' own function, by finite differences, and under a real tiny Mamba."""

from __future__ import annotations

import copy
import importlib
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mark.errors import ModelError
from mark.models import scan
from mark.models.scan import building, convolution, native, stepwise
from mark.models.scan.operands import Backend, Operands
from mark.models.scan.selective import scanned
from tests.conftest import ROOT

theirs = importlib.import_module("transformers.models.mamba.modeling_mamba")

CHUNK = stepwise.CHUNK  # kernel.cpp has the same
LENGTHS = (1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5)
SHAPE = (2, 19, 16)  # rows, channels (no multiple of a vector), states
ALL = ("x", "dt", "A", "B", "C", "D", "z", "delta_bias", "initial_state")


@pytest.fixture(params=["PyTorch", "C++"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "PyTorch":
        return stepwise.BACKEND
    return compiled()


def compiled() -> Backend:
    found = native.backend()
    if found is None:
        pytest.skip("no C++ compiler here")
    return found


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """transformers as it comes, whatever ran before; restored after the test."""
    ours = scan.installed()
    for holder, name in (
        (theirs, "causal_conv1d_fn"),
        (theirs, "mamba_inner_fn"),
        (theirs.MambaMixer, "forward"),
    ):
        now = getattr(holder, name)
        monkeypatch.setattr(holder, name, now.__wrapped__ if ours else now)
    monkeypatch.setattr(theirs, "mamba_selective_scan", scan.transformers_scan())
    yield


def operands(
    length: int, without: tuple[str, ...] = (), dtype: torch.dtype = torch.float64, shape: tuple[int, int, int] = SHAPE,
    resets: bool = False, softplus: bool = True,
) -> Operands:  # fmt: skip
    """Random input in the memory layouts that the mixer hands over; every tensor wants a gradient."""
    rows, channels, states = shape
    rng = torch.Generator().manual_seed(length)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=rng).to(dtype)

    made = {
        "x": normal(rows, length, channels).transpose(1, 2),
        "dt": normal(rows, channels, length) - (1 if softplus else 0),
        "A": -normal(channels, states).exp(),
        "B": normal(rows, length, states + 3)[..., 3:].transpose(1, 2),
        "C": normal(rows, states, length),
        "D": normal(channels),
        "z": normal(rows, length, 2 * channels)[..., channels:].transpose(1, 2),
        "delta_bias": normal(channels),
        "initial_state": normal(rows, channels, states),
    }
    if not softplus:
        made["dt"], made["delta_bias"] = made["dt"].abs() * 0.3, made["delta_bias"].abs() * 0.1
    given = {name: None if name in without else one.requires_grad_() for name, one in made.items()}
    at = torch.rand(rows, length, generator=rng) < 0.2 if resets else None
    return Operands(**given, resets=at, softplus=softplus)


def tensors(given: Operands) -> dict[str, Tensor]:
    return {name: getattr(given, name) for name in ALL if getattr(given, name) is not None}


def results(outputs: tuple[Tensor, Tensor], given: Operands) -> dict[str, Tensor]:
    """Output, last state and the gradients of a weighted sum of both."""
    y, last = outputs
    total = sum(
        (one * torch.linspace(-1, 2, one.numel(), dtype=one.dtype).view_as(one)).sum() for one in outputs
    )
    wanted = tensors(given)
    return {
        "y": y,
        "last": last,
        **dict(zip(wanted, torch.autograd.grad(total, wanted.values()), strict=True)),
    }


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == wanted.keys()
    for name, one in found.items():
        assert one.dtype == wanted[name].dtype, name
        gap = (one - wanted[name]).norm().item()
        assert gap <= tolerance * wanted[name].norm().item() + 1e-30, (name, gap)


def naive(given: Operands) -> tuple[Tensor, Tensor]:
    """The definition, with autograd's own gradients; for what transformers' function does not know."""
    o = given
    delta = o.dt if o.delta_bias is None else o.dt + o.delta_bias[:, None]
    delta = torch.nn.functional.softplus(delta) if o.softplus else delta
    h, outputs = o.start(), []
    for t in range(o.x.shape[2]):
        if o.resets is not None:
            h = h * ~o.resets[:, t, None, None]
        added = (delta[:, :, t] * o.x[:, :, t])[..., None] * o.B[:, None, :, t]
        h = (delta[:, :, t, None] * o.A).exp() * h + added
        outputs.append((h * o.C[:, None, :, t]).sum(dim=-1))
    y = torch.stack(outputs, dim=2)
    y = y if o.D is None else y + o.D[:, None] * o.x
    return (y if o.z is None else y * torch.nn.functional.silu(o.z)), h


# ---- against transformers' function and the definition ----


@pytest.mark.parametrize(
    "without",
    [(), ("D",), ("z",), ("delta_bias",), ("D", "z", "delta_bias")],
    ids=lambda names: "all" if not names else f"no {' '.join(names)}",
)
@pytest.mark.parametrize("softplus", [True, False])
def test_equals_transformers(
    backend: Backend, without: tuple[str, ...], softplus: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = operands(CHUNK + 3, (*without, "initial_state"), softplus=softplus)
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)  # theirs rounds some operands to float32 on the way
        y, last = scan.transformers_scan()(
            given.x, given.dt, given.A, given.B, given.C, D=given.D, z=given.z, delta_bias=given.delta_bias,
            delta_softplus=softplus, return_last_state=True,
        )  # fmt: skip
        wanted = results((y, last), given)
    assert_same(results(scanned(given, backend), given), wanted, 1e-12)


@pytest.mark.parametrize("length", LENGTHS)
def test_chunk_borders(backend: Backend, length: int) -> None:
    given = operands(length, resets=True)
    assert_same(results(scanned(given, backend), given), results(naive(given), given), 1e-12)


@pytest.mark.parametrize("states", [1, 5, 16])
@pytest.mark.parametrize("resets", [False, True])
def test_finite_differences(backend: Backend, states: int, resets: bool) -> None:
    given = operands(4, shape=(2, 3, states), resets=resets)
    names = tensors(given)

    def run(*values: Tensor) -> tuple[Tensor, Tensor]:
        return scanned(Operands(*values, resets=given.resets, softplus=True), backend)

    assert torch.autograd.gradcheck(run, tuple(one.detach().requires_grad_() for one in names.values()))


def test_only_the_last_state_is_used(backend: Backend) -> None:
    given = operands(CHUNK + 2)
    wanted = torch.autograd.grad(naive(given)[1].sum(), given.x)[0]
    found = torch.autograd.grad(scanned(given, backend)[1].sum(), given.x)[0]
    torch.testing.assert_close(found, wanted)


def test_compiled_equals_pytorch_in_float32() -> None:
    given = operands(3 * CHUNK + 1, dtype=torch.float32, resets=True)
    assert_same(
        results(scanned(given, compiled()), given), results(scanned(given, stepwise.BACKEND), given), 2e-6
    )


def test_threads_and_rows_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    given = operands(CHUNK + 3, shape=(3, 70, 16))
    wanted = results(scanned(given, compiled()), given)
    for threads in (2, 3, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        assert_same(results(scanned(given, compiled()), given), wanted, 1e-13)


def test_float32_over_the_whole_range_of_steps() -> None:
    """Steps from e^-40 to 60, gates from -60 to 60: each value to float32 rounding of the float64 one."""
    given = operands(64, ("initial_state",), shape=(1, 4, 16), dtype=torch.float32)
    wide = torch.linspace(-40, 60, given.dt.numel()).view_as(given.dt)
    exact = {name: one.detach().double() for name, one in tensors(given).items()}
    exact |= {"dt": wide.double(), "z": wide.flip(2).double(), "delta_bias": torch.zeros(4).double()}
    small = {name: one.float() for name, one in exact.items()}
    more = {"initial_state": None, "resets": None, "softplus": True}
    wanted, _ = scanned(Operands(**exact, **more), stepwise.BACKEND)
    found, _ = scanned(Operands(**small, **more), compiled())
    torch.testing.assert_close(found.double(), wanted, rtol=2e-5, atol=1e-6)


def test_the_kernels_own_functions_in_float32() -> None:
    """softplus, exp and silu alone, by one step of a scan whose other factors are 1.

    The argument of an exponential is rounded once, relative to its size: 6e-8 x 4 near the middle, and more
    outside.
    """
    wide, small = torch.linspace(-60, 60, 4001), torch.linspace(-1, 1, 4001)
    middle = wide.abs() < 4
    one, row = torch.ones(1, 4001, 1), torch.ones(1, 1, 1)
    more = {"D": None, "delta_bias": None, "resets": None}
    given = Operands(
        one,
        wide[None, :, None],
        torch.zeros(4001, 1),
        row,
        row,
        z=None,
        initial_state=None,
        softplus=True,
        **more,
    )
    for found, wanted in (
        (given, torch.nn.functional.softplus(wide.double())),
        (replace(given, dt=one, z=given.dt, softplus=False), torch.nn.functional.silu(wide.double())),
        (
            replace(given, dt=one, A=small[:, None], B=0 * row, initial_state=one, softplus=False),
            small.double().exp(),
        ),
    ):
        y, _ = scanned(found, compiled())
        found_values = y[0, :, 0].double()
        torch.testing.assert_close(found_values, wanted, rtol=5e-6, atol=0)
        torch.testing.assert_close(found_values[middle], wanted[middle], rtol=4e-7, atol=0)


def test_not_a_number_stays_one() -> None:
    given = operands(5, dtype=torch.float32)
    for name in ("x", "dt", "B", "z"):
        with torch.no_grad():
            broken = getattr(given, name).clone()
            broken[0, 0, 2] = math.nan
            y, _ = scanned(replace(given, **{name: broken}), compiled())
        assert y[0, 0, 2].isnan() and not y[0, 0, 1].isnan() and not y[1].isnan().any(), name


def test_memory_grows_with_the_length_only(backend: Backend) -> None:
    """Kept for the backward pass: x, dt, z and, one state a chunk, N / CHUNK of such a tensor; no [B, D, L, N]."""
    length, (_, channels, states) = 16 * CHUNK, (1, 32, 16)
    given = operands(length, shape=(1, channels, states), dtype=torch.float32)
    kept: dict[int, int] = {}

    def note(one: Tensor) -> Tensor:
        kept[one.untyped_storage().data_ptr()] = one.numel()
        return one

    with torch.autograd.graph.saved_tensors_hooks(note, lambda one: one):
        scanned(given, backend)
    small = 2 * states * length + 3 * channels * states  # B, C; A and the rest
    assert 3 * channels * length < sum(kept.values()) <= (3 + states / CHUNK) * channels * length + small


# ---- the public function ----


def called(given: Operands, **more: Any) -> Any:
    return scan.selective_scan(
        given.x,
        given.dt,
        given.A,
        given.B,
        given.C,
        given.D,
        given.z,
        given.delta_bias,
        given.softplus,
        **more,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    given = operands(2 * CHUNK, dtype=torch.float32)
    halves = {
        name: one.detach().to(dtype)
        for name, one in tensors(given).items()
        if name in ("x", "dt", "B", "C", "z")
    }
    exact = {name: one.float() for name, one in halves.items()}
    low = called(replace(given, **halves), use_mambapy=True)
    assert low.dtype == dtype
    full = called(replace(given, **exact))
    torch.testing.assert_close(low.float(), full, rtol=0.01, atol=0.01)


def test_initial_state_continues_a_sequence() -> None:
    given = operands(50, ("initial_state",))
    whole, last = called(given, return_last_state=True)
    cut = {name: getattr(given, name) for name in ("x", "dt", "B", "C", "z")}
    first = replace(given, **{name: one[..., :21] for name, one in cut.items()})
    second = replace(given, **{name: one[..., 21:] for name, one in cut.items()})
    left, state = called(first, return_last_state=True)
    right, end = called(second, return_last_state=True, initial_state=state)
    torch.testing.assert_close(torch.cat([left, right], dim=2), whole)
    torch.testing.assert_close(end, last)
    for one, other in zip(  # the gradient flows through the border as well
        torch.autograd.grad(right.sum(), tensors(given).values(), allow_unused=True),
        torch.autograd.grad(whole[:, :, 21:].sum(), tensors(given).values(), allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_resets_part_sequences() -> None:
    given = operands(50, ("initial_state",))
    starts = torch.zeros(2, 50, dtype=torch.bool)
    starts[:, 0] = starts[0, 17] = starts[1, 32] = starts[1, 33] = True
    packed = called(given, resets=starts)
    for row, spans in ((0, [(0, 17), (17, 50)]), (1, [(0, 32), (32, 33), (33, 50)])):
        for span in (slice(*ends) for ends in spans):
            parts = {
                name: getattr(given, name)[row : row + 1, :, span] for name in ("x", "dt", "B", "C", "z")
            }
            alone = called(replace(given, **parts))
            torch.testing.assert_close(packed[row : row + 1, :, span], alone)


@pytest.mark.parametrize("name", ["dt", "A", "B", "C", "D", "z", "delta_bias"])
def test_wrong_shapes(name: str) -> None:
    given = operands(5)
    with pytest.raises(ValueError, match=r"it must be|with these"):
        called(replace(given, **{name: torch.zeros(3, 3, 3, dtype=torch.float64)}))


def test_no_graph_where_none_is_wanted() -> None:
    with torch.no_grad():
        assert not called(operands(5)).requires_grad
    with torch.inference_mode():
        assert called(operands(5)).shape == (2, 19, 5)


# ---- under transformers' model ----


@pytest.fixture(scope="module")
def tiny() -> Any:
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=3, state_size=16, time_step_rank=4, pad_token_id=0
    )
    model = MambaForCausalLM(config).eval()
    with torch.no_grad():  # else a tiny model forgets so fast that a lost state would not be seen
        for name, one in model.named_parameters():
            if name.endswith(("in_proj.weight", "x_proj.weight", "embeddings.weight", "conv1d.weight")):
                one.mul_(3)
    return model


@pytest.fixture
def ours(fresh: None, tiny: Any) -> Any:
    assert scan.install()
    return tiny


def ids(length: int, rows: int = 1, seed: int = 0) -> Tensor:
    return torch.randint(1, 60, (rows, length), generator=torch.Generator().manual_seed(seed))


def in_use() -> tuple[Any, ...]:
    return (
        theirs.MambaMixer.forward,
        theirs.mamba_inner_fn,
        theirs.causal_conv1d_fn,
        theirs.mamba_selective_scan,
    )


def loss_and_gradients(model: Any, mask: Tensor | None = None) -> tuple[float, dict[str, Tensor]]:
    model.train().zero_grad()
    batch = ids(45, rows=2)
    loss = model(input_ids=batch, attention_mask=mask, labels=batch).loss
    loss.backward()
    return loss.item(), {name: one.grad.clone() for name, one in model.named_parameters()}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_step(fresh: None, tiny: Any, checkpointing: bool) -> None:
    model = copy.deepcopy(tiny)
    loss, wanted = loss_and_gradients(model)
    assert scan.install() and scan.installed()
    wrapped = in_use()
    assert scan.install()  # a second time changes nothing
    assert wrapped == in_use()
    if checkpointing:
        model.activation_checkpointing_enable()
    found, gradients = loss_and_gradients(model)
    assert found == pytest.approx(loss, rel=1e-5)
    assert_same(gradients, wanted, 1e-4)


@pytest.mark.parametrize("left", [True, False])
def test_training_step_with_padding(fresh: None, tiny: Any, left: bool) -> None:
    mask = torch.ones(2, 45, dtype=torch.long)
    mask[1, slice(0, 11) if left else slice(34, None)] = 0
    loss, wanted = loss_and_gradients(copy.deepcopy(tiny), mask)
    assert scan.install()
    found, gradients = loss_and_gradients(copy.deepcopy(tiny), mask)
    assert found == pytest.approx(loss, rel=1e-5)
    assert_same(gradients, wanted, 1e-4)


def test_training_step_without_a_compiler(fresh: None, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, wanted = loss_and_gradients(copy.deepcopy(tiny))
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(convolution, "library", lambda: None)
    assert scan.install()
    found, gradients = loss_and_gradients(copy.deepcopy(tiny))
    assert found == pytest.approx(loss, rel=1e-5)
    assert_same(gradients, wanted, 1e-4)


def test_training_under_autocast(fresh: None, tiny: Any) -> None:
    """As near to float32 as transformers' own layer is in bfloat16."""

    def gap(gradients: dict[str, Tensor]) -> float:
        return sum((one - exact[name]).norm().item() / exact[name].norm().item() for name, one in gradients.items())

    _, exact = loss_and_gradients(copy.deepcopy(tiny))
    with torch.autocast("cpu", torch.bfloat16):
        _, before = loss_and_gradients(copy.deepcopy(tiny))
        assert scan.install()
        _, after = loss_and_gradients(copy.deepcopy(tiny))
    assert gap(after) < 1.2 * gap(before)


def test_an_adapter_inside_a_layer_is_trained(fresh: None, tiny: Any) -> None:
    """mamba_inner_fn is handed the frozen weight of x_proj; the adapter on it must count all the same."""
    from peft import LoraConfig, get_peft_model

    def adapted() -> Any:
        torch.manual_seed(1)
        targets = ["in_proj", "x_proj"]
        return get_peft_model(
            copy.deepcopy(tiny), LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
        )

    def step() -> tuple[float, dict[str, Tensor]]:
        model = adapted().train()
        loss = model(input_ids=ids(45), labels=ids(45)).loss
        loss.backward()
        return loss.item(), {name: one.grad for name, one in model.named_parameters() if one.requires_grad}

    loss, wanted = step()
    assert scan.install()
    found, gradients = step()
    assert found == pytest.approx(loss, rel=1e-5)
    assert any("x_proj" in name and one.norm() > 0 for name, one in gradients.items())
    assert_same(gradients, wanted, 1e-4)


def test_padding(ours: Any) -> None:
    alone = ours(input_ids=ids(23)).logits
    pad = torch.zeros(1, 9, dtype=torch.long)
    for row, mask, kept in (
        (torch.cat([pad, ids(23)], 1), torch.cat([pad, torch.ones(1, 23)], 1), slice(9, None)),
        (torch.cat([ids(23), pad], 1), torch.cat([torch.ones(1, 23), pad], 1), slice(0, 23)),
    ):
        torch.testing.assert_close(ours(input_ids=row, attention_mask=mask).logits[:, kept], alone)


def test_bfloat16_model(ours: Any) -> None:
    exact = ours(input_ids=ids(40)).logits.log_softmax(-1)
    low = copy.deepcopy(ours).bfloat16()(input_ids=ids(40)).logits.float().log_softmax(-1)
    assert ((low - exact).norm() / exact.norm()).item() < 0.03


@torch.no_grad()
def test_cached_decoding(ours: Any) -> None:
    row = ids(30)
    whole = ours(input_ids=row).logits
    out = ours(input_ids=row[:, :21], use_cache=True)
    for t in range(21, 30):
        out = ours(input_ids=row[:, t : t + 1], cache_params=out.cache_params, use_cache=True)
        torch.testing.assert_close(out.logits[:, 0], whole[:, t], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_several_tokens_after_a_prefix(ours: Any) -> None:
    """One prefix, four questions of unequal length in one padded batch, then a token each: as if read alone."""
    prefix, questions = ids(19), [ids(n, seed=n) for n in (4, 7, 12, 5)]
    cache = ours(input_ids=prefix, use_cache=True).cache_params
    kept = [layer.recurrent_states[0].clone() for layer in cache.layers]
    copied = copy.deepcopy(cache)
    copied.reorder_cache(torch.zeros(4, dtype=torch.long))
    pads = [torch.zeros(1, 12 - one.shape[1], dtype=torch.long) for one in questions]
    batch = torch.cat([torch.cat(pair, 1) for pair in zip(pads, questions, strict=True)])
    mask = torch.cat(
        [torch.cat([pad, torch.ones_like(q)], 1) for pad, q in zip(pads, questions, strict=True)]
    )
    out = ours(input_ids=batch, attention_mask=mask, cache_params=copied, use_cache=True)
    after = ours(input_ids=ids(1, rows=4), cache_params=out.cache_params, use_cache=True).logits
    for i, question in enumerate(questions):
        alone = ours(input_ids=torch.cat([prefix, question, ids(1, rows=4)[i : i + 1]], 1)).logits[0, 19:]
        length = question.shape[1]
        torch.testing.assert_close(out.logits[i, 12 - length :], alone[:-1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(after[i, 0], alone[-1], rtol=1e-4, atol=1e-5)
    for layer, state in zip(cache.layers, kept, strict=True):
        assert torch.equal(layer.recurrent_states[0], state)


@torch.no_grad()
def test_padding_after_a_prefix_that_cannot_be_right(ours: Any) -> None:
    cache = ours(input_ids=ids(9), use_cache=True).cache_params
    for mask, message in (
        ([1, 1, 1, 1, 1, 0], "on the left"),
        ([0, 0, 0, 1, 1, 1], "needs 4 tokens or more, not 3"),
    ):
        with pytest.raises(ModelError, match=message):
            ours(input_ids=ids(6), attention_mask=torch.tensor([mask]), cache_params=copy.deepcopy(cache))


def test_load_base_installs_for_mamba_only(fresh: None, tiny_mamba_dir: Path, tiny_llama_dir: Path) -> None:
    from mark.models.loading import load_base

    load_base(tiny_llama_dir)
    assert not scan.installed()
    load_base(tiny_mamba_dir)
    assert scan.installed()


def test_the_compiled_package_has_precedence(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mamba_ssm", type(sys)("mamba_ssm"))
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops", type(sys)("mamba_ssm.ops"))
    name = "mamba_ssm.ops.selective_scan_interface"
    monkeypatch.setitem(sys.modules, name, type(sys)(name))
    assert not scan.install() and not scan.installed()


# ---- building ----


@pytest.fixture
def other_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and the library forgotten before and after."""
    monkeypatch.delenv("MARK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    building.library.cache_clear()
    yield tmp_path / "mark" / "scan"
    building.library.cache_clear()


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo 'k.cpp:1: error: no such option' >&2; exit 3", "ended with 3: k.cpp:1: error: no such option"),
     ("exit 0", "ended with 0: no message"), (None, "No such file")],
)  # fmt: skip
def test_a_broken_compiler(
    script: str | None, said: str, other_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    compiler = tmp_path / "cc"
    if script is not None:
        compiler.write_text(f"#!/bin/sh\n{script}\n")
        compiler.chmod(0o700)
    monkeypatch.setenv("CXX", str(compiler))
    given = operands(CHUNK + 1)
    with caplog.at_level(logging.INFO):
        found = [called(given) for _ in range(2)]
    assert len(caplog.records) == 1 and said in caplog.text and "install g++" in caplog.text
    torch.testing.assert_close(found[0], scanned(replace(given, initial_state=None), stepwise.BACKEND)[0])
    assert not list(other_cache.glob("*.so"))


def test_no_compiler(other_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert native.backend() is None
    assert "none of g++, c++, clang++ is on the PATH" in caplog.text


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MARK_CACHE", str(tmp_path / "file"))
    building.library.cache_clear()
    assert native.backend() is None
    building.library.cache_clear()
    assert len(caplog.records) == 1


def test_built_once(other_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six at once: one compiler run, and all find the same whole file."""
    compiler, calls = tmp_path / "cc", tmp_path / "calls"
    compiler.write_text(
        f'#!/bin/sh\necho run >> {calls}\nsleep 0.3\nwhile [ "$1" != -o ]; do shift; done\necho made > "$2"\n'
    )
    compiler.chmod(0o700)
    monkeypatch.setenv("CXX", str(compiler))
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(building._built())) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert calls.read_text() == "run\n"
    assert len(made) == 6 and len(set(made)) == 1 and made[0].read_text() == "made\n"
    assert made[0].parent == other_cache and sorted(other_cache.glob("*.so")) == [made[0]]


def test_a_library_that_others_may_write_is_not_loaded(tmp_path: Path) -> None:
    from mark.models.scan.building import _refuse_others

    made = tmp_path / "scan.so"
    made.touch(mode=0o644)
    _refuse_others(made)
    made.chmod(0o666)
    with pytest.raises(OSError, match="not this user's alone"):
        _refuse_others(made)


# ---- GPU ----


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_triton_on_a_gpu(length: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    from mark.models.scan import gpu

    assert gpu.backend() is None
    monkeypatch.setenv("MARK_TRITON_SCAN", "1")
    found = gpu.backend()
    assert found is not None
    given = operands(length, dtype=dtype, resets=True)
    wanted = results(scanned(given, stepwise.BACKEND), given)
    moved = {name: one.detach().cuda().requires_grad_() for name, one in tensors(given).items()}
    assert given.resets is not None
    there = Operands(**moved, resets=given.resets.cuda(), softplus=True)
    y, last = scanned(there, found)
    total = sum(
        (one * torch.linspace(-1, 2, one.numel(), dtype=dtype).view_as(one).cuda()).sum() for one in (y, last)
    )
    gradients = torch.autograd.grad(total, moved.values())
    got = {"y": y, "last": last, **dict(zip(moved, gradients, strict=True))}
    assert_same(
        {name: one.cpu() for name, one in got.items()}, wanted, 1e-5 if dtype == torch.float32 else 1e-12
    )


def test_triton_interpreted() -> None:
    """The kernels' arithmetic in Triton's interpreter, which needs no GPU; in a process of its own."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("needs the package triton")
    program = (
        "from tests.models.test_scan import *\n"
        "from mark.models.scan import gpu\n"
        "for length in (1, 16, 21):\n"
        "    for without in ((), ('D', 'z', 'delta_bias', 'initial_state')):\n"
        "        given = operands(length, without, shape=(2, 9, 5), resets=not without, softplus=not without)\n"
        "        assert_same(results(scanned(given, gpu.BACKEND), given), results(naive(given), given), 1e-12)\n"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
