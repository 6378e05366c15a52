"""`mark --version`: the version, and the commit where the code runs from a git checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mark import __version__

CODE = Path(__file__).parents[2]


def installed_version() -> str:
    """`mark 0.1.0 (0123456789ab)`; `+changes` where files that git tracks differ from the commit."""
    if not (CODE / ".git").exists():
        return f"mark {__version__}"
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "mark", "stages")
    except (OSError, subprocess.CalledProcessError):  # no git, or a checkout of another user
        return f"mark {__version__}"
    return f"mark {__version__} ({commit}{'+changes' if changed else ''})"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(CODE), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
