"""Headings and numbered points of legal texts, recognised by their wording and their print."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

# Word at the start of a heading -> (kind, canonical word). Lower levels enclose higher ones.
_WORDS = {
    "part": "Part", "teil": "Teil", "partie": "Partie", "parte": "Parte",
    "annex": "Annex", "schedule": "Schedule", "appendix": "Appendix", "anhang": "Anhang",
    "annexe": "Annexe", "anexo": "Anexo", "allegato": "Allegato",
    "book": "Book", "title": "Title", "titel": "Titel", "titre": "Titre", "título": "Título",
    "titolo": "Titolo",
    "chapter": "Chapter", "kapitel": "Kapitel", "chapitre": "Chapitre", "capítulo": "Capítulo",
    "capo": "Capo",
    "section": "Section", "abschnitt": "Abschnitt", "sección": "Sección", "sezione": "Sezione",
    "article": "Article", "artikel": "Artikel", "artículo": "Artículo", "articolo": "Articolo",
    "clause": "Clause", "rule": "Rule", "sec.": "Section", "art.": "Article",
    "exhibit": "Exhibit", "attachment": "Attachment", "addendum": "Addendum", "anlage": "Anlage",
    "раздел": "Раздел", "глава": "Глава", "статья": "Статья",
    "الباب": "الباب", "الفصل": "الفصل", "المادة": "المادة", "مادة": "مادة", "פרק": "פרק", "סעיף": "סעיף",
}  # fmt: skip
_LEVELS = {
    1: {"part", "teil", "partie", "parte", "annex", "schedule", "appendix", "anhang", "annexe", "anexo",
        "allegato", "exhibit", "attachment", "addendum", "anlage", "الباب"},
    2: {"раздел", "book", "title", "titel", "titre", "título", "titolo"},
    3: {"chapter", "kapitel", "chapitre", "capítulo", "capo", "глава", "الفصل", "פרק"},
    4: {"section", "sec.", "abschnitt", "sección", "sezione"},
    6: {"article", "art.", "artikel", "artículo", "articolo", "clause", "rule", "§", "preamble", "recitals",
        "статья", "المادة", "مادة", "סעיף"},
}  # fmt: skip
_LEVEL_OF = {word: level for level, words in _LEVELS.items() for word in words}
_SECTION_WORDS, _ARTICLE_WORDS = _LEVELS[4], _LEVELS[6]
SEPARATOR = " | "  # between the cells of a table's row in the cleaned text
_WIDE_TITLE = 40  # characters of a script without spaces
_LONG_TITLE = 30  # words; a longer bold line is a provision in bold
_BIG_STYLED, _STYLED = 5, 7  # unnumbered headings: above the articles, or inside them

_NUMBER = (
    r"(?:[LRD]\*?\.?\s?\d+(?:-\d+)*|\d+er\b|\d+(?:-\d+)+"
    r"|\d+[A-Z]{0,3}(?:\.\d+)*|\(\d+\)|[IVXLCDM]+[A-Z]?|[A-Zא-ת])"
)
_HEADING_WORDS = "|".join(map(re.escape, sorted(_WORDS, key=len, reverse=True)))
_HEADING = re.compile(
    rf"(?P<word>(?i:{_HEADING_WORDS}))\s+(?P<number>{_NUMBER})"
    r"(?P<separator>\s*[.:–—-]+\s*|\s+|$)(?P<rest>.*)$",
    re.DOTALL,
)
_PARAGRAPH_SIGN = re.compile(
    r"(?P<word>§)\s*(?P<number>\d+(?:[.-]\d+)*[a-z]?)(?P<separator>[.:]?\s*)(?P<rest>.*)$", re.DOTALL
)
# 第三章 总则, 第十二条 国家…: a space or the line's end tells a heading from a reference.
_HAN = re.compile(
    r"(?P<key>第[〇零一二三四五六七八九十百千\d]+(?P<unit>[编編篇部章節节款條条])(?:の[一二三四五六七八九十\d]+)?)"
    r"(?:\s+|$|(?=[（(]))(?P<rest>.*)$",
    re.DOTALL,
)
_HAN_LEVELS = dict.fromkeys("编編篇部", 1) | {"章": 3, "節": 4, "节": 4, "款": 5, "條": 6, "条": 6}
_REFERENCE = re.compile(r"(?:Abs\.|Absatz|Satz|Nr\.|Halbsatz|Buchst|Unterabs|bis|und|i\.\s?V)")
_RECITALS = re.compile(r"WHEREAS\b")
_NAMED = re.compile(r"(?P<word>(?i:preamble|annex|appendix|schedule|recitals|exhibit))$")
_RUN_IN_CLAUSE = re.compile(
    r"(?P<number>\d{1,2})\.\s+(?P<title>[^\W\d_a-z](?:[^\s.]+ ){0,5}[^\s.,;]+)\.\s+[^\W\d_a-z]"
)
_RUN_IN_TITLE = re.compile(r"([^\W\d_](?:[^\s.]+ ){0,7}[^\s.]+)\.\s+[^\W\d_a-z]")
_NUMBERED_CLAUSE = re.compile(r"(?P<number>\d{1,2})(?P<separator>\.?\s+)(?P<rest>[^\W\d_].*)$", re.DOTALL)
_MARKER = re.compile(
    r"(?P<dotted>\d{1,3}(?:\.\d{1,3})+\.?)\s|(?P<number>\d{1,3})[.)]\s|\((?P<inner>\d{1,3}[A-Z]{0,2})\)\s?"
    r"|\((?P<letter>[a-z]{1,2})\)\s?|(?P<closed>[a-z])\)\s|\((?P<roman>[ivxlc]{1,6})\)\s?"
    r"|(?P<bullet>[•·▪◦\uf0b7–—*-])\s|(?P<proviso>Provided\b|Explanation\b)"
)
_CONTINUES = re.compile(r"(?:and|or|of|to|in|thereof)\b|[,;.)]")
_LEAD_IN = re.compile(r"(?:[:—–]|:\s*[—–-])$|\bnamely,?$")
_ROMAN = set("ivxlc")
_CLOSED = re.compile(r"[.;:!?—–…。！？]['\"’”»)\]]*$|(?:;|,)\s+(?:and|or)$")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph, point or heading of the joined cleaned text, with how it was printed."""

    start: int
    end: int
    text: str
    size: float = 0.0
    bold: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading of the document."""

    level: int  # 1 = outermost
    key: str  # "Article 17"; the words themselves for an unnumbered heading
    title: str  # "Right to erasure", or empty
    numbered: bool
    has_body: bool = False  # the paragraph goes on with the provision's own text

    @property
    def label(self) -> str:
        """As it stands in a heading path."""
        return f"{self.key} {self.title}".strip()


@dataclass(frozen=True)
class Section:
    """The paragraphs under one innermost heading."""

    path: tuple[str, ...]
    key: str
    paragraphs: tuple[Paragraph, ...]


def is_lead_in(text: str) -> bool:
    """Whether a paragraph announces the points that follow, as in `Personal data shall be:`."""
    return _LEAD_IN.search(text.rstrip()) is not None


def is_closed(text: str) -> bool:
    """Whether a line can end a paragraph by its punctuation."""
    return _CLOSED.search(text.rstrip()) is not None


def is_point(text: str) -> bool:
    """Whether a line starts with a point's number; `(a), and (b)` in running text does not."""
    match = _MARKER.match(text)
    return match is not None and _CONTINUES.match(text[match.end() :].lstrip()) is None


