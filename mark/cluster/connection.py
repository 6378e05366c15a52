"""The connection to a Ray cluster, for the duration of a stage."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mark.errors import MarkError

_CONNECT_S = 10.0


@contextmanager
def connected(address: str | None, section: str) -> Iterator[Any]:
    """Ray, connected to a cluster or to one of this machine alone.

    Args:
        address: HOST:PORT, or auto; None = a cluster for the duration.
        section: The section of the settings that asks for it, which messages name.

    Raises:
        MarkError: Ray is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # leave the machine's own variables alone
    try:
        import ray
    except ImportError:
        raise MarkError(
            f"Ray is not installed: run `pip install ray`, or set {section}.engine to local"
        ) from None
    try:
        _check_answers(address)
        ray.init(
            address=address, include_dashboard=False if address is None else None, log_to_driver=False,
            logging_level=logging.ERROR,
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as fault:
        first = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
        raise MarkError(
            f"no Ray cluster answers at {section}.ray.address {address} ({first}); start one with "
            "`ray start --head`, or set it to null"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Ray itself tries for minutes to reach a machine that is not there.

    Raises:
        OSError: Nothing listens at HOST:PORT.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "/" not in host:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S):
            pass
