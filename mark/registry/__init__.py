"""The models that there are, which of them is champion, and what may become it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mark.registry.view import ModelInfo, ModelRegistry

__all__ = ["ModelInfo", "ModelRegistry", "get_registry"]


def get_registry(root: Path | None = None) -> ModelRegistry:
    """The registry of a project: a view of models/, read anew at each call.

    Args:
        root: The project's root; by default found from the working folder.
    """
    from mark.files import git_root
    from mark.registry.view import ModelRegistry

    return ModelRegistry(git_root() if root is None else root)


def __getattr__(name: str) -> object:
    if name in ("ModelInfo", "ModelRegistry"):
        from mark.registry import view

        return getattr(view, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
