"""Pipelines in memory: loaded when asked for, replaced in the background when their files change."""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from mark.errors import MarkError
from mark.files import ADAPTER, CHAMPION, MODELS
from mark.models.faults import first_line
from mark.pipeline.auto import AutoPipeline
from mark.serve.schema import AUTO

log = logging.getLogger(__name__)

Signature = tuple[int, int, int] | None  # inode, size, time of change; None: no such file


class PipelinePool:
    """At most `keep` pipelines; the one that was asked last stays.

    `get` is called by the one thread that answers, `refresh` by the one that looks for changes. Who holds a
    pipeline keeps it until he is done: a replaced one ends its answers and is freed then.
    """

    def __init__(self, root: Path, keep: int) -> None:
        """Nothing is loaded yet.

        Args:
            root: The project's root.
            keep: `serve.models_in_memory`.
        """
        self._root, self._keep = root, keep
        self._loaded: OrderedDict[str, tuple[Signature, AutoPipeline]] = OrderedDict()
        self._lock = Lock()

    @property
    def names(self) -> list[str]:
        """What was asked for and is in memory."""
        with self._lock:
            return list(self._loaded)

    def get(self, name: str) -> AutoPipeline:
        """The pipeline of a model, loaded where it is not in memory; others give way to it first.

        Raises:
            MarkError: It does not load.
        """
        with self._lock:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                return self._loaded[name][1]
            while len(self._loaded) >= self._keep:
                gone, _ = self._loaded.popitem(last=False)
                log.info("%s leaves the memory for %s", gone, name)
        loaded = self._load(name)
        with self._lock:
            self._loaded[name] = loaded
        return loaded[1]

    def refresh(self) -> list[str]:
        """Load again what has changed on the disk, then put it in place of the old one.

        Returns:
            What was replaced. A model that does not load leaves the old one where it is; it is tried again.
        """
        replaced = []
        for name in self.names:
            with self._lock:
                before = self._loaded.get(name)
            now = self._signature(name)
            if before is None or now is None or now == before[0]:
                continue
            try:
                fresh = self._load(name)
            except MarkError as fault:
                log.warning("%s has changed but does not load, the old stays: %s", name, first_line(fault))
                continue
            with self._lock:
                if name in self._loaded:
                    self._loaded[name] = fresh
                    replaced.append(name)
                    log.info("%s was replaced: %s answers", name, fresh[1].model)
        return replaced

    def _load(self, name: str) -> tuple[Signature, AutoPipeline]:
        seen = self._signature(name)  # before loading: a change meanwhile is loaded again
        return seen, AutoPipeline(self._root, None if name == AUTO else name)

    def _signature(self, name: str) -> Signature:
        return file_signature(self._root / (CHAMPION if name == AUTO else MODELS / name / ADAPTER))


def file_signature(path: Path) -> Signature:
    """What changes with a file's content, without reading it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
