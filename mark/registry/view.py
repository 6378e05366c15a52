"""The registry: a view of models/. An entry is listed from the moment its stage has written its folder."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mark.errors import DataError, MarkError, ModelError
from mark.files import (
    ADAPTER,
    BASE_MODELS,
    CHAMPION_COPY,
    METRICS,
    MODELS,
    REGISTRY,
    read_json,
    sha256_file,
    write_json,
)
from mark.models.source_file import base_sha256, read_source
from mark.registry.champion import Champion, read_champion

ENTRY_FILE = "entry.json"
Tree = dict[str, Any]


class EntryFacts(BaseModel):
    """What the registry needs of an entry.json, whichever stage wrote it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    base: str
    base_sha256: str
    random: bool = False
    architecture: str | None = None


@dataclass(frozen=True)
class ModelInfo:
    """One model of the view.

    Attributes:
        name: As `mark.load_model` takes it.
        kind: A base model, or an entry (a LoRA adapter on one).
        folder: models/<name> or models/base/<name>.
        base: The base model's name; of a base model its own.
        sha256: Of the adapter, or of the base's weights; "" where it is damaged.
        random: Seeded random weights, or an adapter on such; for tests only.
        architecture: config.model_type of the base, None where unknown.
        champion: Whether it is the promoted one, unchanged since its promotion.
        fault: Why it cannot be used; None where nothing is wrong with its files.
        metrics: The content of metrics/eval_<name>.json below its one key; None where it was not evaluated.
    """

    name: str
    kind: Literal["base", "entry"]
    folder: Path
    base: str
    sha256: str
    random: bool
    architecture: str | None
    champion: bool
    fault: str | None
    metrics: Tree | None


class ModelRegistry:
    """The models under a project's root.

    Args:
        root: The project's root.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def list_models(self) -> list[str]:
        """Names of all usable models, entries first."""
        return [info.name for info in self.models() if info.fault is None]

    def models(self) -> list[ModelInfo]:
        """All models, damaged ones too: entries first, each kind by name."""
        champion = self.champion()
        entries = [path.parent for path in sorted((self.root / MODELS).glob(f"*/{ENTRY_FILE}"))]
        # a folder with a dot is one that is being written, or was when its process was killed
        entries = [f for f in entries if f != self.root / CHAMPION_COPY and not f.name.startswith(".")]
        bases = [path.parent for path in sorted((self.root / BASE_MODELS).glob("*/config.json"))]
        return [self._entry(folder, champion) for folder in entries] + [self._base(f) for f in bases]

    def get(self, name: str) -> ModelInfo:
        """One model by name.

        Raises:
            ModelError: There is none; names the nearest and all that there are.
        """
        known = {info.name: info for info in self.models()}
        if name in known:
            return known[name]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        there = f"there are: {', '.join(known)}" if known else "there are none; run `dvc repro train`"
        hint = f"did you mean {near[0]}? " if near else ""
        raise ModelError(f"no model named {name!r} under {self.root / MODELS}; {hint}{there}")

    def entry(self, name: str) -> ModelInfo:
        """A fine-tuned model by name.

        Raises:
            ModelError: There is none, it is a base model, or its files are damaged.
        """
        info = self.get(name)
        if info.kind == "base":
            entries = ", ".join(i.name for i in self.models() if i.kind == "entry") or "none yet"
            raise ModelError(f"{name} is a base model; name a fine-tuned one (there are: {entries})")
        if info.fault is not None:
            raise ModelError(info.fault)
        return info

    def champion(self) -> Champion | None:
        """The promoted entry, or None. `mark.load_model("champion")` loads it as it was promoted."""
        return read_champion(self.root)

    def write_view(self) -> Path:
        """Write models/registry.json for people and other programs; nothing of MARK reads it."""
        champion = self.champion()
        rows = [
            {
                "name": info.name,
                "kind": info.kind,
                "base": info.base,
                "sha256": info.sha256,
                "random": info.random,
                "champion": info.champion,
                "fault": info.fault,
                "verdict": None if info.metrics is None else info.metrics.get("verdict"),
            }
            for info in self.models()
        ]
        name = None if champion is None else champion.entry
        write_json(self.root / REGISTRY, {"schema_version": 1, "champion": name, "models": rows})
        return self.root / REGISTRY

    def metrics(self, name: str) -> Tree | None:
        """The metrics of an entry, None where it was not evaluated.

        Raises:
            DataError: The file is damaged.
        """
        path = self.root / METRICS / f"eval_{name}.json"
        if not path.is_file():
            return None
        content = read_json(path)
        found = content.get(f"eval_{name}") if isinstance(content, dict) else None
        if not isinstance(found, dict):
            raise DataError(f"{path} holds no eval_{name}; run `dvc repro -f eval`")
        return found

    def _entry(self, folder: Path, champion: Champion | None) -> ModelInfo:
        name, fault, sha = folder.name, None, ""
        facts, metrics = EntryFacts(base="?", base_sha256=""), None
        try:
            facts = read_entry(folder)
            sha = adapter_sha256(folder)
            metrics = self.metrics(name)
            base = self.root / BASE_MODELS / facts.base
            if not (base / "config.json").is_file():
                fault = f"{folder}: its base {base} is missing; run `dvc repro base_model`"
        except MarkError as found:
            fault = str(found)
        promoted = champion is not None and (champion.entry, champion.adapter_sha256) == (name, sha)
        return ModelInfo(
            name, "entry", folder, facts.base, sha, facts.random, facts.architecture, promoted, fault, metrics
        )

    def _base(self, folder: Path) -> ModelInfo:
        name = folder.name
        try:
            source = read_source(folder)
        except MarkError as found:
            return ModelInfo(name, "base", folder, name, "", False, None, False, str(found), None)
        return ModelInfo(
            name,
            "base",
            folder,
            name,
            base_sha256(source),
            source.random,
            source.architecture,
            False,
            None,
            None,
        )


def read_entry(folder: Path) -> EntryFacts:
    """An entry's record.

    Raises:
        ModelError: entry.json is missing or damaged.
    """
    path = folder / ENTRY_FILE
    try:
        return EntryFacts.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; run `dvc repro train` (or `dvc pull`)") from None
    except ValidationError as fault:
        first = fault.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "content"
        raise ModelError(f"{path} is damaged ({key}: {first['msg']}); run `dvc repro -f train`") from None
    except ValueError as fault:
        raise ModelError(f"{path} is damaged ({fault}); run `dvc repro -f train`") from None


def adapter_sha256(folder: Path) -> str:
    """Hash of an entry's adapter: equal hash, equal model.

    Raises:
        ModelError: The adapter is missing.
    """
    if not (folder / ADAPTER).is_file():
        raise ModelError(f"{folder} holds no {ADAPTER}; run `dvc repro train` (or `dvc pull`)")
    return sha256_file(folder / ADAPTER)
