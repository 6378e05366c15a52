"""Who may ask: the token, the addresses to listen on, the hosts and origins that are answered."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mark.errors import ConfigError
from mark.serve.errors import ApiError, error_response

TOKEN = "MARK_TOKEN"
REVIEW_TOKEN = "MARK_REVIEW_TOKEN"
REVIEW_PATHS = frozenset({"/v1/feedback/inbox", "/v1/feedback/review"})
OPEN_PATHS = frozenset({"/healthz", "/readyz"})  # without a token: they tell nothing but up or not
_MIN_TOKEN = 16
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Tokens:
    """Who is let in.

    Attributes:
        ask: Everybody's; None: none is asked for.
        review: The reviewers', who may do all that others may and alone see and decide feedback; None:
            everybody's token does.
    """

    ask: str | None = None
    review: str | None = None


def take_tokens() -> Tokens:
    """The tokens of the environment, taken out of it: no process that is started from here inherits them.

    Raises:
        ConfigError: One is too short to be one, or both are the same.
    """
    tokens = Tokens(_taken(TOKEN), _taken(REVIEW_TOKEN))
    if tokens.review is not None and tokens.review == tokens.ask:
        raise ConfigError(f"{REVIEW_TOKEN} is {TOKEN}: make another one, or leave it out")
    return tokens


def _taken(name: str) -> str | None:
    token = os.environ.pop(name, "").strip()
    if not token:
        return None
    if len(token) < _MIN_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(
            f"{name} is no token: at least {_MIN_TOKEN} ASCII characters without a space are needed; "
            'make one with `python -c "import secrets; print(secrets.token_urlsafe(32))"`'
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_bind(host: str, token: str | None) -> None:
    """Refuse to serve a network without a token.

    Raises:
        ConfigError: One line with both ways out.
    """
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"serve.host: {host} can be reached from other machines; set {TOKEN} in the environment, "
            "or serve 127.0.0.1"
        )


class Guard:
    """Refuses foreign hosts, foreign origins and requests without the token, before anything is read."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        hosts: frozenset[str] | None,
        open_paths: frozenset[str] = OPEN_PATHS,
    ) -> None:
        """Wrap an application.

        Args:
            app: What is guarded.
            tokens: Who is let in.
            hosts: Allowed names in a Host header, without port; None = any.
            open_paths: Answered without a token: OPEN_PATHS and the page's files, which hold no data.
        """
        self._app, self._hosts, self._open = app, hosts, open_paths
        self._reviewers = _digests(tokens.review or tokens.ask)
        self._known = () if tokens.ask is None else _digests(tokens.ask, tokens.review)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 401, 403 or 404."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fault = self._fault(Headers(scope=scope), scope["method"], scope["path"])
        if fault is None:
            await self._app(scope, receive, send)
        else:
            await error_response(fault)(scope, receive, send)

    def _fault(self, headers: Headers, method: str, path: str) -> ApiError | None:
        if any(unicodedata.category(char) == "Cc" for char in path):
            # a route's pattern also matches before a line end: such a path would lead where it does not name
            return ApiError(404, "no path holds a control character", "not_found")
        host = headers.get("host", "")
        if self._hosts is not None and _name(host) not in self._hosts:  # DNS rebinding
            return ApiError(403, "this server is not known by that Host (serve.allowed_hosts)", "host")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.casefold() != host.casefold():
            return ApiError(403, "requests of other web sites are refused", "origin")
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if foreign and not (path in self._open and _follows_link(headers, method)):
            return ApiError(403, "requests of other web sites are refused", "origin")
        asked = self._reviewers if path in REVIEW_PATHS else self._known
        if not asked or path in self._open or _knows(asked, headers.getlist("authorization")):
            return None
        return _unauthorized()


class ReviewersOnly:
    """Lets in who may review: a dependency of the routes themselves, whatever path led to them."""

    def __init__(self, tokens: Tokens) -> None:
        """Without any token nobody is let in.

        Args:
            tokens: Who is let in.
        """
        self._known = _digests(tokens.review or tokens.ask)

    async def __call__(self, request: Request) -> None:
        """Pass a request on.

        Raises:
            ApiError: 401 without the token, 403 where the server has none.
        """
        if not self._known:
            raise ApiError(
                403,
                f"no reviews without a token; start the server with {REVIEW_TOKEN} or {TOKEN} in its "
                "environment, or run `mark feedback review`",
                "no_token",
            )
        if not _knows(self._known, request.headers.getlist("authorization")):
            raise _unauthorized()


class SecureHeaders:
    """Puts the security headers on every response, errors too; no CORS header is ever sent."""

    def __init__(self, app: ASGIApp, revalidated: frozenset[str] = frozenset()) -> None:
        """Wrap an application.

        Args:
            app: Its responses carry the headers.
            revalidated: Paths that hold no data: a browser may keep them, and asks whether they have changed.
        """
        self._app, self._revalidated = app, revalidated
        self._headers = _encoded(SECURITY_HEADERS)
        self._page_headers = _encoded(SECURITY_HEADERS | {"cache-control": "no-cache"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        headers = self._page_headers if scope.get("path") in self._revalidated else self._headers

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    pair for pair in message["headers"] if pair[0].decode().lower() not in SECURITY_HEADERS
                ]
                message["headers"] = [*kept, *headers]
            await send(message)

        await self._app(scope, receive, send_secured if scope["type"] == "http" else send)


def allowed_hosts(bound: str, extra: list[str]) -> frozenset[str] | None:
    """Names that a Host header may hold: those of loopback, where this is bound to it, and the set ones.

    Returns:
        None, any, where the server listens to other machines and nothing is set: the token guards it.
    """
    names = {name.casefold() for name in extra}
    if is_loopback(bound):
        return frozenset({*names, *_LOOPBACK_NAMES, bound})
    return frozenset(names) if names else None


def _name(host: str) -> str:
    """A Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _follows_link(headers: Headers, method: str) -> bool:
    """Whether a browser opens the page itself, in a tab: no script of the other site reads what comes."""
    opened = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return opened and method in ("GET", "HEAD")


def _unauthorized() -> ApiError:
    return ApiError(
        401,
        "the token is missing or wrong; send `Authorization: Bearer TOKEN`",
        "invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _knows(digests: Sequence[bytes], given: list[str]) -> bool:
    """Compares digests in constant time: neither content nor length of a token shows in it."""
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    found = _digest(token.strip().encode("utf-8", "replace"))
    right = [hmac.compare_digest(found, digest) for digest in digests]
    return any(right) and scheme.casefold() == "bearer"


def _digests(*tokens: str | None) -> tuple[bytes, ...]:
    return tuple(_digest(token.encode()) for token in tokens if token is not None)


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
