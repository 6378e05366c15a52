"""One uvicorn process on one socket."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import uvicorn

from mark.config import Serve
from mark.errors import ConfigError
from mark.files import CHUNKS
from mark.ingest.index import read_index
from mark.serve.app import Place, create_app
from mark.serve.limits import patient_protocol
from mark.serve.memory import bound_memory
from mark.serve.security import check_bind, take_tokens

log = logging.getLogger(__name__)

_MAX_HEAD = 16 << 10  # bytes of a request's line and headers
_KEEP_ALIVE_S = 15


def serve(root: Path, settings: Serve) -> None:
    """Serve until SIGTERM or Ctrl-C; what runs then is finished.

    Args:
        root: The project's root.
        settings: Section `serve`, with the flags of the command laid over it.

    Raises:
        ConfigError: The address needs a token, or cannot be listened on.
        DataError: Nothing was ingested.
    """
    bound_memory()
    tokens = take_tokens()
    check_bind(settings.host, tokens.ask)
    read_index(root / CHUNKS.parent)  # what is missing is said before anything is served
    with bound_socket(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info(
            "serving on http://%s:%d (%s)", shown, port, "with a token" if tokens.ask else "without a token"
        )
        make_server(Place(root, settings.host, tokens), settings).run(sockets=[listener])


def make_server(place: Place, settings: Serve) -> uvicorn.Server:
    """uvicorn with this project's limits."""
    config = uvicorn.Config(
        create_app(place, settings),
        http=patient_protocol(settings.read_timeout_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.shutdown_s,
        h11_max_incomplete_event_size=_MAX_HEAD,
    )
    return uvicorn.Server(config)


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: The address is wrong or in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as fault:
        why = fault.strerror or fault
        raise ConfigError(
            f"serve.host {host}, serve.port {port}: {why}; choose others with --host, --port"
        ) from None
