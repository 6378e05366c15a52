"""/v1/documents: the list, what is refused, and an upload that is answered from in the end."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import ROOT, write_pdf
from tests.serve.conftest import Live, StartServer, asking

GARDEN = [("Article 1 Garden", "The gardener shall water the roses twice a week in summer.")]
PIPELINE = {
    "stages": {
        "corpus": {
            "cmd": "python -m stages.corpus", "deps": ["data/pdfs"], "params": ["corpus"], "outs": ["data/raw"],
        },
        "ingest": {
            "cmd": "python -m stages.ingest", "deps": ["data/raw"], "params": ["ingest"],
            "outs": [f"data/{name}" for name in (
                "pages.jsonl", "chunks.jsonl", "embeddings.npy", "index.json", "ingest_report.json"
            )],
        },
    }
}  # fmt: skip


@pytest.fixture
def shelf(make_root: Any, three_pdfs: Path) -> Path:
    """A project of one's own PDFs, without DVC."""
    root = searched_by_words(make_root([]))
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["corpus"] |= {"source": "folder", "documents": []}
    params["ingest"] |= {"chunk_tokens": 250, "workers": 1}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copytree(three_pdfs, root / "data/pdfs")
    return root


def searched_by_words(root: Path) -> Path:
    """Without vectors: the embedder is random."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["retrieval"] |= {"dense_weight": 0.0, "late_weight": 0.0}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


def pdf(tmp_path: Path, sections: list[tuple[str, str]] = GARDEN) -> bytes:
    path = tmp_path / "made.pdf"
    write_pdf(path, "Rules of the Garden", sections)
    return path.read_bytes()


def send(live: Live, content: bytes, name: str = "garden.pdf") -> httpx.Response:
    with live.client() as client:
        return client.post("/v1/documents", files={"file": (name, content, "application/pdf")})


def listed(live: Live) -> Any:
    with live.client() as client:
        return client.get("/v1/documents").json()


def wait_for_ingest(live: Live) -> Any:
    ends = time.monotonic() + 240
    while (found := listed(live))["ingest"]["state"] == "running":
        assert time.monotonic() < ends, found["ingest"]
        time.sleep(0.2)
    return found


def test_documents_are_listed(start: StartServer) -> None:
    found = listed(start(models=(), max_upload_mb=3))
    assert found["max_upload_bytes"] == 3 << 20
    assert [(d["id"], d["title"], d["status"]) for d in found["data"]] == [
        ("lease", "Lease", "ready"), ("policy", "Records Policy", "ready"), ("statute", "Club Statute", "ready")
    ]  # fmt: skip
    assert [d["pages"] for d in found["data"]] == [2, 2, 2]
    assert found["ingest"] == {"state": "idle", "line": ""} and found["uploads"] is False


def test_uploads_are_off_until_both_settings_allow_them(
    start: StartServer, shelf: Path, tmp_path: Path
) -> None:
    found = send(start(root=shelf), pdf(tmp_path))
    assert found.status_code == 409
    assert "`mark params serve.allow_upload=true`" in found.json()["error"]["message"]
    params = (shelf / "params.yaml").read_text().replace("source: folder", "source: sample")
    (shelf / "params.yaml").write_text(params)
    found = send(start(root=shelf, allow_upload=True), pdf(tmp_path))
    assert "`mark params corpus=folder`" in found.json()["error"]["message"]
    assert not (shelf / ".mark").exists()


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 415, "not_a_pdf"),
        (b"<html>%PDF-1.7", 415, "not_a_pdf"),
        (b"MZ" + b"\0" * 5000, 415, "not_a_pdf"),
        (b"%PDF-1.7\nnothing of the kind", 422, "corrupt"),
        (b"%PDF-1.7\n" + b"x" * (1 << 20), 413, "body_too_large"),
    ],
)
def test_what_is_no_pdf_stays_out(
    start: StartServer, shelf: Path, content: bytes, status: int, code: str
) -> None:
    before = files(shelf)
    live = start(root=shelf, allow_upload=True, max_upload_mb=1)
    found = send(live, content)
    assert (found.status_code, found.json()["error"]["code"]) == (status, code)
    assert files(shelf) == before


def test_a_pdf_of_too_many_pages_stays_out(start: StartServer, shelf: Path, tmp_path: Path) -> None:
    live = start(root=shelf, allow_upload=True, max_upload_pages=1)
    found = send(live, pdf(tmp_path, [("A", "one"), ("B", "two"), ("C", "three")]))
    assert (found.status_code, found.json()["error"]["code"]) == (422, "too_large")
    live = start(root=shelf, allow_upload=True, max_documents=3)
    assert send(live, pdf(tmp_path)).json()["error"]["code"] == "too_many_documents"


def test_an_upload_without_a_file_is_said(start: StartServer, shelf: Path) -> None:
    live = start(root=shelf, allow_upload=True)
    with live.client() as client:
        for sent in (client.post("/v1/documents"), client.post("/v1/documents", data={"file": "text"})):
            assert sent.status_code == 400 and sent.json()["error"]["param"] == "file"


def test_a_failed_ingest_is_seen(start: StartServer, shelf: Path, tmp_path: Path) -> None:
    """No DVC here: what was sent waits, and the reason stands in the list; the next start tries again."""
    live = start(root=shelf, allow_upload=True)
    name = send(live, pdf(tmp_path), "../../../etc/cron.d/x.pdf").json()["id"]
    assert name.startswith("upload-") and len(name) == 23
    found = wait_for_ingest(live)
    assert found["ingest"]["state"] == "failed" and "dvc add" in found["ingest"]["line"]
    (queued,) = [d for d in found["data"] if d["id"] == name]
    assert (queued["status"], queued["sent_name"]) == ("queued", "../../../etc/cron.d/x.pdf")
    again = send(live, pdf(tmp_path), "other.pdf")
    assert again.status_code == 200 and again.json()["id"] == name
    live.stop()
    new = {path for path in files(shelf) if "upload" in path}
    places = {f".mark/incoming/{name}.pdf", f"data/pdfs/{name}.pdf", ".mark/uploads.json"}
    assert new <= {f"project/{place}" for place in places}


def test_an_upload_is_answered_from(
    start: StartServer, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real `dvc add`, `dvc repro ingest` and the real stages."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (shelf / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=shelf, check=True)
    live = start(root=shelf, allow_upload=True)
    question = asking("How often shall the gardener water the roses?")
    with live.client() as client:
        before = client.post("/v1/chat/completions", json=question).json()
        sent = send(live, pdf(tmp_path))
        assert sent.status_code == 202 and sent.json()["status"] == "queued"
        found = wait_for_ingest(live)
        assert found["ingest"]["state"] == "idle" and found["ingest"]["line"]
        after = client.post("/v1/chat/completions", json=question).json()
    name = sent.json()["id"]
    assert name not in {quote["document"] for quote in before["mark"]["quotes"]}
    assert {(q["document"], q["page"]) for q in after["mark"]["quotes"]} == {(name, 1)}
    assert "twice a week" in after["choices"][0]["message"]["content"]
    ready = {d["id"]: d for d in found["data"]}
    assert set(ready) == {"lease", "policy", "statute", name}
    assert ready[name]["status"] == "ready" and ready[name]["title"] == "Rules of the Garden"
    assert (shelf / f"data/pdfs/{name}.pdf.dvc").is_file() and not list((shelf / ".mark/incoming").iterdir())


def files(root: Path) -> set[str]:
    """Where uploads could go; what retrieval derives is left out."""
    found = {path.relative_to(root.parent).as_posix() for path in root.parent.rglob("*") if path.is_file()}
    return {path for path in found if "token_vectors" not in path}
