"""chunks, embeddings, held_out_sections, practice -> train/val/test_sft, practice_passages, ledger."""

from __future__ import annotations

from mark.commands.stage import run_stage
from mark.config import DataPrep, Retrieval, load_section, load_seed
from mark.data_prep import prepare
from mark.files import CHUNKS, EMBEDDER


def main() -> None:
    """Make the questions from data/ and write the splits beside it."""
    settings, retrieval = load_section(DataPrep, "data_prep"), load_section(Retrieval, "retrieval")
    prepare(CHUNKS.parent, EMBEDDER, settings, retrieval, load_seed(), CHUNKS.parent)


if __name__ == "__main__":
    run_stage("data_prep", main)
