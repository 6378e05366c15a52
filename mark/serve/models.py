"""Which models may be asked for: `auto`, the entries and the base models that lie in the project."""

from __future__ import annotations

from pathlib import Path

from mark.files import BASE_MODELS, CHAMPION_COPY, MODELS
from mark.pipeline.choice import EXTRACTIVE
from mark.serve.errors import ApiError
from mark.serve.schema import AUTO, ModelCard, ModelList


def list_models(root: Path) -> ModelList:
    """Names with the time of their files; that a model is listed does not mean that it loads."""
    entries = [
        path
        for path in sorted((root / MODELS).glob("*/entry.json"))
        if path.parent.name != CHAMPION_COPY.name and not path.parent.name.startswith(".")
    ]
    found = [*entries, *sorted((root / BASE_MODELS).glob("*/config.json"))]
    times = {path.parent.name: int(path.stat().st_mtime) for path in reversed(found)}
    names = [AUTO, *dict.fromkeys(path.parent.name for path in found), EXTRACTIVE]
    return ModelList(data=[ModelCard(id=name, created=times.get(name, 0)) for name in names])


def checked_model(name: str, root: Path) -> str:
    """A name of the list: a client's text becomes no path.

    Raises:
        ApiError: 404, there is no such model.
    """
    known = [card.id for card in list_models(root).data]
    if name in known:
        return name
    raise ApiError(404, f"no model named {name!r}; there are: {', '.join(known)}", "model_not_found", "model")
