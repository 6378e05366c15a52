"""Reading params.yaml: OmegaConf resolves, pydantic validates, each fault is one line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from mark.config.pipeline import (
    Corpus,
    DataPrep,
    Eval,
    Ingest,
    Model,
    Retrieval,
    Train,
)
from mark.config.rlhf import Rlhf
from mark.config.section import PARAMS, Section
from mark.config.serve import Registry, Serve
from mark.errors import ConfigError

UNSHOWN = {"api_key_env", "base_url", "token_env", "url"}  # a key may have been written there by mistake


class Paths(Section):
    checkpoints: str  # of train and rlhf, until their stage ends
    logs: str  # what tensorboard reads


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(ge=0)  # every random choice is derived from it
    paths: Paths
    corpus: Corpus
    model: Model
    ingest: Ingest
    retrieval: Retrieval
    data_prep: DataPrep
    train: Train
    eval: Eval
    registry: Registry
    serve: Serve
    rlhf: Rlhf


AnySection = TypeVar("AnySection", bound=Section)
SECTIONS: dict[str, Any] = {name: field.annotation for name, field in Params.model_fields.items()}


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read and resolve a params file without validating it.

    Raises:
        ConfigError: The file is missing or is not YAML.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not path.is_file():
        raise ConfigError(f"{path} is missing; run `mark params` to compose it from conf/")
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OmegaConfBaseException, YAMLError, OSError, ValueError, RecursionError) as fault:
        raise ConfigError(f"{path}: {str(fault).splitlines()[0]}") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} holds no sections; run `mark params`")
    return {str(key): value for key, value in loaded.items()}


def load_section(model: type[AnySection], name: str, path: Path = PARAMS) -> AnySection:
    """One validated section of params.yaml.

    Args:
        model: The section's class.
        name: Its key in the file.
        path: The params file.

    Raises:
        ConfigError: One line a fault: file, key, value, what is allowed, the nearest right name.
    """
    values = read_params(path)
    if name not in values:
        raise ConfigError(f"{path}: section {name} is missing; run `mark params`")
    return validate(model, values[name], name, path)


def load_seed(path: Path = PARAMS) -> int:
    """The run's seed."""
    seed = read_params(path).get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"{path}: seed: {seed!r} found, an integer >= 0 is allowed")
    return seed


def load_value(section: str, key: str, path: Path = PARAMS) -> Any:
    """One validated value of a section that the caller does not otherwise depend on.

    Args:
        section: The section's name, e.g. `"train"`.
        key: The field, e.g. `"max_seq_length"`.
        path: The params file.
    """
    return getattr(load_section(SECTIONS[section], section, path), key)


def load_params(path: Path = PARAMS) -> Params:
    """The whole file, validated."""
    return validate(Params, read_params(path), "", path)


def project_params(root: Path) -> Params:
    """All settings of a project, for library calls that neither a stage nor a command wires.

    Args:
        root: The folder that holds params.yaml.
    """
    return load_params(root / PARAMS)


def validate(model: type[AnySection], values: Any, prefix: str, path: Path) -> AnySection:
    """Validate one section's values; every fault becomes one line of a ConfigError."""
    try:
        return model.model_validate(values)
    except ValidationError as fault:
        lines = [_fault_line(model, prefix, path, dict(error)) for error in fault.errors()]
        raise ConfigError("\n".join(lines)) from None


def _fault_line(model: type[Section], prefix: str, path: Path, error: dict[str, Any]) -> str:
    loc = [str(part) for part in error["loc"]]
    key = ".".join([part for part in [prefix] if part] + loc)
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, loc[:-1])
        near = difflib.get_close_matches(loc[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        return f"{path}: {key}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{path}: {key}: missing; run `mark params`"
    found = "value not shown" if loc and loc[-1] in UNSHOWN else f"{error['input']!r} found"
    line = f"{path}: {key}: {found}; {_plain(error['msg'])}"
    if error["type"] == "value_error" and isinstance(error["input"], dict):  # the message names the values
        line = f"{path}: {key}: {_plain(error['msg'])}"
    expected = str(error.get("ctx", {}).get("expected", ""))
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        allowed = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
        near = difflib.get_close_matches(error["input"], allowed, n=1, cutoff=0.5)
        if near:
            line += f"; did you mean {near[0]}?"
    return line


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "allowed:")


def _known_keys(model: type[Section], loc: list[str]) -> list[str]:
    fields = model.model_fields
    for part in loc:
        if part not in fields:
            return []
        inner = fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, Section)):
            return []
        fields = inner.model_fields
    return sorted(fields)
