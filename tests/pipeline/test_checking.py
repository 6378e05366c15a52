"""No quotation leaves that does not stand in the documents, word for word."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mark.answering.quotes import fold
from mark.files import iter_jsonl, read_jsonl
from mark.pipeline.checking import REMOVED, QuoteCheck, settled
from mark.pipeline.disclosure import InstructionGuard
from mark.pipeline.draft import Draft
from mark.pipeline.pages import PageTexts
from mark.records import Chunk, Page

PAIRS = [
    '"{}"', "“{}”", "„{}“", "«{}»", "‹{}›", "‘{}’", "'{}'", "「{}」", "»{}«", "”{}”", "’{}’", "❝{}❞", "＂{}＂",
    "``{}''", "\n> {}\n",
]  # fmt: skip
MARKS = [*PAIRS, '"{}', "“{}"]


@pytest.fixture(scope="module")
def chunks(project: Path) -> list[Chunk]:
    return read_jsonl(project / "data/chunks.jsonl", Chunk)


@pytest.fixture(scope="module")
def pages(project: Path) -> dict[tuple[str, int], Page]:
    return {(p.document, p.page): p for p in iter_jsonl(project / "data/pages.jsonl", Page)}


@pytest.fixture(scope="module")
def check(chunks: list[Chunk], pages: dict[tuple[str, int], Page]) -> QuoteCheck:
    return QuoteCheck(chunks, PageTexts(pages.values()))


def planted(rng: random.Random, chunks: list[Chunk]) -> tuple[str, str]:
    """A true span of a chunk, and an invented one that stands nowhere."""
    words = rng.choice(chunks).text.split()
    at = rng.randrange(max(1, len(words) - 8))
    true = words[at : at + rng.randint(3, 8)]
    fake, place = list(true), rng.randrange(len(true))
    way = rng.randrange(6)
    if way == 0:
        fake[place] = rng.choice(["zebra", "2,000,000", "shall not", "Minister"])
    elif way == 1:
        fake.insert(place, "never")
    elif way == 2:
        fake = fake[::-1]
    elif way == 3:
        fake = [*true, *rng.choice(chunks).text.split()[-3:], "hereby"]
    elif way == 4:
        fake[place] = fake[place].swapcase() + "x"
    else:
        fake[place] = "\u0430" + fake[place]  # a Cyrillic letter that looks like a Latin one
    return " ".join(true).strip(".,;:'\"‘’"), " ".join(fake)


def test_of_1000_answers_with_planted_fakes_none_is_shown(
    chunks: list[Chunk], pages: dict[tuple[str, int], Page], check: QuoteCheck
) -> None:
    rng = random.Random(4)
    corpus = " ".join(fold(chunk.text) for chunk in chunks)
    shown = kept = drafted = 0
    for number in range(1000):
        true, fake = planted(rng, chunks)
        fake = fake.translate(str.maketrans("", "", "\"'‘’“”„«»‹›「」❝❞＂`"))  # the mark is the template's
        true = true.translate(str.maketrans("", "", '"‘’“”'))
        assert fold(fake) not in corpus
        genuine = rng.random() < 0.5 and "'" not in true and fold(true) in corpus
        answer = f"It is so, see {rng.choice(MARKS).format(fake)} and more."
        if genuine:
            answer = f"The text says {rng.choice(PAIRS).format(true)} there. {answer}"
        if number % 10 == 0:
            answer = rng.choice(PAIRS).format(fake).strip()
        checked = check.check(answer)
        shown += fold(fake) in fold(checked.text) or any(fold(fake) in fold(q.text) for q in checked.quotes)
        told: list[str] = []
        draft = Draft(check, InstructionGuard([]), told.append)
        for end in range(1, len(answer) + 1):
            draft.hear(answer[:end])
        draft.finish(answer)
        drafted += fold(fake) in fold("".join(told))
        assert not checked.supported and checked.removed >= 1 and REMOVED in checked.text, answer
        for quote in checked.quotes:
            assert pages[quote.document, quote.page].text[quote.start : quote.end] == quote.text
        if genuine and number % 10:
            kept += any(fold(true) == fold(q.text).strip(" .,;:") for q in checked.quotes)
            assert fold(true) in fold(checked.text)
    assert shown == drafted == 0
    assert kept > 300  # true quotations are not thrown away with the others


def test_an_answer_that_is_a_span_of_the_text_is_one_quote(
    check: QuoteCheck, pages: dict[tuple[str, int], Page]
) -> None:
    checked = check.check("within 24  hours.")
    assert (checked.text, checked.supported, checked.removed) == ("within 24  hours.", True, 0)
    (quote,) = checked.quotes
    page = pages["policy", quote.page]
    assert page.text[quote.start : quote.end] == quote.text == "within 24 hours"
    assert (quote.page, quote.title, quote.heading) == (2, "Records Policy", "Section 3 Breach")


def test_an_answer_of_two_sentences_from_two_places_is_supported_by_both(check: QuoteCheck) -> None:
    checked = check.check(
        "The annual fee shall not exceed 60 euros. The treasurer shall keep the accounts of the club."
    )
    assert checked.supported
    assert [quote.document for quote in checked.quotes] == ["statute", "statute"]


def test_words_may_begin_in_the_middle_of_a_sentence_but_a_quotation_may_not(check: QuoteCheck) -> None:
    words = check.check("the treasurer shall keep the accounts")
    assert words.supported and words.quotes[0].text == "The treasurer shall keep the accounts"
    assert check.check("It says: “the treasurer shall keep the accounts”").removed == 1
    assert not check.check("The Treasurer shall keep the accounts").quotes


@pytest.mark.parametrize(
    ("answer", "quoted"),
    [
        ("The landlord's duty is the roof.", []),  # an apostrophe opens no quotation
        ("The fee is 60 euros a year, says the club.", []),
        ("They call it ‘rent’, the sum due.", ["rent"]),
        ("No.", []),
        ("", []),
    ],
)
def test_own_words_stay_and_are_marked_unsupported(check: QuoteCheck, answer: str, quoted: list[str]) -> None:
    checked = check.check(answer)
    assert (checked.text, checked.supported, checked.removed) == (answer, False, 0)
    assert [quote.text for quote in checked.quotes] == quoted


def test_two_fakes_side_by_side_leave_one_mark_and_count(check: QuoteCheck) -> None:
    checked = check.check('It says "the moon is green" "and made of cheese" there.')
    assert (checked.text, checked.removed) == ("It says […] there.", 2)


@pytest.mark.parametrize(
    ("text", "ready"),
    [
        ("The fee is 60", "The fee is 60"),
        ('It says "the fee', "It says "),
        ('It says "the fee"', "It says "),  # what follows may still show that it goes on
        ('It says "the fee" and', 'It says "the fee" and'),
        ("the club's", "the club's"),
        ("half \ufffd", "half "),
        ("so: “", "so: "),
    ],
)
def test_a_draft_is_passed_on_up_to_an_open_quotation(text: str, ready: str) -> None:
    assert settled(text) == ready