def is_bare_heading(text: str) -> bool:
    """Whether a line is a heading's number and nothing else: `Article 17`, `CHAPTER III`, `§ 5`, `第三章`."""
    han = _HAN.match(text)
    if han is not None:
        return not han["rest"].strip()
    match = _HEADING.match(text) or _PARAGRAPH_SIGN.match(text)
    return _NAMED.match(text) is not None or (match is not None and not match["rest"].strip(" ."))


def starts_article(text: str) -> bool:
    """Whether a line starts with a Chinese or Japanese heading: `第十二条 ...`."""
    return _HAN.match(text) is not None


def point_style(text: str, open_styles: Sequence[str], previous: str) -> str:
    """The numbering family of a point: `1.`, `(1)`, `(a)`, `(i)`, ...; empty for other text.

    Args:
        text: The paragraph.
        open_styles: Families of the points that enclose this place, outermost first.
        previous: The letter of the last `(a)` point, to tell `(i)` after `(h)` from roman one.
    """
    match = _MARKER.match(text)
    if match is None or not is_point(text):
        return ""
    if match["letter"] is not None:
        letter = match["letter"]
        follows = len(letter) == 1 and previous != "" and ord(letter) == ord(previous[0]) + 1
        if set(letter) <= _ROMAN and not follows and ("roman" in open_styles or letter in {"i", "ii"}):
            return "roman"
        return "letter"
    if match["dotted"] is not None:
        return f"dotted{match['dotted'].strip('.').count('.')}"
    return next(name for name in ("number", "inner", "closed", "roman", "bullet", "proviso") if match[name])


def point_letter(text: str) -> str:
    """The letter of an `(a)` point, else empty."""
    match = _MARKER.match(text)
    return (match["letter"] or "") if match is not None else ""


_RECITALS_HEADING = Heading(6, "Recitals", "", numbered=True)
_ANNEXES = re.compile(
    r"(?:Annex|Schedule|Appendix|Exhibit|Attachment|Addendum|Anhang|Anlage|Annexe|Anexo|Allegato)\b"
)


