"""Breaking a flattened legal text at its numbered points, without breaking cross references."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

# A marker stands after the end of a sentence or point, perhaps with "and"/"or" between:
# "...; and (c) text", "...: (a) text", "... paragraph 2. 3. text". "point (a)" and "paragraph 1." do not.
_END = re.compile(r"[.;:—][’”\"; ]*(?:(?:and|or|and/or) )?$")
_MARKER = re.compile(
    r"(?:(?<=^)|(?<= ))‘?"
    r"(?:(?P<number>\d{1,3}[a-z]?)\.|\((?P<digits>\d{1,3}[a-z]?)\)|\((?P<letters>[a-z]{1,5})\)) (?=\S)"
)
_ROMAN = re.compile(r"x{0,3}(?:ix|iv|v?i{0,3})")


@dataclass
class _List:
    style: str  # "number", "digits", "letter" or "roman"
    last: str


def split_points(text: str) -> list[str]:
    """Split a text into lines, each starting at a numbered point (or at the text's start).

    A marker counts when it follows the end of a sentence or point and either continues an open
    list (3. after 2., (c) after (b)) or opens one after a colon or at the start.

    Args:
        text: White space already folded.

    Returns:
        Lines without surrounding white space; joined by single spaces they equal `text`.
    """
    starts = [0]
    open_lists: list[_List] = []
    for match in _MARKER.finditer(text):
        before = text[: match.start()]
        if match.start() > 0 and not _END.search(before[-24:]):
            continue
        if _accept(match, before.rstrip(), open_lists) and match.start() > 0:
            starts.append(match.start())
    return [text[a:b].strip() for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def _accept(match: re.Match[str], before: str, open_lists: list[_List]) -> bool:
    """Whether the marker continues or opens a list; keeps `open_lists` (outermost first) up to date."""
    quoted = match.group().startswith("‘")
    candidates = _readings(match)
    if before == "" or before[-1] in ":—" or quoted:
        return _open(candidates, quoted, open_lists)
    for depth in range(len(open_lists) - 1, -1, -1):
        for style, label in candidates:
            current = open_lists[depth]
            if current.style == style and _follows(current, label):
                current.last = label
                del open_lists[depth + 1 :]
                return True
    return before[-1] == ";" and _open(candidates, quoted, open_lists)


def _open(candidates: list[tuple[str, str]], quoted: bool, open_lists: list[_List]) -> bool:
    """Open a list; one inside a quoted amendment may start anywhere (‘3. ...)."""
    for style, label in candidates:
        if label in ("1", "a", "i") or quoted:
            open_lists.append(_List(style, label))
            return True
    return False


def _readings(match: re.Match[str]) -> list[tuple[str, str]]:
    """What a marker may be: `(i)` is a letter or a Roman number; Roman first."""
    if match["number"] is not None:
        return [("number", match["number"])]
    if match["digits"] is not None:
        return [("digits", match["digits"])]
    letters = match["letters"]
    readings = [("letter", letters)] if len(set(letters)) == 1 and len(letters) <= 2 else []
    return [("roman", letters), *readings] if _ROMAN.fullmatch(letters) else readings


def _follows(current: _List, label: str) -> bool:
    rank: Callable[[str], float] = _RANKS[current.style]
    return 0 < rank(label) - rank(current.last) <= 1


def _decimal(label: str) -> float:
    """2 < 2a < 2b < 3."""
    number = re.match(r"\d+", label)
    assert number is not None
    return int(number.group()) + (ord(label[-1]) - ord("a") + 1) / 32 * label[-1].isalpha()


def _letter(label: str) -> float:
    """a..z, then aa, bb, ..."""
    return (len(label) - 1) * 26 + ord(label[0]) - ord("a")


def _roman(label: str) -> float:
    values = [{"i": 1, "v": 5, "x": 10}[letter] for letter in label]
    pairs = zip(values, [*values[1:], 0], strict=True)
    return float(sum(-value if value < after else value for value, after in pairs))


_RANKS: dict[str, Callable[[str], float]] = {
    "number": _decimal,
    "digits": _decimal,
    "letter": _letter,
    "roman": _roman,
}
