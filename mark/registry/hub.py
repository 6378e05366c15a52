"""Pushing a folder to a model hub. Nothing is sent unless it is confirmed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mark.errors import ConfigError, ModelError

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


@dataclass(frozen=True)
class Push:
    """What a push would send."""

    repo: str  # OWNER/NAME
    folder: Path
    private: bool

    def files(self) -> list[tuple[str, int]]:
        """Relative path and bytes of each file."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [(path.relative_to(self.folder).as_posix(), path.stat().st_size) for path in found]

    def as_text(self) -> str:
        """The plan: where to, how visible, and every file."""
        files = self.files()
        lines = [f"to {self.repo} ({'private' if self.private else 'PUBLIC'}), {len(files)} files:"]
        lines += [f"  {name:40} {size / 2**20:10.2f} MB" for name, size in files]
        return "\n".join(lines)


def check_repo(repo: str) -> None:
    """Stop at a name that no hub takes.

    Raises:
        ConfigError: It is not OWNER/NAME.
    """
    if not _REPO.fullmatch(repo):
        raise ConfigError(f"--repo {repo!r}: give OWNER/NAME, e.g. my-team/eu-law-lora")


def push(plan: Push) -> str:
    """Create the repository where it is missing and upload the folder as one commit.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: No token is set, or the repository is public and the push private.
        ModelError: The hub refuses, or cannot be reached.
    """
    token = os.environ.get("HF_TOKEN", "")
    if not token:
        raise ConfigError("HF_TOKEN is not set; make a token with write access on the hub and export it")
    os.environ["HF_HUB_OFFLINE"] = "0"  # before the library reads it
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    transport_fault = HfHubHTTPError.__bases__[0]  # of the client that this version uses: httpx, httpx2
    constants.HF_HUB_OFFLINE = False  # it was imported before
    api = HfApi(token=token)
    try:
        api.create_repo(plan.repo, private=plan.private, exist_ok=True)
        if plan.private and not api.repo_info(plan.repo).private:
            raise ConfigError(f"{plan.repo} exists and is public; push with --public, or name another one")
        done = api.upload_folder(repo_id=plan.repo, folder_path=plan.folder, commit_message="Pushed by MARK")
    except (transport_fault, OSError, ValueError) as fault:
        line = next((line for line in str(fault).splitlines() if line.strip()), type(fault).__name__)
        raise ModelError(
            f"the hub did not take {plan.repo} ({line[:200].replace(token, '***')}); "
            "check HF_TOKEN, the name and the network"
        ) from None
    return str(done)
