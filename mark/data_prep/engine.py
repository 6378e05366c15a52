"""Where the work on documents is done: in this process, or by the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from mark.config import DataPrep
from mark.data_prep.asking import Asking, Documents, Found, ask_here
from mark.retrieval.late import PartMaker


class Engine(Protocol):
    """What is done document by document; the results are the same wherever it is done."""

    def questions(self, corpus: Iterable[Documents], asking: Asking) -> Iterator[Found]:
        """All questions of the rules, in the order of the documents."""
        ...

    def token_vectors(self, embedder: Path) -> PartMaker | None:
        """Makes token vectors with an embedder; None = the retriever does."""
        ...


class Here:
    """This process."""

    def questions(self, corpus: Iterable[Documents], asking: Asking) -> Iterator[Found]:
        """See `Engine`."""
        return ask_here(corpus, asking)

    def token_vectors(self, embedder: Path) -> PartMaker | None:
        """See `Engine`."""
        return None


@contextmanager
def engine_of(settings: DataPrep) -> Iterator[Engine]:
    """What `data_prep.engine` says, for the duration.

    Raises:
        MarkError: Ray is not installed, or the cluster does not answer.
    """
    if settings.engine == "local":
        yield Here()
        return
    from mark.cluster import connected
    from mark.data_prep.ray_engine import OnRay

    with connected(settings.ray.address, "data_prep") as ray:
        yield OnRay(ray, settings.ray)
