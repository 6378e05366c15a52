"""params model -> models/base/<name>, models/embedder, models/reranker."""

from __future__ import annotations

from mark.commands.stage import run_stage
from mark.config import Model, load_section, load_seed, load_value
from mark.files import BASE_MODELS, EMBEDDER, RERANKER
from mark.models.sources import fetch_model, store_reranker
from mark.models.storage import Storage


def main() -> None:
    """Fetch, check and store the models."""
    model, seed = load_section(Model, "model"), load_seed()
    storage = Storage.named(model.quantization, model.device_map)
    fetch_model(model.base, BASE_MODELS / model.name, seed, storage)
    fetch_model(model.embedder, EMBEDDER, seed)
    reranker = load_value("retrieval", "reranker")
    store_reranker(reranker and reranker.weights, RERANKER, seed)


if __name__ == "__main__":
    run_stage("base_model", main, online=True)
