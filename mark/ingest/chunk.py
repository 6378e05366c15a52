"""Structure first chunks: whole points of one article, as many as the token budget holds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mark.files import sha256_text
from mark.ingest.clean import CleanDocument, CleanPage
from mark.ingest.sentences import (
    Cut,
    character_ends,
    clause_ends,
    comma_ends,
    learnt_sentence_ends,
    sentence_ends,
    word_ends,
)
from mark.ingest.structure import Paragraph, Section, is_lead_in, point_letter, point_style, sections
from mark.records import Chunk

CountTokens = Callable[[list[str]], list[int]]

# What a break costs, in chunks: less is better. Found on the hand-written dev questions.
_NEW_CHUNK = 1.0
_UNDERFULL = 0.5
_BREAK_POINT, _BREAK_NESTED, _BREAK_LEAD_IN, _BREAK_TAIL = 0.0, 0.2, 2.0, 0.6
_BREAK_SENTENCE, _BREAK_CLAUSE, _BREAK_COMMA, _BREAK_WORD = 0.5, 1.0, 1.5, 3.0
_BREAK_CHARACTER = 5.0
_HEADING_SHARE = 0.5  # of the budget; a longer heading path loses its outer titles
_TITLE_SHARE = 0.25


@dataclass(frozen=True)
class Source:
    """The document that a chunk comes from."""

    doc_id: str
    document: str
    title: str


@dataclass(frozen=True)
class _Atom:
    """A piece that is not divided: a point, a sentence, a clause or a run of words."""

    start: int
    end: int
    tokens: int
    break_cost: float  # of starting a chunk here


def chunk(source: Source, document: CleanDocument, budget: int, count_tokens: CountTokens) -> list[Chunk]:
    """Cut one document into chunks.

    A chunk never crosses a heading. Inside a section it is cut before a point if it can be,
    after a sentence if it must be, inside a sentence only where one sentence alone is too long;
    the line that announces points stays with the first of them. Chunks do not overlap.

    Args:
        source: Id, name and title of the document.
        document: Its clean text.
        budget: Most tokens of `heading + newline + text`, special tokens included.
        count_tokens: The embedder's counter, special tokens included.

    Returns:
        The chunks in reading order; each has text, and `text == document.text[start:end]`.
    """
    text = document.text
    title = _shortened(source.title, int(budget * _TITLE_SHARE), count_tokens)
    short = Source(source.doc_id, source.document, title)
    chunks: list[Chunk] = []
    found = sections(document.paragraphs, source.title)
    structured = any(section.path for section in found)
    sentences = sentence_ends if structured else learnt_sentence_ends(text)
    for section in found:
        path = _fitting_path(short.title, section.path, int(budget * _HEADING_SHARE), count_tokens)
        heading = " > ".join([short.title, *path]) + "\n"
        for start, end in _spans(text, section, heading, _Measure(budget, count_tokens, sentences)):
            chunks.append(_chunk(short, document.pages, section.key, path, (start, end, text[start:end])))
    return chunks


def _chunk(
    source: Source, pages: Sequence[CleanPage], key: str, path: list[str], span: tuple[int, int, str]
) -> Chunk:
    start, end, text = span
    offsets = [page.offset for page in pages]
    first, last = bisect_right(offsets, start) - 1, bisect_right(offsets, end - 1) - 1
    identity = "\x1f".join([source.doc_id, str(start), source.title, *path, text])
    return Chunk(
        chunk_id=sha256_text(identity)[:16],
        doc_id=source.doc_id,
        document=source.document,
        title=source.title,
        heading_path=path,
        section=key,
        pages=[page.page for page in pages[first : last + 1]],
        start=start,
        end=end,
        text=text,
    )


def _fitting_path(title: str, path: Sequence[str], room: int, count_tokens: CountTokens) -> list[str]:
    """The heading path, cut to the room: titles of outer headings first, then outer headings."""
    tries = [list(path)]
    outer = list(path)
    for index, label in enumerate(outer[:-1]):
        outer[index] = " ".join(label.split()[:2])
        tries.append(list(outer))
    tries += [outer[drop:] for drop in range(1, len(outer))]
    for attempt in tries:
        if count_tokens([" > ".join([title, *attempt])])[0] <= room:
            return attempt
    if not path:
        return []
    left = room - count_tokens([title])[0]
    return [_shortened(path[-1], max(left, 4), count_tokens)]


def _shortened(label: str, room: int, count_tokens: CountTokens) -> str:
    """The longest run of whole words from the start that fits, at least one word."""
    words = label.split()
    counts = count_tokens([" ".join(words[:size]) for size in range(1, len(words) + 1)]) if words else []
    fitting = sum(count <= room for count in counts)
    return " ".join(words[: max(fitting, 1)])


@dataclass(frozen=True)
class _Measure:
    """How long a chunk may be, how that is counted, and where sentences end."""

    budget: int
    count_tokens: CountTokens
    sentence_ends: Cut


def _spans(text: str, section: Section, heading: str, measure: _Measure) -> list[tuple[int, int]]:
    budget, count_tokens = measure.budget, measure.count_tokens
    special, in_heading = count_tokens(["", heading])
    room = budget - in_heading

    def plain_counts(texts: list[str]) -> list[int]:
        return [count - special for count in count_tokens(texts)] if texts else []

    while True:
        atoms = _atoms(text, section.paragraphs, max(room, 1), (plain_counts, measure.sentence_ends))
        spans = _pack(atoms, max(room, 1))
        counts = count_tokens([heading + text[start:end] for start, end in spans])
        over = max(counts, default=0) - budget
        if over <= 0 or room <= 1:
            return spans
        room -= over  # a tokenizer whose counts do not simply add up


def _atoms(
    text: str, paragraphs: Sequence[Paragraph], room: int, measure: tuple[CountTokens, Cut]
) -> list[_Atom]:
    """Sentences of points and paragraphs; longer ones cut after `;`, `,`, words, at last characters."""
    count, ends = measure
    pieces: list[_Atom] = []
    for paragraph, cost in zip(paragraphs, _paragraph_costs(paragraphs), strict=True):
        spans = _split(text, paragraph.start, paragraph.end, ends)
        counts = count([text[start:end] for start, end in spans])
        inside = _BREAK_SENTENCE + 0.5 * cost
        pieces += [
            _Atom(start, end, tokens, inside if at else cost)
            for at, ((start, end), tokens) in enumerate(zip(spans, counts, strict=True))
        ]
    for cut, cost in (
        (clause_ends, _BREAK_CLAUSE),
        (comma_ends, _BREAK_COMMA),
        (word_ends, _BREAK_WORD),
        (character_ends, _BREAK_CHARACTER),
    ):
        pieces = _refined(text, pieces, room, count, (cut, cost))
    return pieces


def _refined(
    text: str, pieces: Sequence[_Atom], room: int, count: CountTokens, cut: tuple[Cut, float]
) -> list[_Atom]:
    """Cut the pieces that are too long, or too long to follow the line that announces them."""
    ends, cost = cut
    refined: list[_Atom] = []
    announcing = 0
    for piece in pieces:
        if piece.tokens + announcing <= room or (piece.tokens <= room and cost >= _BREAK_WORD):
            refined.append(piece)
        else:
            spans = _split(text, piece.start, piece.end, ends)
            counts = count([text[start:end] for start, end in spans])
            refined += [
                _Atom(start, end, tokens, cost if at else piece.break_cost)
                for at, ((start, end), tokens) in enumerate(zip(spans, counts, strict=True))
            ]
        announces = is_lead_in(text[piece.start : piece.end]) and piece.tokens < room / 2
        announcing = piece.tokens if announces else 0
    return refined


def _paragraph_costs(paragraphs: Sequence[Paragraph]) -> list[float]:
    """What it costs to start a chunk at each paragraph."""
    costs: list[float] = []
    styles: list[str] = []  # families of the points that enclose the paragraph, outermost first
    letter = ""
    for index, paragraph in enumerate(paragraphs):
        style = point_style(paragraph.text, styles, letter)
        letter = point_letter(paragraph.text) if style == "letter" else letter
        if style in styles:
            del styles[styles.index(style) + 1 :]
        elif style and style != "proviso":
            styles.append(style)
        if index and is_lead_in(paragraphs[index - 1].text):
            costs.append(_BREAK_LEAD_IN)
        elif not style and paragraph.text[0].islower():
            costs.append(_BREAK_TAIL)  # "shall be a citizen of India." after its points
        else:
            costs.append(_BREAK_POINT if len(styles) <= 1 else _BREAK_NESTED)
    return costs


def _split(text: str, start: int, end: int, ends: Cut) -> list[tuple[int, int]]:
    """Pieces of `text[start:end]` without the white space between them."""
    pieces: list[tuple[int, int]] = []
    for stop in [*ends(text, start, end), end]:
        while start < stop and text[start].isspace():
            start += 1
        if start < stop:
            pieces.append((start, stop))
            start = stop
    return pieces


def _pack(atoms: Sequence[_Atom], room: int) -> list[tuple[int, int]]:
    """The cheapest cut of a section into chunks of at most `room` tokens each.

    Dynamic programming over the places where a chunk may start; among equals the later chunk
    is the longer one. An atom above the room stands alone.
    """
    best: list[float] = [0.0] + [float("inf")] * len(atoms)
    came_from = [0] * (len(atoms) + 1)
    for stop in range(1, len(atoms) + 1):
        tokens = 0
        for first in range(stop - 1, -1, -1):
            tokens += atoms[first].tokens
            if tokens > room and first < stop - 1:
                break
            empty = max(0.0, 1.0 - tokens / room)
            before = atoms[first].break_cost if first else 0.0
            cost = best[first] + before + _NEW_CHUNK + _UNDERFULL * empty * empty
            if cost < best[stop] - 1e-9:
                best[stop], came_from[stop] = cost, first
    spans: list[tuple[int, int]] = []
    stop = len(atoms)
    while stop:
        first = came_from[stop]
        spans.append((atoms[first].start, atoms[stop - 1].end))
        stop = first
    return spans[::-1]
