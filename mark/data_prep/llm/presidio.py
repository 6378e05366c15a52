"""Personal data found by Microsoft Presidio, an optional extra, without any call to the network."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from mark.errors import ConfigError

_WAY_OUT = (
    "or choose data_prep.llm.masking=patterns (e-mail addresses, telephone, account, card and ID numbers, "
    "but no names of people)"
)
LANGUAGE = "en"


def presidio_missing(model: str) -> str | None:
    """What keeps Presidio from running, as one sentence with the remedy; None where nothing does.

    Args:
        model: An installed spaCy model, or its folder.
    """
    if importlib.util.find_spec("presidio_analyzer") is None or importlib.util.find_spec("spacy") is None:
        return (
            "data_prep.llm.masking is presidio and Presidio is not installed; `pip install -c "
            "requirements.lock -e '.[pii]'`, " + _WAY_OUT
        )
    if not _installed(model) and not Path(model).is_dir():
        return (
            f"data_prep.llm.masking_model: {model!r} is no installed spaCy model and no folder; "
            f"`python -m spacy download {model}` installs one that spaCy knows, {_WAY_OUT}"
        )
    return None


def _installed(model: str) -> bool:
    """Whether Presidio would load it: for what it does not find here it starts a download."""
    try:
        importlib.metadata.distribution(model)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
    return True


def presidio_finder(model: str, entities: Sequence[str]) -> Callable[[str], list[tuple[int, int, str]]]:
    """A function that finds spans (start, end, kind) in a text.

    Args:
        model: An installed spaCy model, or its folder; never downloaded from here.
        entities: Presidio's names of what is masked, e.g. `PERSON`.

    Raises:
        ConfigError: Presidio or the model is missing, or an entity is unknown.
    """
    if fault := presidio_missing(model):
        raise ConfigError(fault)
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    _keep_offline()
    for name in ("presidio-analyzer", "presidio_analyzer"):
        logging.getLogger(name).setLevel(logging.ERROR)
    models = [{"lang_code": LANGUAGE, "model_name": model}]
    nlp = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    analyzer = AnalyzerEngine(nlp_engine=nlp, supported_languages=[LANGUAGE])
    known = set(analyzer.get_supported_entities(LANGUAGE))
    unknown = [name for name in entities if name not in known]
    if unknown:
        raise ConfigError(
            f"data_prep.llm.masking_entities: {unknown[0]!r} found; Presidio knows {', '.join(sorted(known))}"
        )

    def find(text: str) -> list[tuple[int, int, str]]:
        results = analyzer.analyze(text=text, language=LANGUAGE, entities=list(entities))
        return [(found.start, found.end, str(found.entity_type)) for found in results]

    return find


def _keep_offline() -> None:
    """Presidio checks e-mail domains with tldextract, whose default fetches a list of suffixes.

    Source: tldextract's README, "Note about caching": an empty list of URLs means its own snapshot.
    """
    import tldextract.tldextract as domains

    domains.TLD_EXTRACTOR.suffix_list_urls = ()
