"""Sentences and list items of a passage, each with the clause that leads into it.

Legal lists hang on a lead: `The processor shall: (a) ...; (b) ...`. Abbreviations and numbers do
not end a sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mark.answering.quotes import fold
from mark.data_prep.words import word_set
from mark.records import Chunk

_ABBREVIATIONS = word_set(
    """no nos art arts para paras p pp cf e.g i.e etc mr mrs ms dr prof st v vs sec secs ch reg dir inc
    ltd co corp ed eds al fig vol approx u.s u.k"""
)
_MARKER = re.compile(
    r"(?:^|(?<=[.;:,\]] )|(?<=[—–] )|(?<=[—–])|(?<=; and )|(?<=; or )|(?<=, and )|(?<=, or )|"
    r"(?<=[.;:] \))|(?<= - ))"
    r"(\d{1,3}\.|\(\d{1,3}[A-Z]{0,2}\)|\([a-z]{1,2}\)|\([ivx]{1,5}\))\s+(?=[^\s.;,)])"
)
_END = re.compile(r"[.?!][\"'’”)\]]?\s+(?=[A-Z“‘\"'(\[\d])|:\s+(?=Provided )|;\s+(?=Provided )")
_ROMAN = re.compile(r"^[ivx]+$")
_ROOT = -1


@dataclass(frozen=True)
class Statement:
    """One sentence or list item: a verbatim piece of the folded passage."""

    text: str
    lead: str  # what introduces it, "" for a sentence of its own
    marker: str  # "1.", "(a)" or ""
    level: int  # -1 before any marker, 0 paragraph, 1 point, 2 subpoint
    first: bool  # the first statement of its chunk
    cut: bool  # it starts or ends in another chunk


@dataclass(frozen=True)
class ListBlock:
    """A whole list with its lead, both in one passage."""

    lead: str
    items: tuple[str, ...]
    text: str  # verbatim, from the first item's marker to the end of the last item
    complete: bool  # the list ends inside the passage


@dataclass(frozen=True)
class _Segment:
    marker: str
    level: int
    start: int
    end: int


def statements(chunk: Chunk) -> list[Statement]:
    """All sentences and list items of a passage in reading order."""
    text = fold(chunk.text)
    found: list[Statement] = []
    leads: dict[int, str] = {}
    for segment in _segments(text):
        leads = {level: lead for level, lead in leads.items() if level < segment.level}
        lead = " ".join(leads[level] for level in sorted(leads)) if segment.marker else ""
        for number, sentence in enumerate(_sentences(text[segment.start : segment.end])):
            first = not found
            bare = sentence.strip()
            opens = bare.endswith((":", "—", "–", ":-"))
            starts_low = first and not segment.marker and bare[:1].islower()
            ends_open = segment.end == len(text) and not bare.endswith(
                (".", ";", ":", "—", "”", "’", "!", "?")
            )
            cut = starts_low or (ends_open and bare == sentence_tail(text, bare))
            own_lead = lead if number == 0 else ""
            found.append(Statement(bare, own_lead, segment.marker, segment.level, first, cut))
            if opens:
                leads[segment.level] = bare
    return found


def sentence_tail(text: str, sentence: str) -> str:
    """`sentence` when the passage ends with it, else an empty string."""
    return sentence if text.endswith(sentence) else ""


def list_blocks(chunk: Chunk) -> list[ListBlock]:
    """Lists whose lead and at least two items stand in this passage."""
    text = fold(chunk.text)
    segments = _segments(text)
    blocks = []
    for index, segment in enumerate(segments):
        lead = (_sentences(text[segment.start : segment.end]) or [""])[-1].strip()
        if not lead.endswith((":", "—", "–")):
            continue
        items = []
        for follower in segments[index + 1 :]:
            if follower.level <= segment.level:
                break
            items.append(follower)
        top = [item for item in items if item.level == (items[0].level if items else 0)]
        if len(top) < 2:
            continue
        block = text[items[0].start - len(items[0].marker) - 1 : items[-1].end].strip()
        last_sentence = _sentences(text[items[-1].start : items[-1].end])
        if len(last_sentence) > 1:  # a sentence that follows the list
            block = block[
                : len(block) - len(text[items[-1].start : items[-1].end].strip()) + len(last_sentence[0])
            ]
        complete = block.rstrip().endswith(".") or items[-1].end < len(text)
        pieces = tuple(strip_item(_sentences(text[item.start : item.end])[0]) for item in top)
        blocks.append(ListBlock(lead, pieces, block.strip(), complete))
    return blocks


def strip_item(text: str) -> str:
    """A list item without the punctuation and conjunction that tie it to the next one."""
    text = text.strip()
    text = re.sub(r"[;,]\s*(?:and|or|and/or)?$", "", text).strip()
    return text.rstrip(";,").strip()


def _segments(text: str) -> list[_Segment]:
    marks = [mark for mark in _MARKER.finditer(text) if not _ends_with_abbreviation(text[: mark.start()])]
    segments = []
    if not marks or marks[0].start() > 0:
        segments.append(_Segment("", _ROOT, 0, marks[0].start() if marks else len(text)))
    previous = ""
    for index, mark in enumerate(marks):
        end = marks[index + 1].start() if index + 1 < len(marks) else len(text)
        label = mark.group(1)
        level = _level(label.strip("()."), previous)
        segments.append(_Segment(label, level, mark.end(), end))
        if level == 1:
            previous = label.strip("().")
    return segments


def _ends_with_abbreviation(text: str) -> bool:
    """`... cf. Art. 3.`: the number belongs to the abbreviation."""
    match = re.search(r"(\S+)\. $", text)
    return match is not None and match.group(1).lower().lstrip("(") in _ABBREVIATIONS


def _level(label: str, previous_point: str) -> int:
    if label[0].isdigit():
        return 0
    if _ROMAN.match(label) and len(label) > 1:
        return 2
    if label in ("i", "v", "x"):
        return 1 if previous_point and ord(previous_point[-1]) + 1 == ord(label) else 2
    return 1


def _sentences(text: str) -> list[str]:
    pieces = []
    start = 0
    for match in _END.finditer(text):
        word = re.split(r"[\s(\[]", text[start : match.start()])[-1].lower()
        if text[match.start()] == "." and (word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha())):
            continue
        piece = text[start : match.end()].strip()
        pieces.append(piece.rstrip(":;") if text.startswith("Provided", match.end()) else piece)
        start = match.end()
    pieces.append(text[start:].strip())
    return [piece for piece in pieces if piece]
