"""Answering questions with the best model that there is, every quote checked on its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mark.pipeline.answer import Answer, Context, PageQuote, Seconds
    from mark.pipeline.auto import AutoPipeline

__all__ = ["Answer", "AutoPipeline", "Context", "PageQuote", "Seconds"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use: `mark ask --help` must not load torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mark.pipeline import answer, auto

    return getattr(auto if name == "AutoPipeline" else answer, name)
