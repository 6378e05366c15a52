"""`make test-long` counts rightly and goes on where it was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import long
from tests.long import Piece, counts, main

REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><failure>x</failure></testcase><testcase name="c"><error>y</error></testcase>
<testcase name="d"><skipped message="Skipped: no GPU">at line 3</skipped></testcase><testcase name="e"/>
</testsuite></testsuites>"""


def test_a_report_is_counted(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(REPORT)
    assert counts(tmp_path / "r.xml") == (2, 2, ["no GPU"])


def test_what_passed_at_this_commit_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    failing = {"b.py"}

    def run(name: str, commit: str) -> Piece:
        ran.append(name)
        return Piece(name, commit, "2026-01-01", 61.5, 2, int(name in failing), ["no GPU", "no GPU"])

    monkeypatch.setattr(long, "STATE", tmp_path / "state.json")
    monkeypatch.setattr(long, "PAGE", tmp_path / "long.md")
    monkeypatch.setattr(long, "_run", run)
    monkeypatch.setattr(long, "_files", lambda: {"b.py", "a.py"})
    monkeypatch.setattr(long, "commit_of", lambda page: "c1")
    assert main([]) == 1 and ran == ["a.py", "b.py"]
    assert "| b.py | 2 | 1 | no GPU | 62 | 2026-01-01 | c1 |" in (tmp_path / "long.md").read_text()
    failing.clear()
    assert main([]) == 0 and ran == ["a.py", "b.py", "b.py"]
    monkeypatch.setattr(long, "commit_of", lambda page: "c1+changes")
    assert main(["a.py"]) == 0 and ran[-1] == "a.py" and main(["a.py"]) == 0 and ran[-2:] == ["a.py", "a.py"]
    assert "c1+changes" in (tmp_path / "long.md").read_text()
