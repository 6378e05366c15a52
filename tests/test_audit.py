"""`make audit` with the real pip-audit against a small OSV server: what is found fails, no network does not."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT

FAULT = {
    "schema_version": "1.6.0", "id": "GHSA-plan-ted1-2345", "aliases": ["CVE-2026-1"], "summary": "planted",
    "affected": [{"package": {"name": "nltk", "ecosystem": "PyPI"},
                  "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}]}],
}  # fmt: skip


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


AUDIT = loaded()


class Osv(BaseHTTPRequestHandler):
    """Knows one vulnerability of nltk."""

    asked: list[str]
    delay_s: float

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        self.asked.append(name)
        time.sleep(self.delay_s)
        content = json.dumps({"vulns": [FAULT]} if name == "nltk" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def osv() -> Iterator[tuple[str, type[Osv]]]:
    """A server's URL and what it was asked."""
    pytest.importorskip("pip_audit", reason="pip-audit is not installed: make extras")
    handler: type[Osv] = type("Handler", (Osv,), {"asked": [], "delay_s": 0.0})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query", handler
        server.shutdown()


class Place:
    """Files of an audit of its own."""

    def __init__(self, folder: Path) -> None:
        self.lock, self.ignored, self.stamp = (
            folder / "a.lock",
            folder / "ignored.toml",
            folder / "c/stamp.json",
        )
        self.lock.write_text("nltk==3.9.1\nsix==1.17.0\n")
        self.ignored.write_text("")

    def run(self, url: str, *more: str) -> int:
        files: list[Any] = ["--lock", self.lock, "--ignored", self.ignored, "--stamp", self.stamp]
        code: int = AUDIT.main([*map(str, files), "--osv-url", url, *more])
        return code

    def ignore(self, **values: str) -> None:
        rows = "\n".join(f"{name} = {value}" for name, value in values.items())
        self.ignored.write_text(f"[[ignore]]\n{rows}\n")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


WHOLE = {"id": '"CVE-2026-1"', "package": '"NLTK"', "reason": '"not called"', "date": "2026-01-31"}


def test_what_is_found_is_listed_and_fails_until_it_is_accepted(
    osv: tuple[str, type[Osv]], place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    url, server = osv
    assert place.run(url, "--limit", "300") == 1
    assert "\n  nltk 3.9.1: CVE-2026-1, GHSA-plan-ted1-2345; mended in 9.9\n" in capsys.readouterr().out
    assert not place.stamp.exists()
    place.ignore(**WHOLE | {"package": '"six"'})  # of another package
    assert place.run(url) == 1
    place.ignore(**WHOLE)
    capsys.readouterr()
    assert place.run(url, "--limit", "300") == 0
    assert capsys.readouterr().out == "audit: no open vulnerability in 2 packages, 1 ignored\n"
    assert sorted(set(server.asked)) == ["nltk", "six"]
    asked = len(server.asked)
    assert place.run(url, "--limit", "300") == 0 and len(server.asked) == asked  # once a day
    assert "(asked today)" in capsys.readouterr().out
    place.lock.write_text("six==1.17.0\n")
    assert place.run(url, "--limit", "300") == 0 and len(server.asked) == asked + 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reason": '""'}, "id, package and reason must be texts"),
        ({"date": '"soon"'}, "date: soon found, a past day is wanted"),
        ({"date": (date.today() + timedelta(days=2)).isoformat()}, "a past day is wanted"),
        ({"more": "1"}, "an entry has id, package, reason and date"),
        ({"id": "["}, "an entry has id, package, reason and date"),
        (None, "an entry has id, package, reason and date"),
    ],
)
def test_an_entry_needs_a_reason_and_a_date(
    changes: dict[str, str] | None, said: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    values = WHOLE | changes if changes is not None else {"id": '"CVE-2026-1"'}
    place.ignore(**values)
    assert place.run("http://127.0.0.1:9", "--limit", "300") == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("audit: ignored.toml: ") and said in line


def test_without_a_network_the_check_goes_on_and_says_so(
    osv: tuple[str, type[Osv]], place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.run("http://127.0.0.1:9/v1/query", "--limit", "300") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "audit: not done, http://127.0.0.1:9/v1/query did not answer (ConnectionError)"
    assert place.run("http://127.0.0.1:9/v1/query") == 1  # `make audit`
    url, server = osv
    server.delay_s = 30
    assert place.run(url, "--limit", "2") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "audit: not done, no answer within 2 s; `make audit` waits longer"
    )
    assert not place.stamp.exists()


def test_without_pip_audit_the_check_goes_on_and_says_so(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AUDIT.importlib.util, "find_spec", lambda name: None)
    assert place.run("http://127.0.0.1:9", "--limit", "300") == 0
    assert capsys.readouterr().out == "audit: not done, pip-audit is not installed: make extras\n"


def locked() -> dict[str, str]:
    """Name and version of each locked package."""
    lines = "".join((ROOT / name).read_text() for name in ("requirements.lock", "requirements-extras.lock"))
    pins = [line.partition(" ;")[0].split("==") for line in lines.splitlines()]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}


def test_the_project_s_own_locks_can_be_audited(osv: tuple[str, type[Osv]], tmp_path: Path) -> None:
    """Each package is asked for, and the list of what is ignored is complete."""
    url, server = osv
    assert AUDIT.read_ignored(AUDIT.IGNORED) is not None
    rows = AUDIT.ask(AUDIT.LOCKS, url, None)
    assert {row["name"] for row in rows if "vulns" not in row} == set()
    assert set(server.asked) == locked().keys()


@pytest.mark.long
def test_the_bill_of_materials_names_the_locked_packages(tmp_path: Path) -> None:
    """`make sbom`, into a folder of its own; the first time it installs its tool."""
    out = tmp_path / "sbom.json"
    subprocess.run(["make", "sbom", f"SBOM={out}", f"SBOM_VENV={tmp_path}/venv"], cwd=ROOT, check=True)
    bill = json.loads(out.read_text())
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["name"] == "mark"
    found = {re.sub(r"[-_.]+", "-", part["name"]).lower(): part["version"] for part in bill["components"]}
    assert found == locked()


def test_no_locked_package_makes_each_import_of_chromadb_slow() -> None:
    """jsonschema takes up rfc3987-syntax wherever it is installed, and that compiles grammars for seconds."""
    assert "rfc3987-syntax" not in locked()
