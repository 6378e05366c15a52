"""params model -> models/base/<name>, models/embedder."""

from __future__ import annotations

from mark.commands.stage import run_stage
from mark.config import Model, load_section, load_seed
from mark.files import BASE_MODELS, EMBEDDER
from mark.models.sources import fetch_model


def main() -> None:
    """Fetch, check and store both models."""
    model, seed = load_section(Model, "model"), load_seed()
    fetch_model(model.base, BASE_MODELS / model.name, seed)
    fetch_model(model.embedder, EMBEDDER, seed)


if __name__ == "__main__":
    run_stage("base_model", main, online=True)
