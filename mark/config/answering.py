"""The section of an OpenAI-compatible server that answers in place of this process."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from mark.config.section import Section, plain_url, variable_name

EngineKind = Literal["local", "openai"]


class AnswerServer(Section):
    """engine=openai: vLLM, llama.cpp's llama-server or the like; see docs/scale.md."""

    url: str | None  # up to and with /v1, e.g. http://127.0.0.1:8000/v1
    names: dict[str, str]  # our model's name -> the server's, where they differ
    api_key_env: str | None  # NAME of the environment variable that holds the key; null = no key is sent
    concurrency: int = Field(ge=1, le=256)  # questions under way at once
    timeout_s: float = Field(gt=0)  # a request
    max_tries: int = Field(ge=1, le=20)  # a request, where the server is busy, fails or cannot be reached

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        return value if value is None else variable_name(value)

    @field_validator("url")
    @classmethod
    def _is_plain(cls, value: str | None) -> str | None:
        return plain_url(value, ("http", "https"), "a key is named by api_key_env") if value else None


def check_engine(engine: EngineKind, server: AnswerServer) -> None:
    """Check that a server that is to answer has an address.

    Raises:
        ValueError: It has none.
    """
    if engine == "openai" and server.url is None:
        raise ValueError("engine=openai needs server.url, e.g. http://127.0.0.1:8000/v1")
