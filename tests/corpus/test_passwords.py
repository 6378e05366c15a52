"""Passwords of PDFs: remembered for the reader, seen by nobody else."""

from __future__ import annotations

import io
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pikepdf
import pytest
from typer.testing import CliRunner

from mark.cli import app
from mark.config import Ingest, load_section
from mark.corpus.passwords import forget_passwords, read_passwords, store_password
from mark.errors import DataError
from mark.files import PASSWORDS
from mark.ingest.layout import RawDocument
from mark.ingest.pdf import read_pdfs
from mark.ingest.report import QuarantinedFile

SECRET = "Gemüse & 'Brot' 42"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project under git and DVC, with a locked and an open PDF beside it."""
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    (root / "dvc.yaml").write_text("stages: {}\n")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    monkeypatch.chdir(root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return root


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A PDF that its secret opens."""
    from reportlab.pdfgen.canvas import Canvas

    page = io.BytesIO()
    canvas = Canvas(page, pagesize=(595, 842), invariant=1)
    canvas.drawString(72, 700, "The seller shall deliver the bread before noon.")
    canvas.save()
    with pikepdf.open(page) as pdf:
        pdf.save(tmp_path / "locked.pdf", encryption=pikepdf.Encryption(user=SECRET, owner="boss"))
    page.seek(0)
    (tmp_path / "open.pdf").write_bytes(page.getvalue())
    return tmp_path / "locked.pdf"


def test_a_secret_stays_with_its_owner(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    store_password(["a.pdf", "b.pdf"], SECRET, tmp_path)
    store_password(["b.pdf"], "other", tmp_path)
    assert read_passwords(tmp_path) == {"a.pdf": SECRET, "b.pdf": "other"}
    file = tmp_path / PASSWORDS
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)  # no .gitignore of the project's
    listed = subprocess.run(["git", "ls-files"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert listed.stdout == ""
    assert forget_passwords(["b.pdf", "c.pdf"], tmp_path) == ["b.pdf"]
    assert read_passwords(tmp_path) == {"a.pdf": SECRET}


def test_a_damaged_file_is_named_and_not_shown(tmp_path: Path) -> None:
    assert read_passwords(tmp_path) == {}
    (tmp_path / PASSWORDS).parent.mkdir()
    for content in ('{"a.pdf": "hush-hush"', '["hush-hush"]', '{"a.pdf": {"x": "hush-hush"}}'):
        (tmp_path / PASSWORDS).write_text(content)
        with pytest.raises(DataError, match=r"passwords\.json is damaged; it should hold") as fault:
            read_passwords(tmp_path)
        assert "hush" not in str(fault.value)


def test_from_the_command_to_the_text(project: Path, locked: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = CliRunner().invoke
    settings = load_section(Ingest, "ingest", project / "params.yaml")
    assert run(app, ["add", "--no-dvc", str(locked), str(locked.with_name("open.pdf"))]).exit_code == 0
    folder = project / "data/pdfs"
    before = dict(read_pdfs([folder / "locked.pdf"], folder, settings))[folder / "locked.pdf"]
    assert isinstance(before, QuarantinedFile) and before.code == "encrypted"
    wrong = run(app, ["password", "locked"], input="guess\n")
    assert isinstance(wrong.exception, DataError)
    assert str(wrong.exception) == "this is not the password of locked.pdf; nothing is stored, try again"
    assert read_passwords(project) == {}
    done = run(app, ["password", "locked"], input=f"{SECRET}\n")
    assert done.output == "opens locked.pdf; `mark ingest --force` reads again\n"
    found = dict(read_pdfs([folder / "locked.pdf", folder / "open.pdf"], folder, settings))
    assert all(isinstance(result, RawDocument) for result in found.values())
    assert SECRET not in caplog.text
    for path in project.rglob("*"):  # the secret lies in one file alone
        if path.is_file() and path != project / PASSWORDS:
            assert SECRET.encode() not in path.read_bytes(), path
    assert run(app, ["password", "locked", "--forget"]).output == "forgot the password of locked.pdf\n"
    assert isinstance(run(app, ["password", "locked", "--forget"]).exception, DataError)


def test_adding_with_a_password_and_removing(project: Path, locked: Path) -> None:
    run = CliRunner().invoke
    added = run(
        app, ["add", str(locked), str(locked.with_name("open.pdf")), "--password"], input=f"{SECRET}\n"
    )
    assert added.exit_code == 0, added.output
    assert read_passwords(project) == {"locked.pdf": SECRET}  # the open one needs none
    status = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], capture_output=True, text=True, check=True
    )
    assert ".mark" not in status.stdout
    assert run(app, ["remove", "locked"]).exit_code == 0
    assert read_passwords(project) == {}


def test_mistakes(project: Path, locked: Path) -> None:
    run = CliRunner().invoke
    run(app, ["add", "--no-dvc", str(locked.with_name("open.pdf"))])
    cases = [
        (["password", "open"], "x\n", "open.pdf: no password is needed; nothing is stored"),
        (["password", "opne"], "x\n", "holds no 'opne'; did you mean open.pdf?"),
        (["password", "open"], "", "no password was given; type it, or pipe it"),
    ]
    for arguments, typed, message in cases:
        result = run(app, arguments, input=typed)
        assert isinstance(result.exception, DataError) and message in str(result.exception)


def test_a_secret_is_in_no_process_list(
    tmp_path: Path, locked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that looks at its own command line and environment, as another user's `ps` would."""
    from dataclasses import replace

    from mark.ingest.backends import BACKENDS
    from mark.ingest.reading import Job, run

    (tmp_path / "looking.py").write_text(
        "import os, sys\n"
        "def read(job):\n"
        "    seen = ' '.join([*sys.orig_argv, *os.environ.values()])\n"
        "    yield {'kind': 'document', 'pages': 1, 'title': str(job['password'] in seen)}\n"
    )
    monkeypatch.setitem(BACKENDS, "pdfium", replace(BACKENDS["pdfium"], file=tmp_path / "looking.py"))
    job = Job("pdfium", locked, SECRET)
    reading = run(job, load_section(Ingest, "ingest", ROOT / "params.yaml"))
    assert reading.title == "False"
    assert SECRET not in repr(job)
