"""The EU acts of the sample: flattened articles of an SQLite table, given back their structure."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from mark.corpus.document import Article, Document, fold
from mark.corpus.points import split_points
from mark.errors import DataError

CUT_LENGTH = 10_000  # characters; the source keeps no more of an article


@dataclass(frozen=True)
class Act:
    """An act of the table."""

    celex: str
    title: str  # short


ACTS = {
    "gdpr": Act("32016R0679", "General Data Protection Regulation (GDPR)"),
    "ai-act": Act("32024R1689", "Artificial Intelligence Act"),
    "nis2": Act("32022L2555", "NIS 2 Directive"),
    "dora": Act("32022R2554", "Digital Operational Resilience Act (DORA)"),
    "cra": Act("32024R2847", "Cyber Resilience Act"),
}

# The first words of the body where the rule of `split_heading` would end the heading elsewhere.
# All 393 headings were read by a person; tests/corpus/headings.tsv holds the reviewed list.
_BODY_STARTS = {
    ("gdpr", 87): "Member States may",
    ("ai-act", 87): "Directive (EU) 2019/1937 shall",
    ("ai-act", 94): "Article 18 of Regulation",
    ("ai-act", 108): "Regulation (EU) 2018/1139 is amended",
    ("nis2", 36): "Member States shall",
    ("nis2", 44): "Directive (EU) 2016/1148 is repealed",
    ("dora", 53): "Member States shall",
    ("dora", 59): "Regulation (EC) No 1060/2009 is amended",
    ("dora", 60): "Regulation (EU) No 648/2012 is amended",
    ("dora", 61): "Article 45 of Regulation",
    ("dora", 62): "Regulation (EU) No 600/2014 is amended",
    ("cra", 48): "Member States shall",
    ("cra", 65): "Directive (EU) 2020/1828 shall",
}
# Names that are capitalised inside a heading.
_NAMES = frozenset(
    """
    AI Agreements Annex Article Articles Artificial Board CE CSIRT CSIRTs Chair Commission Committee
    Cooperation Council Data Directive EC ENISA EU EU-CyCLONe European Forum Framework Group ICT III
    Intelligence Joint Lead Member No Office Overseer Overseers Oversight Parliament Protection
    Regulation SMEs State States TLPT Union
    """.split()  # noqa: SIM905
)
_HEADING_LIMIT = 320  # characters
_DIVISION = re.compile(
    r"(?<=\. )(?P<chapter>CHAPTER [IVX]+\b[^.;:]*?)?"
    r"\s*(?P<section>S(?:ECTION|ection) (?:\d+|[IVX]+)\b[^.;:]*)?$"
)
# The divisions that the source lost: Chapter I stands before the first article's text, and two
# follow an article that is cut. Without them later articles would stand under a wrong chapter.
_LOST_DIVISIONS = {
    ("gdpr", 1): ["CHAPTER I General provisions"],
    ("ai-act", 1): ["CHAPTER I GENERAL PROVISIONS"],
    ("ai-act", 6): [
        "CHAPTER III HIGH-RISK AI SYSTEMS",
        "SECTION 1 Classification of AI systems as high-risk",
    ],
    ("nis2", 1): ["CHAPTER I GENERAL PROVISIONS"],
    ("nis2", 7): ["CHAPTER II COORDINATED CYBERSECURITY FRAMEWORKS"],
    ("dora", 1): ["CHAPTER I General provisions"],
    ("cra", 1): ["CHAPTER I GENERAL PROVISIONS"],
}
# The last article of each act is followed by the recitals' footnotes, broken off by the source
# amid a sentence or an HTML tag; the recitals themselves are not in the source.
_FOOTNOTES = re.compile(r" \( 1 \) OJ C .*$")
_STRAY_MARK = {("ai-act", 1): ("Subject matter` ", "Subject matter ")}
_CLOSING = re.compile(
    r" (?=This (?:Regulation|Directive) shall be binding in its entirety and directly applicable"
    r"|Done at [A-Z][a-z]+, \d|For the European Parliament The President|For the Council The President)"
)


def read_act(database: Path, stem: str) -> Document:
    """Read one act.

    Args:
        database: SQLite file with the tables `regulations` and `articles`.
        stem: A key of `ACTS`.

    Raises:
        DataError: The file is no such database or lacks the act.
    """
    act = ACTS[stem]
    try:
        connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            titles = connection.execute(
                "SELECT title FROM regulations WHERE celex = ?", (act.celex,)
            ).fetchall()
            rows = connection.execute(
                "SELECT article_number, content, content_length FROM articles WHERE celex = ? ORDER BY 1",
                (act.celex,),
            ).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as fault:
        raise DataError(
            f"{database.name} is no database of EU acts ({fault}); mend corpus.regulations"
        ) from None
    if not titles or not rows:
        raise DataError(f"{database.name} holds no {act.celex} ({stem}); mend corpus.regulations")
    return Document(stem, act.title, fold(titles[0][0]), _articles(stem, rows))


def _articles(stem: str, rows: list[tuple[int, str, int]]) -> list[Article]:
    articles = []
    divisions: list[str] = []
    for number, content, length in rows:
        cut = len(content) >= CUT_LENGTH and length > len(content)
        text, following = split_divisions(clean_source(stem, number, content))
        heading, body = split_heading(stem, number, text)
        lines = [part for line in split_points(body) for part in _CLOSING.split(line)]
        lines = drop_incomplete(lines) if cut else lines
        above = [*divisions, *_LOST_DIVISIONS.get((stem, number), [])]
        articles.append(Article(f"Article {number}", heading, lines, above, cut))
        divisions = following
    return articles


def clean_source(stem: str, number: int, content: str) -> str:
    """The article's text folded, without the defects of the source named above."""
    text = fold(content)
    stray, mended = _STRAY_MARK.get((stem, number), ("", ""))
    return _FOOTNOTES.sub("", text.replace(stray, mended, 1) if stray else text)


def split_divisions(text: str) -> tuple[str, list[str]]:
    """Take the next chapter's and section's headings off an article's end.

    Returns:
        The article's own text, and the headings that belong above the next article.
    """
    match = _DIVISION.search(text)
    if match is None or match.start() == len(text):
        return text, []
    return text[: match.start()].rstrip(), [part.strip() for part in match.groups() if part]


def split_heading(stem: str, number: int, text: str) -> tuple[str, str]:
    """Part the heading, glued to the text by the source, from the body.

    Headings are in sentence case: the body starts at `1. `, else at the first capitalised word
    that is no name; `_BODY_STARTS` lists the exceptions.

    Raises:
        DataError: No body was found: the source is not the pinned one.
    """
    start = _BODY_STARTS.get((stem, number))
    end = text.find(f" {start}") if start is not None else _heading_end(text)
    if end < 0:
        raise DataError(f"{stem}, article {number}: no end of the heading found; mend the pin in conf/corpus")
    return text[:end], text[end + 1 :]


def _heading_end(text: str) -> int:
    numbered = re.search(r" 1\. ", text[:_HEADING_LIMIT])
    if numbered is not None and not re.search(r"[.:;]", text[: numbered.start()]):
        return numbered.start()
    for match in re.finditer(r" (?=\(?[A-Z])([^ ]+)", text[:_HEADING_LIMIT]):
        word = match.group(1).strip("()‘’,.;:")
        if word not in _NAMES:
            return match.start()
    return -1


def drop_incomplete(lines: list[str]) -> list[str]:
    """Without the last point, in which the source breaks off, unless it ends as a point does."""
    return lines if re.search(r"[.;][’”]?$", lines[-1]) else lines[:-1]
