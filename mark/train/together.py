"""What the processes of one training do together: join, agree, add up, leave. Alone, they do nothing.

Numbers travel as tensors over gloo, also where gradients travel over NCCL.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from mark.errors import MarkError
from mark.train.hardware import training_device
from mark.train.processes import processes, processes_here, rank, settle_launch, take_over_shards

_TOKEN = "together"  # a file that shows whether all processes see one folder
_VISIBLE_S = 10.0  # a network file system may show a new file late


@contextmanager
def joined(key: str) -> Iterator[None]:
    """Join the other processes for the duration.

    Args:
        key: Of the run; all processes must have the same code, settings and data.

    Raises:
        MarkError: They have not.
        ConfigError: They were launched for something else.
    """
    settle_launch()
    if processes() == 1:
        yield
        return
    take_over_shards()
    device = training_device()
    if device.type == "cuda":
        _check_gpus()
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    _check_key(key)
    yield
    # Not after a fault: the others wait for this process until their launcher ends them.
    dist.destroy_process_group()


def agreed(number: int) -> int:
    """The first process's number, in every process."""
    if processes() == 1:
        return number
    value = torch.tensor([number], dtype=torch.int64)
    dist.broadcast(value, src=0)
    return int(value.item())


def smallest(number: int) -> int:
    """The smallest of all processes' numbers."""
    if processes() == 1:
        return number
    value = torch.tensor([number], dtype=torch.int64)
    dist.all_reduce(value, op=dist.ReduceOp.MIN)
    return int(value.item())


def summed(numbers: Sequence[float]) -> list[float]:
    """The sums of all processes' numbers, the same bits in every process."""
    if processes() == 1:
        return list(numbers)
    values = torch.tensor(list(numbers), dtype=torch.float64)
    dist.all_reduce(values)
    return [float(value) for value in values]


def meet() -> None:
    """Wait for all processes."""
    agreed(0)
    smallest(0)


def check_shared(folder: Path) -> None:
    """The first process writes the checkpoints, from which all of them go on: they must see one folder.

    Raises:
        MarkError: They do not.
    """
    if processes() == 1:
        return
    token = folder / _TOKEN
    number = agreed(time.time_ns())
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        token.write_text(str(number), encoding="ascii")
    meet()
    seen = smallest(int(_reads(token, str(number))))
    if rank() == 0:
        token.unlink(missing_ok=True)
    if not seen:
        raise MarkError(
            f"the machines of this training do not share the folder of checkpoints ({folder}); put the "
            "project on a file system that all of them mount, or set paths.checkpoints to one"
        )


def check_alike(bf16: bool) -> None:
    """All processes must multiply in one precision, of which the entry tells.

    Raises:
        MarkError: They do not.
    """
    first = agreed(int(bf16))
    if smallest(int(first == int(bf16))) == 0:
        raise MarkError(
            "some machines of this training multiply bfloat16 natively and others do not; set "
            "train.precision to fp32 or bf16"
        )


def _check_gpus() -> None:
    found = torch.cuda.device_count()
    if processes_here() > found:
        raise MarkError(
            f"{processes_here()} processes were started on this machine and it shows {found} GPU(s); start "
            "one a GPU, or set CUDA_VISIBLE_DEVICES= to train on the processor"
        )


def _check_key(key: str) -> None:
    first = agreed(int(key[:15], 16))
    if smallest(int(first == int(key[:15], 16))) == 0:
        raise MarkError(
            "the processes of this training differ in code, settings or data; bring all machines to one "
            "commit and the same data/ and models/base/ (`dvc pull`)"
        )


def _reads(token: Path, text: str) -> bool:
    until = time.monotonic() + _VISIBLE_S
    while True:
        try:
            if token.read_text(encoding="ascii") == text:
                return True
        except OSError:
            pass
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
