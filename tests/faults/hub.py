"""A model hub of one repository on loopback: what it lists, and what it sends, which a test may damage."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPO, COMMIT = "tests/tiny", "c" * 40
_LARGE = (".safetensors",)  # kept by git-lfs, under their sha256; other files by git, under its SHA-1


@dataclass
class Hub:
    """The repository's files as they were committed, and those that are sent otherwise."""

    files: dict[str, bytes]
    damaged: dict[str, bytes] = field(default_factory=dict)
    url: str = ""

    def listing(self) -> list[dict[str, object]]:
        """The commit's tree, as the hub's API tells it."""
        return [self._listed(name, content) for name, content in self.files.items()]

    def _listed(self, name: str, content: bytes) -> dict[str, object]:
        row: dict[str, object] = {
            "type": "file",
            "path": name,
            "size": len(content),
            "oid": git_sha1(content),
        }
        if name.endswith(_LARGE):
            row["lfs"] = {
                "oid": hashlib.sha256(content).hexdigest(),
                "size": len(content),
                "pointerSize": 130,
            }
        return row


def git_sha1(content: bytes) -> str:
    """The id of a blob. Source: Git's documentation, gitformat-pack and hash-object."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.split("?")[0]
        files = f"/{REPO}/resolve/{COMMIT}/"
        name = path.removeprefix(files)
        if path == f"/api/models/{REPO}/tree/{COMMIT}":
            self._send(200, json.dumps(self.hub.listing()).encode(), "application/json")
        elif path.startswith(files) and name in self.hub.files:
            content = self.hub.damaged.get(name, self.hub.files[name])
            self._send(200, content, "application/octet-stream", git_sha1(self.hub.files[name]))
        else:
            self._send(404, b"{}", "application/json")

    def _send(self, status: int, content: bytes, kind: str, tag: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        if tag is not None:
            self.send_header("ETag", f'"{tag}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """A hub with the files of a folder."""
    hub = Hub({path.name: path.read_bytes() for path in folder.iterdir() if path.name != "SOURCE.json"})
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield hub
        finally:
            server.shutdown()
