"""Work on a Ray cluster: a connection, a pool that outlives lost workers, and whether machines are alike."""

from __future__ import annotations

from mark.cluster.connection import connected
from mark.cluster.pool import Begun, Fault, Job, Pool, in_order

__all__ = ["Begun", "Fault", "Job", "Pool", "connected", "in_order"]
