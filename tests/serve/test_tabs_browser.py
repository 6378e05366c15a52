"""The Experiments and Review tabs in a real Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mark.files import CHUNKS, TEST_SFT, read_jsonl
from mark.records import Chunk, Example
from mark.rlhf.feedback import ACCEPTED, append_feedback, read_accepted, rejected_ids
from mark.rlhf.review import review
from tests.rlhf.test_feedback import row
from tests.serve.conftest import TOKEN, StartServer
from tests.serve.reader import Keys, Open, Reader, chromium, reader
from tests.serve.test_experiments import COMPARE, run, stored

__all__ = ["chromium", "reader", "run"]

HOSTILE = "<img src=x onerror=document.title='planted'>"


def wide(page: Reader) -> bool:
    """Whether the page has to be scrolled sideways."""
    found: bool = page.run("return document.documentElement.scrollWidth > innerWidth")
    return found


def test_the_last_run_is_shown(reader: Open, start: StartServer, run: Path) -> None:
    page = reader(start(models=(), root=run)).open("/#experiments")
    compared = stored(COMPARE)["compare"]
    page.see(".verdict", "cannot tell")
    assert [one.text.split("\n") for one in page.all(".verdict")] == [
        [f"{compared['verdict'][name]}: {compared['reason'][name]}", name] for name in compared["entries"]
    ]
    page.see(
        ".note", f"Judged on {compared['questions']} hand-written questions, {compared['clusters']} clusters"
    )
    values = compared["rows"]["handwritten"]["transformer_lora + retrieval"]
    told = f"{100 * values['token_f1']:.1f} ({100 * values['token_f1_low']:.0f} to {100 * values['token_f1_high']:.0f})"
    assert page.see(".chart .strong .value", told)
    line = page.see(".wide tr.strong", "transformer_lora + retrieval").text
    assert f"{100 * values['token_f1']:.1f}" in line and f"{100 * values['bleu']:.1f}" in line
    assert all(one.get_attribute("aria-labelledby") for one in page.all("svg.chart"))
    described = page.run("return document.querySelector('svg.chart desc').textContent")
    assert f"transformer_lora + retrieval {told}" in described
    page.shot("experiments")
    chooser = page.see(".chooser select")
    chooser.send_keys("refusal recall", Keys.ENTER)
    page.see("figcaption", "Hand-written questions: refusal recall")
    assert page.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tabs_fit_a_telephone(reader: Open, start: StartServer, run: Path, scheme: str) -> None:
    page = reader(start(models=(), root=run))
    page.cdp("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    page.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.open("/#experiments").see("svg.chart")
    ink = page.run("return getComputedStyle(document.querySelector('.chart .label')).fill")
    assert (ink == "rgb(31, 35, 38)") is (scheme == "light")
    assert not wide(page)
    page.shot(f"experiments-360-{scheme}")


def test_a_run_that_is_not_there_is_said(reader: Open) -> None:
    page = reader().open("/#experiments")
    page.see("#panel-experiments", "No comparison yet")
    page.see("#panel-experiments li", f"{COMPARE} is missing; run `dvc repro compare`")


def opened(reader: Open, start: StartServer) -> Reader:
    """The Review tab over an inbox of four rows, of which a reader may accept three."""
    live = start(models=(), token=TOKEN)
    chunk = read_jsonl(live.root / CHUNKS, Chunk)[0]
    tested = read_jsonl(live.root / TEST_SFT, Example)[0].question
    edit = {"answer": "within 48 hours of it", "edited": "within 72 hours of it", "thumb": "down"}
    for item in (
        row(1, contexts=[chunk.chunk_id], comment=HOSTILE, **edit),
        row(2, answer="a\u202eb"),
        row(3, question=HOSTILE),
        row(4, question=tested),
    ):
        append_feedback(item, live.root)
    page = reader(live).open()
    page.see("#token").send_keys(TOKEN, Keys.ENTER)
    page.see("#tab-review").click()
    page.see(".review-card", row(1).question)
    assert all("401" in line for line in page.complaints())  # of the time before the token
    return page


def test_feedback_is_reviewed_by_keys_alone(reader: Open, start: StartServer) -> None:
    page = opened(reader, start)
    page.see(".review-state", "3 wait for review; 0 accepted")
    assert [one.text for one in page.all("del, ins")] == ["48", "72"]
    page.see(".review-card summary", "Passages (1)").click()
    assert read_jsonl(page.live.root / CHUNKS, Chunk)[0].text[:40] in page.see(".review-card blockquote").text
    assert page.see(".hidden-character").text == "U+202E"
    page.see(".review-card h3", HOSTILE)
    assert page.driver.title == "MARK" and not page.all(".review img")
    for key, name in (("j", "r002"), ("k", "r001"), ("a", "r002"), ("r", "r003")):
        page.focused.send_keys(key)
        assert name in page.focused.text, (key, page.focused.text)
    page.see(".review-send", "1 to accept, 1 to reject")
    page.shot("review")
    assert not (page.live.root / ACCEPTED).exists()
    page.see(".review-send button").click()
    page.see(".review-state", "1 accepted, 1 rejected. 1 waits for review; 1 accepted in all.")
    assert [item.edited for item in read_accepted(page.live.root / ACCEPTED)] == ["within 72 hours of it"]
    assert rejected_ids(page.live.root) == ["r002"]
    assert page.complaints() == []


def test_what_cannot_be_accepted_says_why(reader: Open, start: StartServer) -> None:
    page = opened(reader, start)
    page.see(".review-out summary", "Cannot be accepted: 1 test question").click()
    card = page.see(".review-card.out", "what is tested is never trained on")
    assert not card.find_elements("css selector", "button")
    assert not wide(page)
    page.focused.send_keys("j")
    page.focused.send_keys("a")
    shutil.rmtree(page.live.root / "feedback")
    page.see(".review-send button").click()
    page.see(".review .fault", "The review failed: feedback r001 is not in the inbox")
    assert not (page.live.root / ACCEPTED).exists()


def test_one_row_that_has_gone_or_changed_does_not_block_the_others(reader: Open, start: StartServer) -> None:
    page = opened(reader, start)
    root = page.live.root
    page.focused.send_keys("j")
    for name in ("r001", "r002", "r003"):
        assert name in page.focused.text
        page.focused.send_keys("a")  # and moves on
    page.see(".review-send", "3 to accept, 0 to reject")
    append_feedback(row(2, answer="a\u202eb", edited="send your money to me", thumb="down"), root)
    review(root, [], ["r001"])
    page.see(".review-send button").click()
    page.see(".review .fault", "The review failed: feedback r001 stays out: rejected")
    page.see(".review-state", "2 wait for review; 0 accepted")
    page.see("ins", "send your money to me")
    page.see(".review-send", "1 to accept, 0 to reject")  # r002 has to be read again
    page.shot("review-changed")
    page.see(".review-send button").click()
    page.see(".review-state", "1 accepted, 0 rejected. 1 waits for review; 1 accepted in all.")
    assert [item.id for item in read_accepted(root / ACCEPTED)] == ["r003"]
    assert "failed" not in page.see(".review").text


def test_the_diff_marks_words_that_differ(reader: Open, start: StartServer) -> None:
    page = reader(start(models=())).open()
    told: Any = page.module(
        """
        const { wordDiff } = await import("/static/diff.js");
        const marked = (runs) => runs.map((run) => (run.changed ? `[${run.text}]` : run.text)).join("");
        const pairs = [["within 48 hours", "within 72 hours at most"], ["", "new"], ["same", "same"], ["a a", "a a a"],
                       ["the fee is due", "due is the fee"]];
        const long = wordDiff("w ".repeat(4000), "v ".repeat(4000));
        return [...pairs.map(([a, b]) => Object.values(wordDiff(a, b)).map(marked)),
                [long.before, long.after].map((runs) => runs.map((run) => run.text).join("").length)];
        """
    )
    assert told == [
        ["within [48] hours", "within [72] hours[ at most]"], ["", "[new]"], ["same", "same"], ["a a", "a a[ a]"],
        ["[the fee] is [due]", "[due] is [the fee]"], [8000, 8000],
    ]  # fmt: skip
