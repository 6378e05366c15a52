"""Known vulnerabilities of the locked packages, as pip-audit finds them in the OSV database.

`make audit` asks and waits; `make check` asks for at most some seconds, once a day. What is found is listed
and ends with 1, unless `.ci/audit_ignored.toml` names it with a reason and a date. Where nobody can be asked
a line says so: `make check` goes on, `make audit` ends with 1.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCKS = (ROOT / "requirements.lock", ROOT / "requirements-extras.lock")
IGNORED = ROOT / ".ci/audit_ignored.toml"
TODAY = ROOT / ".cache/audit.json"  # the last audit that found nothing
OSV = "https://api.osv.dev/v1/query"
_ANSWER_S = 5  # for one package


class NotDone(Exception):
    """Nobody could be asked."""


class Wrong(Exception):
    """The list of what is ignored is not complete."""


@dataclass(frozen=True)
class Ignored:
    """A vulnerability that is known and accepted."""

    id: str  # or an alias, e.g. CVE-2026-1
    package: str
    reason: str
    date: datetime.date  # of the judgement


def read_ignored(path: Path) -> list[Ignored]:
    """What is accepted.

    Raises:
        Wrong: An entry lacks something.
    """
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("ignore", [])
        found = [Ignored(**row) for row in rows]
    except (OSError, tomllib.TOMLDecodeError, TypeError) as fault:
        raise Wrong(f"{path.name}: {fault}; an entry has id, package, reason and date") from None
    for entry in found:
        words = (entry.id, entry.package, entry.reason)
        if not all(isinstance(word, str) and word.strip() for word in words):
            raise Wrong(f"{path.name}: {entry.id}: id, package and reason must be texts")
        if type(entry.date) is not datetime.date or entry.date > datetime.date.today():
            raise Wrong(
                f"{path.name}: {entry.id}: date: {entry.date} found, a past day is wanted (2026-01-31)"
            )
    return found


def ask(locks: Sequence[Path], url: str, limit_s: float | None) -> list[dict[str, Any]]:
    """pip-audit's row of each package.

    Raises:
        NotDone: It is not installed, or there was no answer, or not in time.
    """
    if importlib.util.find_spec("pip_audit") is None:
        raise NotDone("pip-audit is not installed: make extras")
    command = [
        sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--vulnerability-service", "osv",
        "--osv-url", url, "--timeout", str(_ANSWER_S), "--format", "json", "--progress-spinner", "off",
    ]  # fmt: skip
    for lock in locks:
        command += ["--requirement", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise NotDone(f"no answer within {limit_s:g} s; `make audit` waits longer") from None
    try:
        rows: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        raise NotDone(f"{url} did not answer ({_reason(done.stderr)})") from None
    if not any("vulns" in row for row in rows):
        raise NotDone(f"{url} knows none of the packages")
    return rows


def _reason(stderr: str) -> str:
    """What pip-audit says last: a line of its log, or the name of an exception."""
    last = ([line for line in stderr.splitlines() if line.strip()] or ["no reason given"])[-1].strip()
    if last.startswith("ERROR:"):
        return last.rpartition(":")[2]
    return last.partition(":")[0].rpartition(".")[2]


def open_faults(rows: Sequence[dict[str, Any]], ignored: Sequence[Ignored]) -> list[str]:
    """A line for each vulnerability that is not accepted."""
    accepted = {(_plain(entry.package), entry.id) for entry in ignored}
    lines = []
    for row in rows:
        for fault in row.get("vulns", []):
            names = [fault["id"], *fault["aliases"]]
            if not any((_plain(row["name"]), name) in accepted for name in names):
                mended = ", ".join(fault["fix_versions"]) or "no version"
                lines.append(f"{row['name']} {row['version']}: {', '.join(names)}; mended in {mended}")
    return lines


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _stamp(paths: Sequence[Path]) -> dict[str, str]:
    hashes = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return {"day": datetime.date.today().isoformat(), "sha256": hashes}


def _is_stamped(path: Path, stamp: dict[str, str]) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == stamp)
    except (OSError, ValueError):
        return False


def audit(given: argparse.Namespace) -> int:
    """Ask, and say what was found; the exit code."""
    ignored, locks = read_ignored(given.ignored), given.lock or list(LOCKS)
    stamp = _stamp([*locks, given.ignored])
    if given.limit is not None and _is_stamped(given.stamp, stamp):
        print("audit: no open vulnerability (asked today)")
        return 0
    rows = ask(locks, given.osv_url, given.limit)
    faults, skipped = open_faults(rows, ignored), [row["name"] for row in rows if "vulns" not in row]
    if skipped:
        print(f"audit: not asked about {', '.join(skipped)}")
    if faults:
        print(f"audit: {len(faults)} open vulnerabilities in the locked packages:", *faults, sep="\n  ")
        print(f"lock a version without it, or accept it in {given.ignored.name}: id, package, reason, date")
        return 1
    print(f"audit: no open vulnerability in {len(rows) - len(skipped)} packages, {len(ignored)} ignored")
    given.stamp.parent.mkdir(parents=True, exist_ok=True)
    given.stamp.write_text(json.dumps(stamp), encoding="utf-8")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, help="seconds; then go on, as without an answer")
    parser.add_argument("--osv-url", default=OSV)
    parser.add_argument("--lock", type=Path, action="append", help="by default both")
    parser.add_argument("--ignored", type=Path, default=IGNORED)
    parser.add_argument("--stamp", type=Path, default=TODAY)
    given = parser.parse_args(arguments)
    try:
        return audit(given)
    except Wrong as fault:
        print(f"audit: {fault}")
        return 1
    except NotDone as fault:
        print(f"audit: not done, {fault}")
        return 0 if given.limit is not None else 1


if __name__ == "__main__":
    sys.exit(main())
