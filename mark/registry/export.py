"""An entry as plain merged safetensors, and as GGUF: each only if it answers as the adapter does."""

from __future__ import annotations

import gc
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mark.config import Registry
from mark.errors import DataError
from mark.files import read_json, sha256_file, whole_folder, write_json, write_text
from mark.models.loading import load_base, load_entry
from mark.models.quiet import quiet_progress
from mark.models.storage import WHOLE
from mark.registry.converter import convert, find_converter
from mark.registry.parity import Answering, Asked, Parity, answer, check_weights, compare_answers, require
from mark.registry.view import ModelInfo

if TYPE_CHECKING:
    from mark.answering.engine import Generation

log = logging.getLogger(__name__)

PRIVATE = frozenset({"preferences.jsonl", "ledger.json"})  # of an entry: what people asked and said
EXPORT_FILE = "export.json"


@dataclass(frozen=True)
class Bench:
    """What parity is measured with: the questions, how they are answered, and the margins."""

    asked: Sequence[Asked]
    how: Answering
    settings: Registry


def export_entry(info: ModelInfo, out: Path, bench: Bench, card: str, gguf: bool) -> list[Parity]:
    """Write an entry as a plain model folder; nothing is left behind where a gate refuses it.

    Args:
        info: The entry.
        out: A new or empty folder, or an earlier export, which is replaced.
        bench: Questions and margins.
        card: Text of the model card.
        gguf: Write a GGUF file too.

    Returns:
        What was measured, one a form.

    Raises:
        ModelError: A form does not agree with the adapter, or no converter is installed.
        DataError: `out` holds something else.
    """
    own, foreign = refuse_foreign_folder(out)
    converter = find_converter(info.folder.parents[1]) if gguf else None
    with whole_folder(out) as work:
        reference = adapter_answers(info, bench)
        write_merged(info.folder, work, bench.settings.export_dtype)
        measured = [verify_merged(info, work, bench, reference)]
        if converter is not None:
            file = work / f"{info.name}.{bench.settings.gguf_type}.gguf"
            convert(converter, work, file, bench.settings.gguf_type)
            measured.append(verify_gguf(file, bench, reference))
        write_text(work / "README.md", card)
        write_json(
            work / EXPORT_FILE,
            {
                "schema_version": 1,
                "entry": info.name,
                "base": info.base,
                "adapter_sha256": info.sha256,
                "dtype": bench.settings.export_dtype,
                "parity": [asdict(one) for one in measured],
                "files": {path.name: sha256_file(path) for path in sorted(work.iterdir())},
            },
        )
        for path in foreign:
            target = work / path.relative_to(out)
            if target.exists():
                raise DataError(f"{path} is not of the earlier export and would be replaced; move it away")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        if refuse_foreign_folder(out) != (own, foreign):
            raise DataError(f"--out {out} was changed in the meantime; export once more")
    return measured


def check_export(info: ModelInfo, folder: Path, bench: Bench) -> list[Parity]:
    """Measure an earlier export again.

    Raises:
        DataError: The folder is no export of this entry.
        ModelError: A form does not agree with the adapter, or is damaged.
    """
    record = read_export(folder)
    if (record["entry"], record["adapter_sha256"]) != (info.name, info.sha256):
        raise DataError(
            f"{folder} was exported from {record['entry']} ({str(record['adapter_sha256'])[:12]}...), "
            f"which is not {info.name} as it is now ({info.sha256[:12]}...); export it anew"
        )
    reference = adapter_answers(info, bench)
    measured = [verify_merged(info, folder, bench, reference)]
    return measured + [verify_gguf(path, bench, reference) for path in sorted(folder.glob("*.gguf"))]


def merged_parity(info: ModelInfo, bench: Bench) -> Parity:
    """Merge into a temporary folder and measure: the promotion gate's question.

    Raises:
        ModelError: The merged model does not agree with the adapter.
    """
    with tempfile.TemporaryDirectory(prefix="mark-merge-") as name:
        folder = Path(name)
        reference = adapter_answers(info, bench)
        write_merged(info.folder, folder, bench.settings.export_dtype)
        return verify_merged(info, folder, bench, reference)


def adapter_answers(info: ModelInfo, bench: Bench) -> list[Generation]:
    """What the adapter on its base answers, whole and in float32: the reference of all other forms."""
    model, tokenizer = load_entry(info.folder, device=_device(), storage=WHOLE)
    found = answer(model, tokenizer, bench.asked, bench.how, "adapter")
    del model
    gc.collect()
    return found


