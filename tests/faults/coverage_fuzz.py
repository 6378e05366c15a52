"""The readers under a fuzzer that follows their branches: `python -m tests.faults.coverage_fuzz rows|params|pdf`.

What stands behind the name goes to libFuzzer, e.g. `-max_total_time=600` or `-runs=10000`. New inputs are
kept in tmp/fuzz/NAME and start the next run; one that breaks a reader ends this one with its traceback and
lies in tmp/fuzz/NAME-crash-*. Needs atheris (`make extras`, Linux on x86-64).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mark"]):
    from mark.append_log import read_lines
    from mark.config import PARAMS, Ingest, load_params, load_section
    from mark.errors import ConfigError, DataError
    from mark.files import iter_jsonl
    from mark.ingest.layout import RawDocument
    from mark.ingest.pdf import read_pdf
    from mark.ingest.report import REMEDIES

from tests.conftest import ROOT
from tests.faults.test_fuzz_params import told
from tests.faults.test_fuzz_pdf import drawn, locked
from tests.faults.test_fuzz_rows import ROWS, lines, one_line

KEPT = ROOT / "tmp/fuzz"
_PDF_S, _PDF_MB = 20.0, 1024


def rows(content: bytes, folder: Path) -> None:
    """Rows, or a line that names the file and the line."""
    path = folder / "rows.jsonl"
    path.write_bytes(content)
    list(read_lines(path))
    for row in ROWS:
        try:
            assert all(type(found) is type(row) for found in iter_jsonl(path, type(row)))
        except DataError as fault:
            one_line(fault)


def params(content: bytes, folder: Path) -> None:
    """Settings, or a line for each fault."""
    path = folder / PARAMS
    path.write_bytes(content)
    try:
        load_params(path)
    except ConfigError as fault:
        told(fault)


def pdf(content: bytes, folder: Path) -> None:
    """Pages, or a code of the report; through a process of its own, so a second or so each."""
    path = folder / "fuzzed.pdf"
    path.write_bytes(content)
    wanted = load_section(Ingest, "ingest", ROOT / PARAMS)
    limits = {"timeout_s": _PDF_S, "memory_mb": _PDF_MB, "ocr": "never"}
    found = read_pdf(path, folder, wanted.model_copy(update=limits))
    if not isinstance(found, RawDocument):
        assert found.code in REMEDIES and "\n" not in found.detail and str(folder) not in found.detail


READERS: dict[str, Callable[[bytes, Path], None]] = {"rows": rows, "params": params, "pdf": pdf}


def seeds(name: str) -> list[bytes]:
    """Whole contents."""
    if name == "rows":
        return [lines(row) for row in ROWS]
    return [(ROOT / PARAMS).read_bytes()] if name == "params" else [drawn(), locked(drawn())]


def main(arguments: Sequence[str]) -> None:
    """Run libFuzzer, which ends the process."""
    if not arguments or arguments[0] not in READERS:
        sys.exit(f"name one of {', '.join(READERS)}, then libFuzzer's options")
    name, *options = arguments
    read, kept = READERS[name], KEPT / name
    kept.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds(name)):
        (kept / f"seed-{number}").write_bytes(content)
    folder = Path(tempfile.mkdtemp(prefix="mark-fuzz-"))
    atheris.Setup(
        [sys.argv[0], f"-artifact_prefix={KEPT}/{name}-", *options, str(kept)],
        lambda content: read(content, folder),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
