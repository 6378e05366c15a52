"""The workers of a Ray cluster that data_prep gives documents to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mark.cluster import Fault
from mark.cluster.sameness import host, missing, other_code, other_versions, package_sha256, package_versions
from mark.data_prep.asking import Asking, Documents, Found, ask
from mark.data_prep.phrases import Casing
from mark.errors import MarkError
from mark.ingest.index import embedder_sha256
from mark.records import Chunk
from mark.retrieval.late import TokenPart, token_part

_PACKAGES = ("numpy", "tokenizers", "transformers", "torch")  # what token vectors depend on
_NO_CASING = Casing(())


class Asker:
    """Makes questions; lives in a process of the cluster."""

    def __init__(self, asking: Asking, code: str, here: dict[str, str]) -> None:
        """Look whether this machine is like the first.

        Args:
            asking: What questions are made with.
            code: Hash of the code that they must come from.
            here: Versions where the run was started.
        """
        self._asking = asking
        self._fault = other_code(code, package_sha256()) or other_versions(
            "data_prep", here, package_versions(())
        )

    def ready(self) -> str | None:
        """What keeps this worker from working; None = nothing."""
        return self._fault

    def make(self, documents: Documents) -> list[Found]:
        """Ask about some documents; the casing of the corpus, which is large, is not sent back."""
        return [
            replace(found, source=replace(found.source, casing=_NO_CASING))
            for found in ask(documents, self._asking)
        ]


@dataclass(frozen=True)
class Texts:
    """A document's chunks as they are embedded."""

    name: str
    texts: Sequence[str]


def texts_of(chunks: Sequence[Chunk]) -> Texts:
    """A document to encode."""
    return Texts(chunks[0].document, [chunk.embedded_text for chunk in chunks])


class Encoder:
    """Makes token vectors; lives in a process of the cluster."""

    def __init__(self, embedder: str, threads: int, code: str, here: dict[str, str]) -> None:
        """Load the embedder.

        Args:
            embedder: Its folder.
            threads: Of this worker.
            code: Hash of the code that the vectors must come from.
            here: `encoder_versions` where the run was started.
        """
        import torch

        torch.set_num_threads(threads)
        folder = Path(embedder)
        self._fault = other_code(code, package_sha256()) or missing(folder) or self._load(folder, here)

    def ready(self) -> str | None:
        """What keeps this worker from working; None = nothing."""
        return self._fault

    def make(self, document: Texts) -> TokenPart | Fault:
        """Encode a document."""
        try:
            return token_part(document.texts, self._model)
        except MarkError as fault:
            return Fault(str(fault))

    def _load(self, folder: Path, here: dict[str, str]) -> str | None:
        from mark.models.embedder import Embedder

        try:
            if fault := other_versions("data_prep", here, encoder_versions(folder)):
                return fault
            self._model = Embedder(folder)
        except MarkError as fault:
            return f"{host()}: {fault}"
        return None


def encoder_versions(embedder: Path) -> dict[str, str]:
    """What token vectors depend on beside code and texts.

    Raises:
        ModelError: The folder holds no embedder.
    """
    return package_versions(_PACKAGES) | {"embedder": embedder_sha256(embedder)}
