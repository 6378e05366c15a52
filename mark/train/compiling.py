"""Whether a training's steps are compiled and recorded; see `mark.train.fixed_step`."""

from __future__ import annotations

import logging
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from mark.config import Train
from mark.errors import ConfigError
from mark.models.packed_attention import attention_fits
from mark.models.storage import is_placed
from mark.train.processes import processes

if TYPE_CHECKING:
    from peft import PeftModel

log = logging.getLogger(__name__)
_ROTARY = ("default", "linear", "llama3", "yarn")  # others look at a batch's positions and wait for them


def wants_fixed_steps(model: PeftModel, settings: Train, device: torch.device) -> bool:
    """Whether `train.compile` and the machine have steps compiled; `auto` logs what keeps a GPU from it.

    Raises:
        ConfigError: `on`, and it cannot be.
    """
    if settings.compile == "off" or (settings.compile == "auto" and device.type != "cuda"):
        return False
    hindrance = _hindrance(model, settings, device)
    if hindrance is None:
        return True
    if settings.compile == "on":
        raise ConfigError(f"train.compile: on found, but {hindrance}; set auto or off")
    log.info("train.compile: steps are not compiled, since %s", hindrance)
    return False


def _hindrance(model: PeftModel, settings: Train, device: torch.device) -> str | None:
    config: Any = model.config
    rotary = getattr(config, "rope_parameters", None) or {}
    checks = (
        (device.type == "cuda", "this machine shows no CUDA GPU"),
        (processes() == 1, "several processes train together"),
        (not settings.lora.lora_dropout, "train.lora.lora_dropout is not 0"),
        (not is_placed(model), "the base is in 4 bits, in shards or spread over GPUs"),
        (attention_fits(model, settings.max_seq_length), "the model's attention is not a causal mask alone"),
        (rotary.get("rope_type", "default") in _ROTARY, "the model's positions depend on a batch's length"),
        (find_spec("triton") is not None, "Triton is not installed"),
        (any(map(shutil.which, ("cc", "gcc", "clang"))), "there is no C compiler, which Triton needs"),
    )
    return next((reason for fine, reason in checks if not fine), None)