def sections(paragraphs: Sequence[Paragraph], title: str) -> list[Section]:
    """Group a document's paragraphs under its headings.

    Args:
        paragraphs: In reading order.
        title: The document's title; where it is printed as a heading it is no level of its own.

    Returns:
        Every section with at least one paragraph of text, in order.
    """
    style = _Style.of(paragraphs)
    found: list[Section] = []
    path: list[Heading] = []
    body: list[Paragraph] = []
    index = 0
    while index < len(paragraphs):
        heading, used = style.heading_at(paragraphs, index)
        if heading is None:
            if _RECITALS.match(paragraphs[index].text) and not path and not any(s.path for s in found):
                if body:
                    found.append(_section(path, body))
                    body = []
                path = [_RECITALS_HEADING]
            body.append(paragraphs[index])
            index += 1
            continue
        if body:
            found.append(_section(path, body))
            body = []
        if not style.is_printed_title(heading, paragraphs[index], title, bool(found or body or path)):
            path = [*(outer for outer in path if outer.level < heading.level), heading]
        if heading.has_body:
            body.append(paragraphs[index])
        index += used
    if body:
        found.append(_section(path, body))
    return found


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _section(path: list[Heading], body: list[Paragraph]) -> Section:
    numbered = [heading.key for heading in path if heading.numbered]
    key = numbered[-1] if numbered else (path[-1].key if path else "")
    if key.isdigit() and len(numbered) > 1 and _ANNEXES.match(numbered[-2]):
        key = f"{numbered[-2]}, {key}"  # clause 1 of a schedule is another than the contract's
    return Section(tuple(heading.label for heading in path), key, tuple(body))


