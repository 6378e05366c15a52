"""Which of the processes that train together this one is: torchrun and `accelerate launch` say so."""

from __future__ import annotations

import os

from mark.errors import ConfigError

_LAUNCH = "ACCELERATE_USE_FSDP"  # set by `accelerate launch`, read by accelerate
_OURS = "MARK_SHARDS"
_COMPILER = "ACCELERATE_DYNAMO_BACKEND"
_OTHER_WAYS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}


def rank() -> int:
    """This process's number among those that train together, 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """How many processes train together, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def processes_here() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def wants_shards() -> bool:
    """Whether the base model is to be cut into shards (FSDP2), as conf/accelerate/fsdp2.yaml says."""
    return processes() > 1 and any(os.environ.get(name, "").lower() == "true" for name in (_LAUNCH, _OURS))


def take_over_shards() -> None:
    """Keep accelerate from cutting the model: transformers does, while each process loads its part."""
    if wants_shards():
        os.environ[_OURS] = os.environ.pop(_LAUNCH, "true")


def settle_launch() -> None:
    """Leave of accelerate's configuration only what starts processes: the rest would change results unseen.

    Raises:
        ConfigError: It asks for another way of training together than those that are offered.
    """
    for name, way in _OTHER_WAYS.items():
        if os.environ.get(name, "").lower() in ("1", "true", "yes"):
            raise ConfigError(
                f"accelerate's configuration asks for {way} ({name}); launch with --config_file "
                "conf/accelerate/ddp.yaml or conf/accelerate/fsdp2.yaml"
            )
    os.environ.pop(_COMPILER, None)
    if processes() == 1:  # nothing to share out
        os.environ.pop(_LAUNCH, None)
