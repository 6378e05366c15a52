"""Finding the passages that a question is about."""

from __future__ import annotations

from mark.retrieval.retriever import Hit, Retriever

__all__ = ["Hit", "Retriever"]
