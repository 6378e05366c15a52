"""The Ray engine writes what the local one writes, to the byte; on a real cluster, started here."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from mark.config import Ingest
from mark.errors import MarkError
from mark.files import write_jsonl
from mark.ingest import ingest_collection, ingest_pdfs
from mark.ingest.cache import installed
from mark.ingest.maker import DocumentMaker
from mark.ingest.progress import Progress
from mark.ingest.ray_engine import workers
from mark.ingest.ray_worker import Task
from mark.ingest.snapshot import CollectionRow
from tests.conftest import LEASE, write_pdf
from tests.ingest.conftest import SettingsFactory


@pytest.fixture
def corpus(three_pdfs: Path, tmp_path: Path, text_pdf: Callable[..., Path]) -> Path:
    """PDFs in two folders: a copy under another name, one that cannot be read and its copy, one without text."""
    raw = Path(shutil.copytree(three_pdfs, tmp_path / "raw"))
    (raw / "more").mkdir()
    shutil.copy(raw / "lease.pdf", raw / "more/another lease.pdf")
    for name in ("a broken one.pdf", "z broken too.pdf"):
        (raw / name).write_bytes(b"%PDF-1.7 and no more")
    text_pdf(raw / "more/blank.pdf", [])
    text_pdf(raw / "rules.pdf", ["Article 1 Rules", "The rules apply to everybody who pays the fee."] * 9)
    return raw


def written(data: Path) -> dict[str, bytes]:
    """All that ingest wrote."""
    names = ("pages.jsonl", "chunks.jsonl", "embeddings.npy", "index.json", "ingest_report.json")
    assert sorted(path.name for path in data.iterdir()) == sorted(names)
    return {name: (data / name).read_bytes() for name in names}


def on(settings: SettingsFactory, address: str | None, **more: Any) -> Ingest:
    return settings(engine="ray", ray={"address": address, "workers": 0, "threads": 1}, **more)


def test_without_ray_it_is_one_line(
    settings: SettingsFactory,
    three_pdfs: Path,
    tiny_bert_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MarkError, match=r"Ray is not installed: run `pip install ray`, or set ingest\.engine"
    ):
        ingest_pdfs(on(settings, None), three_pdfs, tiny_bert_dir, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.long
def test_outputs_are_the_same_to_the_byte(
    cluster: str, corpus: Path, settings: SettingsFactory, tiny_bert_dir: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level("INFO", logger="mark")
    local = ingest_pdfs(settings(), corpus, tiny_bert_dir, tmp_path / "local")
    assert len(local.quarantined) == 3 and len(local.duplicates) == 1
    ingest_pdfs(on(settings, cluster), corpus, tiny_bert_dir, tmp_path / "ray", tmp_path / "cache")
    assert "2 Ray workers of 2 cores" in caplog.text
    assert written(tmp_path / "ray") == written(tmp_path / "local")

    # What the workers made serves the local engine too, and the other way round.
    ingest_pdfs(settings(), corpus, tiny_bert_dir, tmp_path / "again", tmp_path / "cache")
    assert written(tmp_path / "again") == written(tmp_path / "local")
    assert "(4 from the cache, 0 chunks embedded)" in caplog.text
    caplog.clear()
    ingest_pdfs(on(settings, cluster), corpus, tiny_bert_dir, tmp_path / "ray", tmp_path / "cache")
    assert written(tmp_path / "ray") == written(tmp_path / "local")
    assert "(4 from the cache, 0 chunks embedded)" in caplog.text
    for path in (tmp_path / "cache").glob("*/vectors-*"):
        path.unlink()  # entries are known, their vectors are not
    ingest_pdfs(on(settings, cluster), corpus, tiny_bert_dir, tmp_path / "ray", tmp_path / "cache")
    assert written(tmp_path / "ray") == written(tmp_path / "local")


@pytest.mark.long
def test_a_collection_and_a_cluster_for_one_run(
    settings: SettingsFactory, tiny_bert_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    rows = [
        CollectionRow(
            id=f"{n}", text=f"Article {n}. The fee is {n} euros.", metadata={"source": f"{n % 3}.pdf"}
        )
        for n in range(12)
    ]
    write_jsonl(tmp_path / "collection.jsonl", rows)
    snapshot = tmp_path / "collection.jsonl"
    ingest_collection(settings(), snapshot, tiny_bert_dir, tmp_path / "local")
    ingest_collection(on(settings, None), snapshot, tiny_bert_dir, tmp_path / "ray")
    assert written(tmp_path / "ray") == written(tmp_path / "local")


@pytest.mark.long
def test_a_worker_that_is_killed_is_started_again(
    cluster: str, settings: SettingsFactory, tiny_bert_dir: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(40):
        write_pdf(raw / f"{number:02}.pdf", f"Lease {number}", LEASE)
    ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "local")
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            for process in psutil.process_iter(["name", "cmdline"]):
                if "ray::Worker.make" in " ".join(process.info["cmdline"] or []):
                    process.kill()
                    killed.append(process.pid)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    ingest_pdfs(on(settings, cluster), raw, tiny_bert_dir, tmp_path / "ray")
    killer.join(5)
    assert len(killed) == 1
    assert written(tmp_path / "ray") == written(tmp_path / "local")


@pytest.mark.long
def test_a_machine_that_is_lost_is_done_without(
    settings: SettingsFactory, tiny_bert_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(40):
        write_pdf(raw / f"{number:02}.pdf", f"Lease {number}", LEASE)
    ingest_pdfs(settings(), raw, tiny_bert_dir, tmp_path / "local")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = nodes.add_node(num_cpus=1)
    lost = threading.Event()

    def lose() -> None:
        while len(list((tmp_path / "cache").glob("*/vectors-*"))) < 5:
            time.sleep(0.05)
        nodes.remove_node(second, allow_graceful=False)
        lost.set()

    threading.Thread(target=lose, daemon=True).start()
    try:
        ingest_pdfs(on(settings, nodes.address), raw, tiny_bert_dir, tmp_path / "ray", tmp_path / "cache")
    finally:
        nodes.shutdown()
    assert lost.is_set()
    assert written(tmp_path / "ray") == written(tmp_path / "local")


@pytest.mark.long
def test_a_cluster_whose_token_is_missing_here_is_one_line(
    settings: SettingsFactory, three_pdfs: Path, tiny_bert_dir: Path, tmp_path: Path
) -> None:
    """In a process of its own: Ray reads its environment once."""
    pytest.importorskip("ray")
    code = (
        "import sys; from pathlib import Path; from mark.config import Ingest; from mark.errors import MarkError; "
        "from mark.ingest import ingest_pdfs\n"
        "try: ingest_pdfs(Ingest.model_validate_json(sys.argv[1]), *map(Path, sys.argv[2:]))\n"
        "except MarkError as fault: sys.stdout.write(str(fault))"
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", code, on(settings, address).model_dump_json(), str(three_pdfs),
             str(tiny_bert_dir), str(tmp_path / "data")],
            env={**os.environ, "RAY_AUTH_MODE": "token", "HOME": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.stdout.startswith(f"no Ray cluster answers at ingest.ray.address {address} ("), done.stderr
    assert "authentication token" in done.stdout and "\n" not in done.stdout


@pytest.mark.long
def test_what_workers_cannot_do_is_one_line(
    cluster: str, settings: SettingsFactory, three_pdfs: Path, tiny_bert_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with pytest.raises(
        MarkError, match=r"no Ray cluster answers at ingest\.ray\.address 127\.0\.0\.1:1 \("
    ) as fault:
        ingest_pdfs(on(settings, "127.0.0.1:1"), three_pdfs, tiny_bert_dir, tmp_path / "data")
    assert "\n" not in str(fault.value)
    monkeypatch.setattr("mark.ingest.ray_engine.code_sha256", lambda: "0" * 32)
    with pytest.raises(MarkError, match=r"the code on .* is another one; bring all machines to one commit"):
        ingest_pdfs(on(settings, cluster), three_pdfs, tiny_bert_dir, tmp_path / "data")
    monkeypatch.undo()
    known = installed(tiny_bert_dir)
    monkeypatch.setattr("mark.ingest.ray_engine.installed", lambda _folder: known | {"torch": "1.0"})
    with pytest.raises(
        MarkError, match=r" has another torch than the machine that runs ingest; install the same"
    ):
        ingest_pdfs(on(settings, cluster), three_pdfs, tiny_bert_dir, tmp_path / "data")
    monkeypatch.undo()
    maker = DocumentMaker(on(settings, cluster), tiny_bert_dir, None, Progress("ingest"))
    told = pytest.raises(MarkError, match=r"^odd\.pdf: a Ray worker failed \(AssertionError")
    with told, workers(maker, three_pdfs) as pool:
        pool.result(pool.begin(Task("odd.pdf", "0" * 64)))  # a document that is nothing
    monkeypatch.delenv("MARK_DOCLING_PYTHON", raising=False)
    if find_spec("docling") is None:
        with pytest.raises(MarkError, match=rf"{socket.gethostname()}: .*[Dd]ocling"):
            ingest_pdfs(on(settings, cluster, reader="docling"), three_pdfs, tiny_bert_dir, tmp_path / "data")
