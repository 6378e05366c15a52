"""Replies that were paid for, kept by what was asked: a rerun sends nothing twice.

One file a request, written whole or not at all, so a killed run loses only what was under way. The
folder is no DVC out (DVC deletes outs before a stage runs) and ignored by git. It holds neither the
prompts nor the key, but what the model wrote about the passages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mark.errors import DataError
from mark.files import sha256_text, write_text


class Reply(BaseModel):
    """What an endpoint answered to one request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    text: str
    finish: str  # "stop", "length", "content_filter", ...; "" where the endpoint does not say
    input_tokens: int | None  # as the endpoint counts them
    output_tokens: int | None


class ReplyCache:
    """A folder of replies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def key(body: dict[str, Any]) -> str:
        """Hex SHA-256 of prompt, model and parameters, in any order of the keys."""
        return sha256_text(json.dumps(body, sort_keys=True, ensure_ascii=False, allow_nan=False))

    def get(self, body: dict[str, Any]) -> Reply | None:
        """The reply to a request that was answered before.

        Raises:
            DataError: The file is damaged; it names it.
        """
        path = self._path(body)
        try:
            return Reply.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise DataError(f"{path} is damaged; delete it, and that one request is sent again") from None

    def put(self, body: dict[str, Any], reply: Reply) -> None:
        """Keep a reply."""
        self.make_folder()
        write_text(self._path(body), reply.model_dump_json() + "\n")

    def make_folder(self) -> None:
        """Make the folder, readable by its owner alone."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _path(self, body: dict[str, Any]) -> Path:
        key = self.key(body)
        return self.folder / key[:2] / f"{key}.json"
