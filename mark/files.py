"""Where things lie, and writing them so that no reader ever sees half a file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mark.errors import DataError

Record = TypeVar("Record", bound=BaseModel)

RAW = Path("data/raw")  # PDFs of the corpus stage
PDFS = Path("data/pdfs")  # the user's own PDFs
PASSWORDS = Path(".mark/passwords.json")  # of the user's PDFs; see mark.corpus.passwords
PAGES = Path("data/pages.jsonl")
CHUNKS = Path("data/chunks.jsonl")
EMBEDDINGS = Path("data/embeddings.npy")
INDEX = Path("data/index.json")
INGEST_REPORT = Path("data/ingest_report.json")
COLLECTION_SNAPSHOT = Path("data/collection.jsonl")
TRAIN_SFT = Path("data/train_sft.jsonl")
VAL_SFT = Path("data/val_sft.jsonl")
TEST_SFT = Path("data/test_sft.jsonl")
LEDGER = Path("data/ledger.json")
HANDWRITTEN_DEV = Path("data/handwritten_dev.jsonl")
HANDWRITTEN_TEST = Path("data/handwritten_test.jsonl")
HELD_OUT = Path("data/held_out_sections.json")  # the articles that the hand-written questions cite
PRACTICE = Path("data/practice.jsonl")  # questions written by people to train on
PRACTICE_PASSAGES = Path("data/practice_passages.jsonl")  # those of them that are no chunks of the corpus
PASSAGES = "passages.jsonl"  # beside examples that were made outside the pipeline: what they show
CHROMA = Path("chroma_db")
INGEST_CACHE = Path(".cache/ingest")  # below git_root(): shared by all runs, no out of DVC
TOKEN_VECTORS = Path("data/token_vectors")  # derived from the chunks, like the Chroma collection: no out
BASE_MODELS = Path("models/base")
EMBEDDER = Path("models/embedder")
RERANKER = Path("models/reranker")
MODELS = Path("models")
ADAPTER = "adapter_model.safetensors"  # in an entry's folder
CHAMPION = Path("models/champion.json")  # and its promotion log; no out
CHAMPION_COPY = Path("models/champion")  # the champion as it was promoted: its stage may run again
REGISTRY = Path("models/registry.json")  # a view that is rebuilt, never read
CARDS = Path("reports/cards")
CHECKPOINTS = Path(".ckpt")
LLM_CACHE = Path(".llm_cache")  # replies that were paid for; no out, ignored by git, kept by `make clean`
REPORTS = Path("reports")
METRICS = Path("metrics")
PLOTS = Path("plots")
LOGS = Path("logs/lora_training")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: a temporary sibling, fsync, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys and a final newline; NaN is refused."""
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; run `dvc repro` (or `dvc pull`) to make it") from None
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{path} is not valid JSON ({fault}); delete it and run `dvc repro`") from None


def write_jsonl(path: Path, rows: Iterable[BaseModel]) -> int:
    """Write validated records, one JSON object a line, in the order given.

    Returns:
        How many rows were written.
    """
    lines = [row.model_dump_json() for row in rows]
    write_text(path, "".join(line + "\n" for line in lines) or "\n")  # DVC warns of files without a byte
    return len(lines)


def iter_jsonl(path: Path, model: type[Record]) -> Iterator[Record]:
    """Read records one by one, each validated.

    Raises:
        DataError: The file is missing, or a line does not fit `model` (names the line).
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; run `dvc repro` (or `dvc pull`) to make it")
    with path.open("rb") as stream:  # the parser decodes: a line may be cut inside a character
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                yield model.model_validate_json(line)
            except ValidationError as fault:
                first = fault.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or "row"
                raise DataError(
                    f"{path}, line {number}: {where}: {first['msg']}; mend or regenerate the file"
                ) from None


def read_jsonl(path: Path, model: type[Record]) -> list[Record]:
    """All records of a JSONL file; see `iter_jsonl`."""
    return list(iter_jsonl(path, model))


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Fill a temporary sibling folder that becomes `target` only if the block succeeds.

    An existing `target` is replaced at the end; after an error nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield work
        os.chmod(work, 0o755)
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def git_root(start: Path | None = None) -> Path:
    """The project's root: `DVC_ROOT` where DVC sets it, else the nearest folder with dvc.yaml."""
    named = os.environ.get("DVC_ROOT")
    if named is not None:
        return Path(named)
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    return here
