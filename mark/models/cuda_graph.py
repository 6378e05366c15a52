"""GPU work that is recorded once and then started as one launch: small kernels cost more to start than to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

_WARM_UP = 3  # runs that settle what is compiled, chosen or allocated at first use


def recorded(
    work: Callable[[], object],
    device: torch.device,
    pool: Any = None,
    mode: Literal["global", "thread_local"] = "global",
) -> Callable[[], object]:
    """What does the same work again on the same tensors; on a CPU the work itself.

    On CUDA the work runs four times before this returns, the last time for the record alone. It must read and
    write tensors that stay where they are, wait for nothing and have the same shapes each time.

    Args:
        work: Takes its inputs from such tensors and leaves its results in them.
        device: Where it runs.
        pool: Memory that several records share, of `torch.cuda.graph_pool_handle`; None = its own.
        mode: `thread_local` where other threads may use the GPU meanwhile.
    """
    if device.type != "cuda":
        return work
    with torch.cuda.device(device):
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode=mode):
            work()
    replay: Callable[[], object] = graph.replay
    return replay
