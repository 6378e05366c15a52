"""The web page: its files lie in `static/`, are read once and served from memory."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

STATIC = Path(__file__).with_name("static")
HOME = "/"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class WebFile:
    """One file of the page."""

    content: bytes
    media_type: str
    etag: str


def web_files(folder: Path = STATIC) -> dict[str, WebFile]:
    """The page's files by the path that a browser asks for.

    Args:
        folder: Its files; those of other types than a page needs are left out.

    Returns:
        `/static/NAME` for each, and `/` for index.html.
    """
    found = {f"/static/{path.name}": _read(path) for path in folder.iterdir() if path.suffix in _TYPES}
    return {HOME: found["/static/index.html"], **found}


def web_router(files: Mapping[str, WebFile]) -> APIRouter:
    """A route for each file: no text of a client is looked up.

    Args:
        files: What `web_files` read.
    """
    routes = APIRouter()
    for path, file in files.items():
        routes.add_api_route(path, _sender(file), methods=["GET", "HEAD"], include_in_schema=False)
    return routes


def _read(path: Path) -> WebFile:
    content = path.read_bytes()
    return WebFile(content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _sender(file: WebFile) -> Callable[[Request], Awaitable[Response]]:
    headers = {"etag": file.etag}

    async def send(request: Request) -> Response:
        known = [
            tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")
        ]
        if file.etag in known or known == ["*"]:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    return send
