"""MARK: turns a folder of PDFs into a model that answers questions about them, and proves the gain.

The public names are loaded on first use, so that `import mark` stays cheap (no torch).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AutoPipeline": "mark.pipeline.auto",
    "SFTDataGenerator": "mark.data_prep.generator",
    "get_registry": "mark.registry",
    "load_model": "mark.models.loading",
}

__all__ = ["AutoPipeline", "SFTDataGenerator", "__version__", "get_registry", "load_model"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'mark' has no attribute {name!r}")
