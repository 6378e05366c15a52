"""How much memory the server's process and those that it starts take."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType

import psutil


class Watch(threading.Thread):
    """Looks at this process and its children while something runs; largest sizes in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._me, self._ends = psutil.Process(), threading.Event()
        self.before = self.mine = self._me.memory_info().rss
        self.child = 0

    def run(self) -> None:
        mine = self._me.cmdline()
        while not self._ends.wait(0.02):
            self.mine = max(self.mine, self._me.memory_info().rss)
            for child in self._me.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.cmdline() in (
                        mine,
                        [],
                    ):  # forked and not yet another program: it shares our pages
                        continue
                    self.child = max(self.child, child.memory_info().rss)

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self.join()
