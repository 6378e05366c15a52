"""Our scan in the place of transformers' own, without a copy of its model code.

transformers' `MambaMixer.forward` looks `mamba_selective_scan` up in its module at each call, so that setting
that name is enough. So it does `causal_conv1d_fn` and, in training, `mamba_inner_fn` (see inner.py). The mixer's
forward is wrapped too: they have to know which layer runs and, after a cache that is not empty, what it goes on
from (see continuing.py).
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor

from mark.models.scan import continuing
from mark.models.scan.inner import mamba_inner
from mark.models.scan.selective import selective_scan

log = logging.getLogger(__name__)


def install() -> bool:
    """Let every Mamba model of this process use our scan; a second call changes nothing.

    Returns:
        Whether it is used: not where `mamba_ssm`'s compiled one can be imported, which transformers takes.
    """
    theirs = _modelling()
    if theirs.mamba_selective_scan is _scan:
        return True
    if _compiled_package():
        log.info("mamba_ssm is installed: its compiled scan is used")
        return False
    functools.update_wrapper(_scan, theirs.mamba_selective_scan)
    theirs.mamba_selective_scan = _scan
    theirs.mamba_inner_fn = functools.update_wrapper(functools.partial(mamba_inner), theirs.mamba_inner_fn)
    theirs.causal_conv1d_fn = continuing.convolution(theirs.causal_conv1d_fn)
    theirs.MambaMixer.forward = continuing.mixer_forward(theirs.MambaMixer.forward)
    return True


def installed() -> bool:
    """Whether our scan is used; then several tokens can be read after a cache that is not empty."""
    return _modelling().mamba_selective_scan is _scan


def transformers_scan() -> Callable[..., Any]:
    """transformers' own function, whether or not ours is installed; for tests and measurements."""
    found: Any = _modelling().mamba_selective_scan
    original: Callable[..., Any] = getattr(found, "__wrapped__") if found is _scan else found  # noqa: B009
    return original


def _scan(*args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, Tensor]:
    """`selective_scan` with what the mixer that runs now goes on from."""
    now = continuing.current()
    if now is None:
        return selective_scan(*args, **kwargs)
    hidden_states, dt, *others = args
    return selective_scan(hidden_states, now.frozen(dt), *others, initial_state=now.state, **kwargs)


def _modelling() -> Any:
    return importlib.import_module("transformers.models.mamba.modeling_mamba")


def _compiled_package() -> bool:
    """As transformers looks for it; a build for another torch raises one of these."""
    try:
        importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    except (ImportError, OSError, RuntimeError, AttributeError):
        return False
    return True