@dataclass(frozen=True)
class _Style:
    """How a document prints its headings, found before any of them is read."""

    body_size: float
    body_bold: bool
    largest: float  # of all print
    bold_words: frozenset[str]  # heading words whose headings are always bold here
    heading_size: float  # of the article-like headings
    sections_inside: bool  # Section 5.1 stands under Article V (contracts)
    clauses: bool  # no articles, sections or §: `1. Definitions` are the headings
    run_in_clauses: bool  # `1. Term. This agreement` in most of its numbered paragraphs

    @classmethod
    def of(cls, paragraphs: Sequence[Paragraph]) -> _Style:
        weights: Counter[tuple[float, bool]] = Counter()
        bare: Counter[tuple[str, bool]] = Counter()
        words: Counter[str] = Counter()
        sizes: list[float] = [0.0]
        for paragraph in paragraphs:
            weights[paragraph.size, paragraph.bold] += len(paragraph.text)
            match = _HEADING.match(paragraph.text) or _PARAGRAPH_SIGN.match(paragraph.text)
            if match is None:
                continue
            word = match["word"].lower()
            bare[word, paragraph.bold] += 1
            titled = _is_short_title(match["rest"]) or _run_in_title(match) is not None
            words[word] += is_bare_heading(paragraph.text) or titled
            if word in _ARTICLE_WORDS and paragraph.bold:
                sizes.append(paragraph.size)
        (size, bold), _ = weights.most_common(1)[0] if weights else ((0.0, False), 0)
        always = frozenset(word for word, is_bold in bare if is_bold and not bold)
        articles = sum(words[word] for word in _ARTICLE_WORDS)
        inner = sum(words[word] for word in _SECTION_WORDS)
        largest = max((paragraph.size for paragraph in paragraphs), default=0.0)
        numbered = [one.text for one in paragraphs if re.match(r"\d{1,2}\.\s+\S", one.text)]
        run_in = sum(_RUN_IN_CLAUSE.match(text) is not None for text in numbered)
        clauses = articles + inner == 0
        return cls(
            size, bold, largest, always, max(sizes), inner > articles, clauses,
            run_in >= 3 and 2 * run_in > len(numbered),
        )  # fmt: skip

    def is_printed_title(self, heading: Heading, paragraph: Paragraph, title: str, begun: bool) -> bool:
        """Whether a heading is the document's own title on its first page, and so no level."""
        if heading.numbered:
            return False
        at_the_top = not begun and paragraph.size == self.largest > self.body_size
        return at_the_top or _plain(heading.key) == _plain(title)

    def heading_at(self, paragraphs: Sequence[Paragraph], index: int) -> tuple[Heading | None, int]:
        """The heading that starts at a paragraph, and how many paragraphs it takes."""
        paragraph = paragraphs[index]
        heading = self._numbered(paragraph) or self._clause(paragraphs, index) or self._styled(paragraph)
        if heading is None:
            return None, 0
        bare = heading.numbered and not heading.title and not heading.has_body
        if bare and self._has_title_line(paragraphs[index : index + 3]):
            return replace(heading, title=paragraphs[index + 1].text), 2
        return heading, 1

    def _level(self, word: str) -> int:
        if self.sections_inside and word in _ARTICLE_WORDS | _SECTION_WORDS:
            return 4 if word in _ARTICLE_WORDS else 6
        return _LEVEL_OF[word]

    def _numbered(self, paragraph: Paragraph) -> Heading | None:
        han = _HAN.match(paragraph.text)
        if han is not None:
            rest = han["rest"].strip()
            body = _HAN_LEVELS[han["unit"]] == 6 or not _is_short_title(rest)
            title = rest if not body else ""
            return Heading(
                _HAN_LEVELS[han["unit"]], han["key"], title, numbered=True, has_body=body and bool(rest)
            )
        named = _NAMED.match(paragraph.text)
        if named is not None:
            word = named["word"].lower()
            return Heading(_LEVEL_OF[word], word.capitalize(), "", numbered=True)
        match = _HEADING.match(paragraph.text) or _PARAGRAPH_SIGN.match(paragraph.text)
        if match is None:
            return None
        word, rest = match["word"].lower(), match["rest"].strip()
        if word in self.bold_words and not paragraph.bold:
            return None
        key = f"{_WORDS.get(word, '§')} {match['number']}"
        if word == "§" and _REFERENCE.match(rest):
            return None
        printed = paragraph.bold and not self.body_bold and len(rest.split()) <= _LONG_TITLE
        if not rest.strip(".") or _is_short_title(rest) or printed:
            return Heading(self._level(word), key, rest.rstrip(".") if len(rest) > 1 else "", numbered=True)
        run_in = _run_in_title(match)
        if run_in is None:
            return None
        return Heading(self._level(word), key, run_in, numbered=True, has_body=True)

    def _clause(self, paragraphs: Sequence[Paragraph], index: int) -> Heading | None:
        """`1. Definitions` in a contract without articles."""
        paragraph = paragraphs[index]
        if not self.clauses:
            return None
        run_in = _RUN_IN_CLAUSE.match(paragraph.text)
        if run_in is not None and self.run_in_clauses:
            return Heading(6, run_in["number"], run_in["title"], numbered=True, has_body=True)
        match = _NUMBERED_CLAUSE.match(paragraph.text)
        if match is None or not _is_short_title(match["rest"]):
            return None
        following = paragraphs[index + 1].text if index + 1 < len(paragraphs) else ""
        printed = (paragraph.bold and not self.body_bold) or match["rest"].isupper()
        if not printed and not following.startswith(f"{match['number']}.1"):
            return None
        return Heading(6, match["number"], match["rest"].strip(), numbered=True)

    def _styled(self, paragraph: Paragraph) -> Heading | None:
        text = paragraph.text.strip()
        stands_out = (paragraph.bold and not self.body_bold) or paragraph.size > self.body_size + 0.9
        capitals = text.isupper() and sum(char.isalpha() for char in text) >= 4
        if not (stands_out or capitals) or not _is_short_title(text) or is_point(text):
            return None
        level = _BIG_STYLED if paragraph.size > self.heading_size + 0.4 and stands_out else _STYLED
        return Heading(level, text, "", numbered=False)

    def _has_title_line(self, lines: Sequence[Paragraph]) -> bool:
        """Whether the line under a bare `Article 17`, with text after it, is the article's title."""
        if len(lines) < 3 or is_point(lines[1].text) or self._numbered(lines[1]) is not None:
            return False
        printed = lines[1].bold and not self.body_bold
        return printed or (_is_short_title(lines[1].text) and lines[1].text[0].isupper())


def _run_in_title(match: re.Match[str]) -> str | None:
    """The title in `Section 5.1 Price. The buyer shall pay`; empty where the text starts at once.

    None for running text that begins with a reference, as in `Article 5 shall apply`.
    """
    rest = match["rest"].strip()
    if not rest[:1].isupper():
        caseless = rest[:1].isalpha() and not rest[:1].islower()
        return "" if caseless and match["separator"].strip() else None
    dotted = "." in match["number"]
    title = _RUN_IN_TITLE.match(rest)
    if title is not None and (dotted or match["separator"].strip() or match["word"] == "§"):
        return title[1]
    return "" if match["separator"].strip() or match["word"] == "§" else None


def _is_short_title(text: str) -> bool:
    """A line that reads like a title: few words, a capital first, no closing punctuation."""
    text = text.strip()
    wide = sum(char >= "\u2e80" for char in text)  # scripts without spaces
    if (
        not text
        or len(text.split()) > 20
        or wide > _WIDE_TITLE
        or text[-1] in ".;:,—–。；：，、؟！？।"
        or SEPARATOR in text
    ):
        return False
    return not text[0].islower() and text[0] not in "([,;"
