"""How the frozen weights of a base model are held in memory: whole, in 4 bits, or in shards."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mark.errors import MarkError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Storage:
    """By default whole, on one device.

    Attributes:
        four_bit: In NF4, four bits a weight, through bitsandbytes.
        shards: Processes that each hold a part of every layer and lend it to the others while they need it
            (FSDP2); all of them load the model together.
        spread: Layer by layer over all GPUs of this machine.

    Source: Dettmers et al. 2023, arXiv 2305.14314 (NF4, double quantisation).
    """

    four_bit: bool = False
    shards: int = 1
    spread: bool = False

    @property
    def placed(self) -> bool:
        """Whether loading puts the weights where they stay."""
        return self.four_bit or self.shards > 1 or self.spread

    @classmethod
    def named(cls, quantization: str, device_map: str) -> Storage:
        """What section `model` says."""
        return cls(four_bit=quantization == "nf4", spread=device_map == "auto")

    def check(self, device: torch.device) -> None:
        """Refuse what this machine cannot do.

        Raises:
            MarkError: 4 bits without CUDA or bitsandbytes, or together with shards.
        """
        if not self.four_bit:
            return
        if device.type != "cuda":
            raise MarkError(
                "4-bit weights need a CUDA GPU and this machine shows none; set quantization to none"
            )
        if find_spec("bitsandbytes") is None:
            raise MarkError("bitsandbytes is not installed: run `pip install bitsandbytes`")
        if self.shards > 1:
            raise MarkError(
                "4-bit weights are not cut into shards; launch with conf/accelerate/ddp.yaml, or set "
                "train.quantization to none"
            )

    def arguments(self, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
        """What transformers' `from_pretrained` is told."""
        if self.four_bit:
            from transformers import BitsAndBytesConfig

            config = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
            return {"quantization_config": config, "device_map": "auto" if self.spread else {"": device}}
        if self.shards > 1:
            from transformers.distributed import DistributedConfig

            return {"distributed_config": DistributedConfig(fsdp_size=self.shards)}
        return {"device_map": "auto"} if self.spread else {}


WHOLE = Storage()


def refuse_placed(storage: Storage, what: str) -> None:
    """Refuse work that needs the base's weights whole on one device.

    Args:
        storage: Of the base.
        what: Opens the sentence, e.g. `RLHF`.

    Raises:
        MarkError: They are not.
    """
    if storage.placed:
        raise MarkError(
            f"{what} needs the base's weights whole on one device; set model.quantization to none and "
            "model.device_map to one"
        )


def is_placed(model: nn.Module) -> bool:
    """Whether a model, plain or with an adapter, has its weights in 4 bits, in shards or spread."""
    spread = getattr(model, "hf_device_map", None)
    return bool(getattr(model, "is_quantized", False)) or spread is not None or is_sharded(model)


def is_sharded(model: nn.Module) -> bool:
    """Whether a model, plain or with an adapter, was loaded in shards."""
    return bool(getattr(model, "is_distributed_loading_by_transformers", False))