def write_merged(entry: Path, folder: Path, dtype: str) -> None:
    """Add the adapter into the weights and save model and tokenizer.

    Args:
        entry: models/<entry>.
        folder: An existing folder.
        dtype: Of the stored weights; the sum is taken in float32.
    """
    import torch

    tuned, tokenizer = load_entry(entry, storage=WHOLE)
    merged: Any = tuned.merge_and_unload(safe_merge=True)
    with quiet_progress():
        merged.to(getattr(torch, dtype)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def verify_merged(info: ModelInfo, folder: Path, bench: Bench, reference: Sequence[Generation]) -> Parity:
    """Check the stored weights, then the answers of the model that they load as.

    Raises:
        ModelError: Either differs from the adapter's.
    """
    check_weights(info.folder, folder)
    model, tokenizer = load_base(folder, device=_device())
    found = answer(model, tokenizer, bench.asked, bench.how, "merged")
    del model
    gc.collect()
    parity = compare_answers("merged", reference, found, bench.asked)
    require(parity, bench.settings)
    return parity


def verify_gguf(file: Path, bench: Bench, reference: Sequence[Generation]) -> Parity:
    """Read a GGUF file back, tokenizer and all, and compare its answers.

    Raises:
        ModelError: It cannot be read, or its answers differ.
    """
    from mark.models.gguf import convert_gguf

    with tempfile.TemporaryDirectory(prefix="mark-gguf-") as name:
        alone, folder = Path(name) / "gguf", Path(name) / "model"
        for made in (alone, folder):
            made.mkdir()
        (alone / file.name).symlink_to(file.resolve())  # beside tokenizer files, transformers reads those
        convert_gguf(alone / file.name, folder)
        model, tokenizer = load_base(folder, device=_device())
        found = answer(model, tokenizer, bench.asked, bench.how, "GGUF")
    parity = compare_answers("GGUF", reference, found, bench.asked)
    require(parity, bench.settings)
    return parity


def refuse_foreign_folder(out: Path) -> tuple[list[Path], list[Path]]:
    """An export replaces the files of an earlier one in its folder, else this must be new or empty.

    Returns:
        Files of the earlier export, and files that others have put beside them, which stay.

    Raises:
        DataError: It is something else, or a file of the earlier export was changed since.
    """
    if out.is_file():
        raise DataError(f"--out {out} is a file; choose a folder")
    if out.is_symlink():
        raise DataError(f"--out {out} is a link; choose a folder of its own")
    if out.is_dir() and any(out.iterdir()) and not (out / EXPORT_FILE).is_file():
        raise DataError(f"--out {out} holds other files; choose a new folder, such as exports/NAME")
    if not (out / EXPORT_FILE).is_file():
        return [], []
    written = read_export(out).get("files")
    if not isinstance(written, dict):
        raise DataError(
            f"--out {out} is an export that lists no files (an older version's); choose a new one"
        )
    there = sorted(path for path in out.rglob("*") if path.is_file())
    own = [path for path in there if path.relative_to(out).as_posix() in {*written, EXPORT_FILE}]
    changed = [path for path in own if path.name != EXPORT_FILE and sha256_file(path) != written[path.name]]
    if changed:
        raise DataError(f"{changed[0]} was changed since it was exported; move it away, or choose another")
    return own, [path for path in there if path not in own]


def read_export(folder: Path) -> dict[str, Any]:
    """The record of an export.

    Raises:
        DataError: The folder is no export.
    """
    path = folder / EXPORT_FILE
    if not path.is_file():
        raise DataError(
            f"{folder} holds no {EXPORT_FILE}; `mark models export NAME --out {folder}` writes one"
        )
    record = read_json(path)
    if not isinstance(record, dict) or not {"entry", "adapter_sha256", "dtype"} <= set(record):
        raise DataError(f"{path} is damaged; export it anew")
    return record


def copy_entry(info: ModelInfo, folder: Path, card: str) -> None:
    """An entry's files and its card, for a hub; questions and feedback that it was trained on stay here.

    Args:
        info: The entry.
        folder: An existing folder.
        card: Text of the model card.
    """
    for path in sorted(info.folder.iterdir()):
        if path.is_file() and path.name not in PRIVATE:
            shutil.copyfile(path, folder / path.name)
    write_text(folder / "README.md", card)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
