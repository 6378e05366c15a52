"""`mark doctor`: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mark.answering.completions import CompletionServer
from mark.config import DataPrep, Eval, Ingest, Serve, load_params, load_section, setup_mode
from mark.errors import MarkError
from mark.files import EMBEDDER, INDEX, INGEST_REPORT
from mark.ingest.backends import BACKENDS
from mark.ingest.index import read_index
from mark.ingest.report import read_report
from mark.ingest.scans import installed_languages, missing_for_ocr

_NEEDED_DISK_GB = 5.0
_NEEDED_MEMORY_GB = 6.0


@dataclass(frozen=True)
class Check:
    """One line of the report; `remedy` is empty where all is well."""

    name: str
    found: str
    remedy: str = ""


def diagnose(root: Path) -> list[Check]:
    """All checks, in the order in which a newcomer would meet the faults."""
    groups: list[Callable[[Path], Iterator[Check]]] = [
        _python,
        _packages,
        _memory_and_disk,
        _gpu,
        _git,
        _params,
        _models,
        _reading,
        _collection,
        _answer_servers,
        _setup_mode,
        _llm,
        _dvc,
    ]
    checks: list[Check] = []
    for group in groups:
        checks.extend(group(root))
    return checks


def _python(root: Path) -> Iterator[Check]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Check(
        "Python", version, "" if fits else "use Python 3.11 to 3.13: `make clean install PYTHON=python3.11`"
    )


def _packages(root: Path) -> Iterator[Check]:
    required = importlib.metadata.requires("mark") or []
    names = [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in required if "extra ==" not in line]
    missing = []
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    found = f"{len(names) - len(missing)} of {len(names)} installed"
    yield Check("packages", found, f"missing {', '.join(missing)}: `make install`" if missing else "")


def _memory_and_disk(root: Path) -> Iterator[Check]:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    short = "" if free >= _NEEDED_MEMORY_GB else f"the demo needs {_NEEDED_MEMORY_GB:.0f} GB: close programs"
    yield Check("memory", f"{free:.1f} GB free, {os.cpu_count()} cores", short)
    disk = shutil.disk_usage(root).free / 2**30
    short = "" if disk >= _NEEDED_DISK_GB else f"{_NEEDED_DISK_GB:.0f} GB needed: `dvc gc -w`, or free space"
    yield Check("disk", f"{disk:.1f} GB free", short)


def _gpu(root: Path) -> Iterator[Check]:
    try:
        import torch
    except ImportError:
        yield Check("GPU", "unknown without torch", "`make install`")
        return
    if torch.cuda.is_available():
        yield Check("GPU", torch.cuda.get_device_name(0))
    else:
        yield Check("GPU", "none; the CPU is used")


def _git(root: Path) -> Iterator[Check]:
    if shutil.which("git") is None:
        yield Check("git", "not found", "`apt-get install git`")
        return
    inside = _run(["git", "rev-parse", "--is-inside-work-tree"], root).strip() == "true"
    if not inside:
        yield Check("git", "no repository here", "`git clone` the project, or `git init`")
        return
    changed = len(_run(["git", "status", "--porcelain"], root).splitlines())
    yield Check("git", f"{changed} changed files" if changed else "clean")


def _params(root: Path) -> Iterator[Check]:
    from mark.commands.params import check_params

    try:
        load_params(root / "params.yaml")
        check_params(root, [])
    except MarkError as fault:
        yield Check("params", str(fault).splitlines()[0], "`mark params`")
    else:
        yield Check("params", "params.yaml equals conf/")


def _models(root: Path) -> Iterator[Check]:
    bases = sorted(p.parent.name for p in root.glob("models/base/*/SOURCE.json"))
    if (root / EMBEDDER / "SOURCE.json").is_file() and bases:
        yield Check("base models", ", ".join(bases))
    else:
        yield Check("base models", "not fetched", "`dvc repro base_model` (or `dvc pull`)")
    entries = sorted(p.parent.name for p in root.glob("models/*/entry.json"))
    yield Check("fine-tuned models", ", ".join(entries) or "none", "" if entries else "`make repro`")


def _reading(root: Path) -> Iterator[Check]:
    """The PDF reader that is set, text recognition with its programs and languages, Docling, passwords."""
    from mark.corpus.passwords import read_passwords

    try:
        settings = load_section(Ingest, "ingest", root / "params.yaml")
        passwords = len(read_passwords(root))
    except MarkError as fault:
        yield Check("PDF reader", str(fault).splitlines()[0], "mend that file")
        return
    backend = BACKENDS[settings.reader]
    there = backend.installed()
    locked = f"; passwords of {passwords} files" if passwords else ""
    found = f"{settings.reader}{locked}" if there else f"{settings.reader} is not installed"
    yield Check("PDF reader", found, "" if there else backend.remedy)
    yield _text_recognition(root, settings)
    if settings.reader != "docling":
        docling = BACKENDS["docling"].installed()
        yield Check(
            "Docling", "installed; use it with ingest.reader=docling" if docling else "none (optional)"
        )


def _text_recognition(root: Path, settings: Ingest) -> Check:
    name = "text recognition"
    if settings.ocr == "never":
        return Check(name, "off (ingest.ocr=never)")
    missing = missing_for_ocr(settings.ocr_languages)
    if not missing:
        version = importlib.metadata.version("ocrmypdf")
        return Check(name, f"OCRmyPDF {version}, languages {', '.join(installed_languages())}")
    lacks = ", ".join(what for what, _ in missing)
    remedy = "; ".join(dict.fromkeys(how for _, how in missing))
    if settings.ocr == "always" or _scans_were_dropped(root):
        return Check(name, f"lacks {lacks}", f"{remedy}; then `mark ingest --force`")
    return Check(name, f"none (optional, for scans): lacks {lacks}: {remedy}")


def _scans_were_dropped(root: Path) -> bool:
    if not (root / INGEST_REPORT).is_file():
        return False
    try:
        report = read_report(root / INGEST_REPORT)
    except MarkError:
        return False  # `_collection` names a damaged ingest
    return any(bad.code == "needs_ocr" for bad in report.quarantined) or any(
        "needs_ocr" in file.dropped for file in report.files
    )


def _collection(root: Path) -> Iterator[Check]:
    if not (root / INDEX).is_file():
        yield Check("collection", "nothing ingested", "`dvc repro ingest`")
        return
    try:
        chunks = read_index((root / INDEX).parent).chunks
        settings = load_section(Ingest, "ingest", root / "params.yaml")
    except MarkError as fault:
        yield Check("collection", str(fault).splitlines()[0], "`dvc repro ingest`")
        return
    if settings.store == "pgvector" or settings.chroma.url is not None:
        yield _remote_collection(root, settings, chunks)
        return
    there = (root / settings.chroma_path / "chroma.sqlite3").is_file()
    yield Check(
        "collection",
        f"{chunks} chunks" + ("" if there else ", Chroma folder missing"),
        "" if there else "`mark ingest` rebuilds it",
    )


def _remote_collection(root: Path, settings: Ingest, chunks: int) -> Check:
    from mark.ingest.stores import store_place
    from mark.retrieval.serving import open_search

    try:
        open_search((root / INDEX).parent, settings, root)
    except MarkError as fault:
        return Check("collection", str(fault).splitlines()[0], "see docs/scale.md")
    return Check("collection", f"{chunks} chunks at {store_place(settings)}", "")


def _answer_servers(root: Path) -> Iterator[Check]:
    """Servers that are to answer in place of this process."""
    try:
        params = load_params(root / "params.yaml")
    except MarkError:
        return  # said above
    found: dict[str, Eval | Serve] = {"eval.server": params.eval, "serve.server": params.serve}
    chosen = {place: one.server for place, one in found.items() if one.engine == "openai"}
    for place, server in chosen.items():
        try:
            served = CompletionServer(server, place).models()
            yield Check(place, f"serves {', '.join(sorted(served)[:8]) or 'no model'}", "")
        except MarkError as fault:
            yield Check(place, "cannot answer", str(fault).splitlines()[0])


def _setup_mode(root: Path) -> Iterator[Check]:
    blocked = setup_mode()
    yield Check(
        "training",
        f"blocked by MARK_SETUP_MODE={os.environ['MARK_SETUP_MODE']}" if blocked else "allowed",
        "`unset MARK_SETUP_MODE` to train" if blocked else "",
    )


def _llm(root: Path) -> Iterator[Check]:
    from mark.data_prep.llm.endpoint import host_of, read_key
    from mark.data_prep.llm.presidio import presidio_missing

    try:
        llm = load_section(DataPrep, "data_prep", root / "params.yaml").llm
        if not llm.enabled:
            yield Check("LLM questions", "off; nothing is sent")
            return
        key = read_key(llm)
    except MarkError as fault:
        yield Check("LLM questions", "cannot run", str(fault).splitlines()[0])
        return
    missing = presidio_missing(llm.masking_model) if llm.masking == "presidio" else None
    found = (
        f"{host_of(llm)}, model {llm.model}, {'no key' if key is None else 'key set'}, masking {llm.masking}"
    )
    yield Check("LLM questions", found, missing or "")


def _dvc(root: Path) -> Iterator[Check]:
    if not (root / ".dvc").is_dir():
        yield Check("DVC", "not set up", "`dvc init`")
        return
    lines = _run([sys.executable, "-m", "dvc", "status", "--quiet"], root, code=True)
    yield Check(
        "DVC", "up to date" if lines == "0" else "stages are stale", "" if lines == "0" else "`make repro`"
    )
    yield from _remotes(root)


def _remotes(root: Path) -> Iterator[Check]:
    """DVC takes the bytes of a remote for those that their name promises, unless it is told to look."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        remotes = {name: bool(values.get("verify")) for name, values in repo.config["remote"].items()}
    for name, checked in sorted(remotes.items()):
        remedy = "" if checked else f"`dvc remote modify {name} verify true`"
        yield Check(f"remote {name}", f"hashes are {'' if checked else 'not '}checked by `dvc pull`", remedy)


def _run(command: list[str], root: Path, code: bool = False) -> str:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return str(done.returncode) if code else done.stdout
