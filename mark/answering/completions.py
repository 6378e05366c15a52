"""Greedy completions of token ids from an OpenAI-compatible server, each token with its log probability.

Two dialects of `/v1/completions` say which tokens were written and how likely each was:

- vLLM: `logprobs.tokens` as `token_id:N` (on `return_tokens_as_token_ids`), `token_logprobs`, `top_logprobs`;
- llama.cpp's llama-server: `logprobs.content`, a list of `{id, logprob, top_logprobs}`.

A server that says neither is refused: nothing is guessed from text.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from mark.config import SETUP_MODE, AnswerServer, setup_mode
from mark.errors import ConfigError, EndpointError, GuardError

log = logging.getLogger(__name__)

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_MOST_WAIT_S = 60.0  # between two tries
_MOST_BYTES = 32 << 20  # of a reply
_BACKOFF = wait_random_exponential(multiplier=1.0, max=_MOST_WAIT_S)
_TOKEN_ID = re.compile(r"token_id:(\d+)")
_TOPS = 2  # likeliest tokens told at each place; the probe looks at the second


@dataclass(frozen=True)
class Token:
    """A written token.

    Attributes:
        id: Its number in the vocabulary.
        logprob: Natural log of its probability, before any bias.
        tops: The likeliest tokens at its place, with theirs.
    """

    id: int
    logprob: float
    tops: Mapping[int, float]

    @property
    def likeliest(self) -> int:
        """What greedy decoding writes here."""
        return max(self.tops, key=lambda token: self.tops[token])


@dataclass(frozen=True)
class Completion:
    """A reply: its tokens, whether an end token ended it, and how many tokens the prompt was read as."""

    tokens: list[Token]
    ended: bool
    prompt_tokens: int | None


class _MayPass(Exception):
    """A fault that another try may mend."""

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class CompletionServer:
    """Sends requests; safe to use from several threads."""

    def __init__(self, settings: AnswerServer, section: str) -> None:
        """Connect to nothing yet.

        Args:
            settings: Where the server is, and how it is asked.
            section: Its place in params.yaml, for messages: `eval.server`.

        Raises:
            ConfigError: The key's variable is not set.
            GuardError: Text would leave this machine in setup mode.
        """
        self._settings, self._section = settings, section
        self._url = (settings.url or "").rstrip("/")
        parts = urlsplit(self._url)
        self.host = parts.netloc
        local = _is_loopback(parts.hostname or "")
        if setup_mode() and not local:
            raise GuardError(f"{SETUP_MODE} is set: nothing is sent to {self.host} ({section}.url); unset it")
        self._key = read_key(settings.api_key_env, section)
        if parts.scheme == "http" and not local:
            log.warning("%s.url is http: questions and passages go unencrypted to %s", section, self.host)
        headers = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        # A proxy of the environment would be one more host that reads the passages: never for this machine.
        self._client = httpx.Client(
            headers=headers, timeout=settings.timeout_s, trust_env=not local, follow_redirects=False,
            limits=httpx.Limits(max_connections=settings.concurrency),
        )  # fmt: skip

    @property
    def concurrency(self) -> int:
        """Requests that may be under way at once."""
        return self._settings.concurrency

    def models(self) -> dict[str, str]:
        """Names of the models that it serves, each with who owns it: `vllm`, `llamacpp`, ...

        Raises:
            EndpointError: It does not say.
        """
        found = self._send("GET", "/models", None)
        try:
            return {str(card["id"]): str(card.get("owned_by") or "") for card in found["data"]}
        except (KeyError, TypeError, AttributeError):
            raise EndpointError(
                f"{self.host} does not list its models at {self._section}.url/models"
            ) from None

    def complete(
        self, model: str, prompt: Sequence[int], max_tokens: int, bias: Mapping[int, float] | None = None
    ) -> Completion:
        """Continue a prompt greedily.

        Args:
            model: As the server calls it.
            prompt: Token ids, sent as they are.
            max_tokens: Of the reply, >= 1; an end token counts.
            bias: Added to the logits of these tokens at every place, in [-100, 100].

        Raises:
            EndpointError: The server refuses, fails `max_tries` times, or does not say what is needed.
        """
        body: dict[str, Any] = {
            "model": model, "prompt": list(prompt), "max_tokens": max_tokens, "temperature": 0, "top_p": 1,
            "logprobs": _TOPS, "return_tokens_as_token_ids": True,
            # vLLM takes what generation_config.json of the model says where a request says nothing
            "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0,
        }  # fmt: skip
        if bias:
            body["logit_bias"] = {str(token): value for token, value in bias.items()}
        return self._completion(self._send("POST", "/completions", body))

    def _completion(self, found: Any) -> Completion:
        try:
            choice, usage = found["choices"][0], found.get("usage") or {}
            told, ended = choice.get("logprobs"), choice.get("finish_reason") == "stop"
            prompt_tokens, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise EndpointError(f"{self.host} sent a reply without choices; is it OpenAI's API?") from None
        if told is None:
            raise EndpointError(
                f"{self.host} sends no log probabilities, which refusing and calibration need; vLLM and "
                "llama.cpp's llama-server do"
            )
        tokens = self._tokens(told)
        if isinstance(written, int) and written != len(tokens):
            raise EndpointError(
                f"{self.host} wrote {written} tokens and sent the log probabilities of {len(tokens)} "
                "(llama.cpp leaves out parts of a character); vLLM sends all"
            )
        return Completion(tokens, ended, prompt_tokens if isinstance(prompt_tokens, int) else None)

    def _tokens(self, told: Any) -> list[Token]:
        try:
            if "content" in told:
                return [
                    Token(
                        int(place["id"]),
                        float(place["logprob"]),
                        {int(top["id"]): float(top["logprob"]) for top in place["top_logprobs"]},
                    )
                    for place in told["content"]
                ]
            places = zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True)
            return [
                Token(_numbered(name), float(value), {_numbered(top): float(v) for top, v in tops.items()})
                for name, value, tops in places
            ]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise EndpointError(
                f"{self.host} does not say which tokens it wrote (neither ids nor `token_id:N` in logprobs), "
                "so its answers cannot be measured; vLLM and llama.cpp's llama-server do"
            ) from None

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        tries = self._settings.max_tries
        again = Retrying(
            stop=stop_after_attempt(tries), wait=_wait_s, retry=retry_if_exception_type(_MayPass),
            before_sleep=self._say, reraise=True,
        )  # fmt: skip
        try:
            return again(self._try, method, path, body)
        except _MayPass as fault:
            times = "once" if tries == 1 else f"{tries} times"
            raise EndpointError(
                f"{self.host} failed {times}, last: {fault}; see whether the server of {self._section}.url "
                f"runs, or raise {self._section}.max_tries or timeout_s, or lower concurrency"
            ) from None

    def _say(self, state: RetryCallState) -> None:
        fault = state.outcome.exception() if state.outcome is not None else None
        log.info("%s: %s; try %d", self.host, fault, state.attempt_number + 1)

    def _try(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            response, content = self._exchange(method, path, body)
        except httpx.TimeoutException:
            raise _MayPass(f"no reply within {self._settings.timeout_s:g} s") from None
        except httpx.RequestError as fault:
            raise _MayPass(self._scrubbed(f"{type(fault).__name__}: {fault}")) from None
        if response.status_code != 200:
            raise self._refusal(response, content)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise _MayPass("HTTP 200 with a body that is no JSON") from None

    def _exchange(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[httpx.Response, bytes]:
        """The response and its body; `timeout_s` also bounds the whole, not only each silence."""
        deadline = time.monotonic() + self._settings.timeout_s
        content = bytearray()
        with self._client.stream(method, self._url + path, json=body) as response:
            for part in response.iter_bytes():
                content += part
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the reply drips", request=response.request)
                if len(content) > _MOST_BYTES:
                    raise httpx.ReadError("the reply is too large", request=response.request)
        return response, bytes(content)

    def _refusal(self, response: httpx.Response, content: bytes) -> EndpointError | _MayPass:
        status, message = response.status_code, self._scrubbed(_message(content))
        said = f"HTTP {status}" + (f" ({message})" if message else "")
        if status in (401, 403):  # its message may repeat part of the key
            name = self._settings.api_key_env
            remedy = f"the key in {name} is wrong or expired" if name else f"set {self._section}.api_key_env"
            return EndpointError(f"{self.host} refuses access (HTTP {status}): {remedy}")
        if status in _RETRIED:
            wait = _seconds(response.headers.get("retry-after"))
            if wait is None or wait <= _MOST_WAIT_S:
                return _MayPass(said, wait)
            return EndpointError(f"{self.host}: {said}, and asks to wait {wait:.0f} s; run it again then")
        if 300 <= status < 400:
            return EndpointError(
                f"{self.host} redirects (HTTP {status}); set {self._section}.url to the right address"
            )
        if status == 404:
            return EndpointError(
                f"{self.host}: {said}; no such model or path: {self._section}.url ends with /v1, and "
                "the server must have /v1/completions"
            )
        return EndpointError(f"{self.host}: {said}; see the server's log")

    def _scrubbed(self, text: str) -> str:
        """One short line without the key."""
        text = text.replace(self._key, "***") if self._key else text
        return " ".join(text.split())[:300]


def read_key(variable: str | None, section: str) -> str | None:
    """The key from the environment; None where conf names no variable.

    Raises:
        ConfigError: The variable is not set, or holds what cannot travel in a header.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        state = "holds white space or other than ASCII" if key else "is not set"
        raise ConfigError(
            f"the environment variable {variable} that {section}.api_key_env names {state}; "
            f"`export {variable}=...`, or set api_key_env to null for a server without keys"
        )
    return key


def _wait_s(state: RetryCallState) -> float:
    """What the server asks for, else doubled each time, a part of it left to chance."""
    fault = state.outcome.exception() if state.outcome is not None else None
    asked = fault.retry_after_s if isinstance(fault, _MayPass) else None
    return _BACKOFF(state) if asked is None else asked


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _numbered(name: Any) -> int:
    found = _TOKEN_ID.fullmatch(str(name))
    if found is None:
        raise ValueError(name)
    return int(found.group(1))


def _seconds(value: str | None) -> float | None:
    """Of a Retry-After header in seconds; a date is left to the usual wait."""
    return float(value) if value is not None and re.fullmatch(r"\d+(\.\d+)?", value.strip()) else None


def _message(content: bytes) -> str:
    """The message of an error body; empty where it has another form."""
    try:
        found = json.loads(content)
        error = found.get("error", found)
        return str(error.get("message") or "") if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError, RecursionError):
        return ""
