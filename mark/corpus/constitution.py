"""The Constitution of India of the sample, from a JSON list of articles."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from mark.corpus.document import Article, Document, fold
from mark.errors import DataError

TITLE = "Constitution of India"
LEFT_OUT = frozenset({"370"})  # a paraphrase, not the text of the Constitution
# Article 243ZL quotes with a bar and a double line, marks that no reader of the text would know.
_QUOTES = str.maketrans({"―": "“", "‖": "”"})
_POINT = re.compile(r"([.;:—](?: and| or)?) (?=\((?:\d{1,2}|[a-z]{1,4})\) )")


class _SourceArticle(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    article: int | str
    title: str
    description: str


def read_constitution(source: Path) -> Document:
    """Read the Constitution: the Preamble (article 0 of the source) and the articles but 370.

    Args:
        source: JSON, a list of objects with `article`, `title` and `description`.

    Raises:
        DataError: The file is no such list.
    """
    try:
        rows = TypeAdapter(list[_SourceArticle]).validate_python(
            json.loads(source.read_text(encoding="utf-8"))
        )
    except (ValueError, ValidationError) as fault:
        reason = str(fault).splitlines()[0]
        raise DataError(
            f"{source.name} is no list of articles ({reason}); mend corpus.constitution"
        ) from None
    kept = [row for row in rows if str(row.article) not in LEFT_OUT]
    return Document(
        "constitution-of-india", TITLE, "The Constitution of India", [_article(row) for row in kept]
    )


def _article(row: _SourceArticle) -> Article:
    number = re.sub(r"\s", "", str(row.article))
    folded = (fold(line).translate(_QUOTES) for line in row.description.split("\n"))
    lines = [part for line in folded for part in _POINT.sub(r"\1\n", line).split("\n") if part]
    if number == "0":
        return Article(fold(row.title), "", lines)
    return Article(f"Article {number}", fold(row.title), lines)
