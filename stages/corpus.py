"""params corpus, data/pdfs -> data/raw."""

from __future__ import annotations

from mark.commands.stage import run_stage
from mark.config import Corpus, load_section
from mark.corpus import make_corpus
from mark.files import PDFS, RAW


def main() -> None:
    """Put the corpus's PDFs into data/raw."""
    make_corpus(load_section(Corpus, "corpus"), PDFS, RAW)


if __name__ == "__main__":
    run_stage("corpus", main)
