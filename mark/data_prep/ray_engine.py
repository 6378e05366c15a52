"""The work on documents on a Ray cluster; see `mark.data_prep.engine`.

Workers are given whole documents and give back what the rules, or the embedder, make of them. The process
that started them chooses, counts and writes, so the outputs are those of the local engine: questions to the
byte, token vectors where the machines compute alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mark.cluster import Job, Pool, in_order
from mark.cluster.sameness import package_sha256, package_versions
from mark.config import RayCluster
from mark.data_prep.asking import Asking, Documents, Found
from mark.data_prep.ray_worker import Asker, Encoder, Texts, encoder_versions, texts_of
from mark.records import Chunk
from mark.retrieval.late import PartMaker, TokenPart


class OnRay:
    """A cluster; see `mark.data_prep.engine.Engine`."""

    def __init__(self, ray: Any, cluster: RayCluster) -> None:
        """Use a cluster.

        Args:
            ray: See `mark.cluster.connected`.
            cluster: How many workers, of how many cores.
        """
        self._ray = ray
        self._cluster = cluster

    def questions(self, corpus: Iterable[Documents], asking: Asking) -> Iterator[Found]:
        """See `Engine`.

        Raises:
            MarkError: A worker cannot work, or failed.
        """
        job = Job("data_prep", Asker, (asking, package_sha256(), package_versions(())))
        with Pool[Documents, list[Found]](self._ray, job, self._cluster) as pool:
            for part in in_order(pool, corpus):
                yield from (
                    replace(found, source=replace(found.source, casing=asking.casing)) for found in part
                )

    def token_vectors(self, embedder: Path) -> PartMaker | None:
        """See `Engine`.

        Raises:
            MarkError: As soon as they are made: a worker cannot work, or failed.
        """

        def make(documents: Iterable[Sequence[Chunk]]) -> Iterator[TokenPart]:
            job = Job("data_prep", Encoder, (
                str(embedder.resolve()), self._cluster.threads, package_sha256(),
                encoder_versions(embedder),
            ))  # fmt: skip
            with Pool[Texts, TokenPart](self._ray, job, self._cluster) as pool:
                yield from in_order(pool, (texts_of(chunks) for chunks in documents))

        return make
