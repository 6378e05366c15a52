"""`mark serve`."""

from __future__ import annotations

from pathlib import Path

from mark.config import PARAMS, Serve, load_section, validate


def run_server(host: str | None, port: int | None, root: Path) -> None:
    """Serve until it is stopped.

    Args:
        host: Instead of `serve.host`.
        port: Instead of `serve.port`.
        root: The project's root.

    Raises:
        ConfigError: See `mark.serve.server.serve`.
        DataError: Nothing was ingested.
    """
    from mark.serve.server import serve

    settings = load_section(Serve, "serve", root / PARAMS)
    changes = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    serve(root, validate(Serve, settings.model_dump() | changes, "serve", Path("command line")))
