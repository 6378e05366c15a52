"""Personal data with a fixed form, found without any model; numbers of acts and articles are left alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}(?!\w)")
_CARD = re.compile(r"(?<![\w.,/-])\d(?:[ -]?\d){12,18}(?![\w/])")
_PHONE = re.compile(
    r"(?<![\w.+/-])(?<!\d[ .,])(?:"
    r"(?:\+|00)[1-9]\d{0,2}(?:[ ./-]?\(?\d{1,5}\)?){2,6}"  # +49 (30) 1234-567
    r"|\(\d{2,5}\)[ -]?\d{2,4}(?:[ -]?\d{2,5}){1,3}"  # (030) 123 4567
    r"|0[1-9]\d{0,3}[ /-]\d{2,4}(?:[ -]?\d{2,5}){1,4}"  # 06 12 34 56 78
    r"|\d{3}[-.]\d{3}[-.]\d{4}"  # 555-123-4567
    r")(?![\w/])"
)
_SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_IP = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
_LABELLED = re.compile(
    r"(?i:\b(?:passport|identity card|id card|id|driving licen[cs]e|driver'?s licen[cs]e|account|customer|"
    r"client|patient|employee|personnel|policy|insurance|social security|national insurance|tax(?:payer)?|"
    r"vat|registration|ssn|nin|tin|iban|pesel|aadhaar|pan)"
    r"(?: (?:no\.?|nr\.?|number|identification number|id|code|reference))?\s*[:#]?\s*)"
    r"(?P<id>[A-Z0-9](?:[A-Z0-9]|[-./ ](?=[A-Z0-9])){4,24})(?![\w/])"
)
_PHONE_DIGITS = range(8, 16)  # E.164 allows 15
_ID_DIGITS = 4


def pattern_spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and kind of each find.

    Args:
        text: Any.
    """
    for kind, pattern, is_one in _KINDS:
        for match in pattern.finditer(text):
            if is_one(match.group()):
                yield match.start(), match.end(), kind
    for match in _IBAN.finditer(text):
        end = _iban_end(match.group())
        if end:
            yield match.start(), match.start() + end, "IBAN"
    for match in _LABELLED.finditer(text):
        if _digits(match.group("id")) >= _ID_DIGITS:
            yield *match.span("id"), "ID"


def luhn(number: str) -> bool:
    """Whether the last digit of a card number checks.

    Source: ISO/IEC 7812-1, annex B.
    """
    digits = [int(char) for char in number if char.isdigit()][::-1]
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[1::2]]
    return len(set(digits)) > 1 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def iban(number: str) -> bool:
    """Whether the check digits of an account number fit.

    Source: ISO 13616-1, section 6.1: modulo 97.
    """
    compact = re.sub(r"[ -]", "", number)
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


def _iban_end(found: str) -> int:
    """Where the account number ends: words in capitals after it are no part of it; 0 = it is none."""
    for end in range(len(found), 14, -1):
        if found[end - 1].isalnum() and iban(found[:end]) and (end == len(found) or not found[end].isalnum()):
            return end
    return 0


def _digits(text: str) -> int:
    return sum(char.isdigit() for char in text)


def _address(found: str) -> bool:
    """Whether four numbers are an internet address: 1.2.3.4 may be a clause of a contract."""
    parts = [int(part) for part in found.split(".")]
    return max(parts) <= 255 and (max(parts) >= 100 or parts[0] == 10)


_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("EMAIL", _EMAIL, bool),
    ("CARD", _CARD, luhn),
    ("PHONE", _PHONE, lambda found: _digits(found) in _PHONE_DIGITS),
    ("ID", _SSN, bool),
    ("IP", _IP, _address),
)
