"""One OpenAI-compatible endpoint over HTTP: retries, limits, and a key that appears nowhere."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx

from mark.config import Llm
from mark.data_prep.llm.cache import Reply
from mark.data_prep.llm.estimate import prompt_tokens
from mark.data_prep.llm.pacing import Pacer
from mark.errors import ConfigError, EndpointError

log = logging.getLogger(__name__)

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_FIRST_WAIT_S = 1.0
_MOST_BYTES = 8 << 20  # of a reply
_HINTS = {
    400: "the endpoint does not know a parameter: see data_prep.llm.reply_limit_key, json_mode, temperature",
    403: "this key may not use the model",
    404: "no such path or model: see data_prep.llm.base_url (it ends before /chat/completions) and model",
}


class Stopped(Exception):
    """Another request failed for good; this one was given up."""


@dataclass(frozen=True)
class _Fault:
    """A try that may succeed later."""

    text: str
    retry_after_s: float | None
    busy: bool  # the endpoint asks everybody to slow down


def read_key(settings: Llm) -> str | None:
    """The key from the environment; None where conf names no variable.

    Raises:
        ConfigError: The variable is not set, or holds what cannot travel in a header.
    """
    name = settings.api_key_env
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {name} that data_prep.llm.api_key_env names is not set; "
            f"`export {name}=...`, or set api_key_env to null for an endpoint without keys"
        )
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ConfigError(
            f"the environment variable {name} holds white space or other than ASCII; set it again"
        )
    return key


def host_of(settings: Llm) -> str:
    """Host and port of the endpoint, as people are told."""
    return urlsplit(settings.base_url or "").netloc


class Endpoint:
    """Sends requests; safe to use from several threads."""

    def __init__(self, settings: Llm, key: str | None, seed: int) -> None:
        """Connect to nothing yet.

        Args:
            settings: The section `data_prep.llm`.
            key: Of `read_key`.
            seed: Of the jitter between tries.
        """
        self._settings = settings
        self._key = key
        self._url = f"{(settings.base_url or '').rstrip('/')}/chat/completions"
        self.host = host_of(settings)
        self._local = _is_local(urlsplit(self._url).hostname or "")
        self._pacer = Pacer(settings.requests_per_minute, settings.tokens_per_minute)
        self._jitter = random.Random(seed)
        self._stop = threading.Event()
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        # A proxy of the environment would be one more host that reads the passages: never for this machine.
        self._client = httpx.Client(
            headers=headers, timeout=settings.timeout_s, trust_env=not self._local, follow_redirects=False,
            limits=httpx.Limits(max_connections=settings.concurrency),
        )  # fmt: skip

    def warn_of_plain_http(self) -> None:
        """Say so where key and passages would travel unencrypted to another machine."""
        if self._url.startswith("http://") and not self._local:
            log.warning(
                "data_prep.llm.base_url is http: passages%s go unencrypted to %s; use https if it offers it",
                "" if self._key is None else " and the key", self.host,
            )  # fmt: skip

    def stop(self) -> None:
        """Wake every waiting request; each ends with `Stopped`."""
        self._stop.set()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(self, body: dict[str, Any]) -> Reply:
        """Send one request, again where that may help.

        Args:
            body: Of `request_body`.

        Raises:
            EndpointError: It refused, or failed `max_tries` times; what was answered before is kept.
            Stopped: `stop` was called meanwhile.
        """
        tokens = prompt_tokens(body) + self._settings.max_reply_tokens
        fault = _Fault("", None, False)
        for number in range(1, self._settings.max_tries + 1):
            self._sleep(self._pacer.reserve(tokens))
            outcome = self._try(body)
            if isinstance(outcome, Reply):
                return outcome
            fault = outcome
            if number < self._settings.max_tries:
                wait = self._wait_s(fault, number)
                log.info("%s: %s; try %d in %.1f s", self.host, fault.text, number + 1, wait)
                if fault.busy:
                    self._pacer.pause(wait)
                self._sleep(wait)
        raise EndpointError(
            f"{self.host} failed {self._settings.max_tries} times, last: {fault.text}; replies so far are "
            "kept: run it again to go on, or raise data_prep.llm.max_tries or timeout_s, or lower "
            "requests_per_minute"
        )

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds) if seconds > 0 else self._stop.is_set():
            raise Stopped

    def _wait_s(self, fault: _Fault, number: int) -> float:
        """What the endpoint asks for; else doubled each time, with half of it left to chance."""
        most = self._settings.max_wait_s
        if fault.retry_after_s is not None:
            if fault.retry_after_s > most:
                raise EndpointError(
                    f"{self.host}: {fault.text} and asks to wait {fault.retry_after_s:.0f} s, longer than "
                    f"data_prep.llm.max_wait_s: {most:g}; replies so far are kept: run it again later"
                )
            return fault.retry_after_s + self._jitter.uniform(0, 0.1 * min(fault.retry_after_s, 10))
        return min(most, _FIRST_WAIT_S * 2.0 ** (number - 1)) * self._jitter.uniform(0.5, 1.0)

    def _try(self, body: dict[str, Any]) -> Reply | _Fault:
        try:
            response, content = self._post(body)
        except httpx.TimeoutException:
            return _Fault(f"no reply within {self._settings.timeout_s:g} s", None, False)
        except httpx.RequestError as fault:
            return _Fault(self._scrubbed(f"{type(fault).__name__}: {fault}"), None, False)
        if response.status_code != 200:
            return self._refusal(response, content)
        return self._reply(content)

    def _post(self, body: dict[str, Any]) -> tuple[httpx.Response, bytes]:
        """The response and its body; `timeout_s` also bounds the whole, not only each silence."""
        deadline = time.monotonic() + self._settings.timeout_s
        parts: list[bytes] = []
        size = 0
        with self._client.stream("POST", self._url, json=body) as response:
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the reply drips", request=response.request)
                if size > _MOST_BYTES:
                    raise httpx.ReadError("the reply is too large", request=response.request)
        return response, b"".join(parts)

    def _refusal(self, response: httpx.Response, content: bytes) -> Reply | _Fault:
        status = response.status_code
        code, message = _error_of(content)
        said = f"HTTP {status}" + (f" ({self._scrubbed(message)})" if message else "")
        if status == 401:  # its message may repeat part of the key
            name = self._settings.api_key_env
            remedy = (
                f"the key in {name} is wrong or expired"
                if name
                else "it wants a key: set data_prep.llm.api_key_env"
            )
            raise EndpointError(f"{self.host} refuses access (HTTP 401): {remedy}")
        if "content_filter" in code or "content_policy" in code:
            return Reply(text="", finish="content_filter", input_tokens=None, output_tokens=None)
        if status == 429 and "quota" in code:
            raise EndpointError(
                f"{self.host}: {said}: the account's credit is used up; replies so far are kept"
            )
        if status in _RETRIED:
            return _Fault(said, _retry_after_s(response.headers), status in (429, 503, 529))
        if 300 <= status < 400:
            raise EndpointError(
                f"{self.host} redirects (HTTP {status}); the key follows no redirect: "
                "set data_prep.llm.base_url to the right address"
            )
        hint = _HINTS.get(status, "see the endpoint's manual")
        raise EndpointError(f"{self.host}: {said}; {hint}")

    def _reply(self, content: bytes) -> Reply | _Fault:
        try:
            value = json.loads(content)
            choice = value["choices"][0]
            text, finish = _content(choice["message"]), str(choice.get("finish_reason") or "")
            usage = value.get("usage") or {}
            counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            _, message = _error_of(content)
            return _Fault(
                f"HTTP 200 without a reply ({self._scrubbed(message or 'body cut or no JSON')})", None, False
            )
        inputs, outputs = (count if isinstance(count, int) and count >= 0 else None for count in counts)
        return Reply(text=self._hidden(text), finish=finish, input_tokens=inputs, output_tokens=outputs)

    def _hidden(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _scrubbed(self, text: str) -> str:
        """One short line without the key."""
        return " ".join(self._hidden(text).split())[:200]


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _content(message: Any) -> str:
    """A message's text: a string, or a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return "" if content is None else str(content)


def _error_of(content: bytes) -> tuple[str, str]:
    """Code and message of an error body; empty where it has another form."""
    try:
        error = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", ""
    if not isinstance(error, dict):
        return "", str(error)
    return f"{error.get('code')} {error.get('type')}".lower(), str(error.get("message") or "")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header: a number, or a date by the clock of who sent it.

    Source: RFC 9110, sections 10.2.3 and 6.6.1 (Date).
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", value):
        return float(value)
    until, sent = _moment(value), _moment(headers.get("date", "")) or datetime.now(UTC)
    return None if until is None else max(0.0, (until - sent).total_seconds())


def _moment(value: str) -> datetime | None:
    """A date as HTTP writes it."""
    try:
        found = parsedate_to_datetime(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
