"""The web page in a real Chromium, by what a reader does and sees."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from mark.prompting import REFUSAL
from mark.rlhf.feedback import read_inbox
from tests.conftest import ROOT
from tests.pipeline.test_auto import QUESTIONS, calibrate_for
from tests.serve.conftest import TOKEN, StartServer, asking
from tests.serve.reader import By, Keys, Open, WebDriverWait, chromium, reader
from tests.serve.test_documents import PIPELINE, shelf

__all__ = ["chromium", "reader", "shelf"]

PLANTED = "<img src=x onerror=document.title='planted'><script>document.title='planted'</script>"


def test_an_answer_with_its_source_is_rated_edited_and_remembered(reader: Open) -> None:
    page = reader().open()
    page.see("#documents-list", "Club Statute")
    page.shot("start")
    page.ask(QUESTIONS[2])
    assert "The landlord shall repair the roof" in page.see(".answer-text").text
    quote = page.see(".quote")
    assert "The landlord shall repair the roof within thirty days" in quote.text
    assert "Lease" in quote.text and "page 2" in quote.text and "Article 3 Repairs" in quote.text
    assert not page.all(".warning") and not page.all(".refusal")
    page.shot("answer")

    page.see("[data-rating=up]").click()
    page.see(".judgement [role=status]", "Thank you")
    assert page.see("[data-rating=up]").get_attribute("aria-pressed") == "true"
    (row,) = read_inbox(page.live.root).rows
    assert (row.question, row.thumb, row.edited) == (QUESTIONS[2], "up", None)

    page.see(".judge-row button", "Edit the answer").click()
    box = page.see(".edit textarea")
    box.clear()
    box.send_keys("The landlord, within thirty days.")
    page.see(".edit input").send_keys("who and when")
    page.shot("edit")
    page.see(".edit button", "Send").click()
    page.see(".judgement [role=status]", "Changed")
    row = read_inbox(page.live.root).rows[-1]
    assert (row.thumb, row.edited, row.comment) == ("up", "The landlord, within thirty days.", "who and when")

    page.open()
    assert not page.all(".judgement")
    page.see("#history-list button", QUESTIONS[2]).click()
    assert "The landlord shall repair the roof" in page.see(".answer-text").text
    assert page.see("[data-rating=up]").get_attribute("aria-pressed") == "true"
    page.see("#history-clear").click()
    page.open()
    page.see("#documents-list", "Lease")
    assert (
        not page.all("#history-list li") and page.run("return localStorage.getItem('mark.history')") is None
    )
    assert page.complaints() == []


def test_a_refusal_is_plain(reader: Open, start: StartServer, make_root: Any) -> None:
    root = make_root(["transformer_lora"])
    calibrate_for(root, "transformer_lora", threshold=0.0)
    page = reader(start(root=root)).open()
    page.ask(QUESTIONS[3])
    assert page.see(".refusal .answer-text").text == REFUSAL.rstrip(".") == "Not in these documents"
    assert not page.all(".quote") and not page.all(".warning")
    page.shot("refusal")
    page.see("summary", "Where it looked").click()
    page.see(".passage", "Club Statute")
    assert page.complaints() == []


def test_an_unsupported_answer_is_marked_and_its_draft_too(
    reader: Open, start: StartServer, make_root: Any
) -> None:
    """Random weights write words that stand nowhere."""
    root = make_root(["transformer_lora"])
    calibrate_for(root, "transformer_lora", threshold=1.0)
    page = reader(start(root=root)).open()
    page.run(
        "window.drafts = []; new MutationObserver(() => document.querySelectorAll('.draft').forEach((d) => "
        "window.drafts.push(d.textContent))).observe(document.getElementById('answer'), {childList: true, subtree: true});"
    )
    page.ask(QUESTIONS[0])
    assert "check the source" in page.see(".warning").text
    assert page.see(".passage button", "Page").is_displayed()
    drafts = page.run("return window.drafts")
    assert (
        drafts
        and all(text.startswith("Draft: not checked yet") for text in drafts)
        and not page.all(".draft")
    )
    page.shot("unsupported")
    assert page.complaints() == []


def test_by_keyboard_alone(reader: Open) -> None:
    page = reader(batch_window_ms=6000).open()
    page.see("#documents-list", "Lease")
    box = page.focused
    assert box.get_attribute("id") == "question"
    box.send_keys("Who keeps", Keys.SHIFT, Keys.ENTER, Keys.SHIFT, "the accounts?")
    assert box.get_attribute("value") == "Who keeps\nthe accounts?"
    with page.live.client() as client, ThreadPoolExecutor(1) as thread:
        first = thread.submit(client.post, "/v1/chat/completions", json=asking(QUESTIONS[0]))
        while page.live.metric("mark_queue_length") != 1:  # it waits for others, and the page waits behind it
            time.sleep(0.05)
        box.send_keys(Keys.ENTER)
        page.see("#cancel")
        assert page.see("#answer").get_attribute("aria-busy") == "true"
        page.shot("waiting")
        page.focused.send_keys(Keys.ESCAPE)
        page.see("#ask-fault", "Cancelled.")
        assert first.result().status_code == 200
    assert box.get_attribute("value") == "Who keeps\nthe accounts?" and not page.all("#history-list li")
    assert page.live.metric("mark_dropped_total") == 1

    box.send_keys(Keys.ENTER)
    page.see(".judgement")
    assert (
        page.see("#answer").get_attribute("aria-busy") == "false"
        and "treasurer" in page.see(".answer-text").text
    )
    reached = page.tab_to("Good answer")
    assert reached[0] == "model" and any("Show the page: Club Statute, page 1" in name for name in reached)
    page.focused.send_keys(Keys.SPACE)
    page.see(".judgement [role=status]", "Thank you")
    assert read_inbox(page.live.root).rows[0].thumb == "up"

    page.see("#tab-ask").send_keys(Keys.ARROW_RIGHT)
    assert page.focused.get_attribute("id") == "tab-experiments"
    assert page.see("#panel-experiments", "Reload") and not page.all("#question")[0].is_displayed()
    page.driver.back()
    page.see("#question")
    assert page.complaints() == []


def test_a_page_is_drawn_or_the_reason_is_one_line(reader: Open, three_pdfs: Path) -> None:
    page = reader().open()
    page.ask(QUESTIONS[2])
    page.see(".quote button", "Show the page").click()
    page.see("dialog h2", "Lease, page 2")
    WebDriverWait(page.driver, 60).until(lambda _: "Drawing" not in page.see("#source-line").text)
    assert page.see("#source-line").text.count("\n") == 0 and not page.all("dialog canvas")
    page.focused.send_keys(Keys.ESCAPE)
    assert not page.run("return document.querySelector('dialog').open")
    assert page.focused.text == "Show the page"
    shutil.copytree(three_pdfs, page.live.root / "data/raw")
    page.focused.send_keys(Keys.ENTER)
    page.see("#source-line", "The quoted words are marked.")
    assert page.see("canvas[role=img]").get_attribute("aria-label") == "Lease, page 2"
    page.shot("source")


def test_an_upload_is_read_and_nothing_in_it_becomes_markup(
    reader: Open, start: StartServer, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted in a file's name, a title, a document's text, a question: each shows as text."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (shelf / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=shelf, check=True)
    page = reader(start(root=shelf, allow_upload=True)).open()
    page.see("#upload", "Add a PDF")
    path = tmp_path / f"{PLANTED.replace('/', '-')}.pdf"
    planted_pdf(path)
    page.all("#upload-file")[0].send_keys(str(path))
    page.see(".uploads", "taken")
    page.see("#upload-state", "Reading the new documents")
    page.shot("upload")
    page.see("#documents-list", PLANTED.replace("/", "-"))
    WebDriverWait(page.driver, 240, 0.5).until(lambda _: "are read" in page.see("#upload-state").text)
    assert any("1 page" in one.text and PLANTED in one.text for one in page.all("li.document.ready"))
    page.ask(f"How often shall the gardener water the roses? {PLANTED}")
    quote = page.see(".quote")
    assert PLANTED in quote.text and quote.find_element(By.CSS_SELECTOR, "cite").text == PLANTED
    assert PLANTED in page.see(".answer-text").text
    page.shot("planted")
    assert not page.all("main img") and not page.all("main script") and page.driver.title == "MARK"
    page.open()
    page.see("#history-list button", PLANTED).click()
    page.see(".quote", PLANTED)
    assert not page.all("main img") and not page.all("main script") and page.driver.title == "MARK"
    assert page.complaints() == []


def planted_pdf(path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), invariant=1)
    canvas.setTitle(PLANTED)
    canvas.setFont("Helvetica", 8)
    canvas.drawString(40, 760, "Article 1 Garden")
    canvas.drawString(40, 740, f"The gardener shall water the roses twice a week {PLANTED} in summer.")
    canvas.save()


def test_uploads_that_are_off_say_how_to_turn_them_on(reader: Open) -> None:
    page = reader().open()
    page.see("#documents-list", "Lease")
    page.run("""
        const held = new DataTransfer();
        held.items.add(new File(["%PDF-1.7"], "garden.pdf", { type: "application/pdf" }));
        for (const kind of ["dragover", "drop"]) {
          const event = new DragEvent(kind, { dataTransfer: held, bubbles: true, cancelable: true });
          document.querySelector("main").dispatchEvent(event);
          if (!event.defaultPrevented) throw new Error(`${kind} is left to the browser`);
        }
    """)
    line = page.see(".uploads .fault").text
    page.shot("uploads-off")
    assert line.startswith("no uploads here; run `mark params corpus=folder serve.allow_upload=true`")
    assert "garden.pdf" in page.see(".uploads").text and not page.all(".dropping")


def test_a_refused_file_says_why(reader: Open, start: StartServer, shelf: Path, tmp_path: Path) -> None:
    page = reader(start(root=shelf, allow_upload=True, max_upload_mb=1)).open()
    large, other = tmp_path / "large.pdf", tmp_path / "letter.docx"
    large.write_bytes(b"%PDF-1.7\n" + b"x" * (5 << 20))
    other.write_bytes(b"PK and more")
    page.all("#upload-file")[0].send_keys(f"{large}\n{other}")
    page.see(".uploads li:nth-child(2) .fault", "the file is no PDF")
    line = page.see(".uploads li:nth-child(1) .fault").text
    assert line == f"the file has {large.stat().st_size} bytes, {1 << 20} may be sent (serve.max_upload_mb)"


def test_the_token_is_asked_for_and_kept_for_the_tab(reader: Open) -> None:
    page = reader(token=TOKEN).open()
    field = page.see("#token")
    assert field.get_attribute("type") == "password" and not page.all("#documents-list li")
    field.send_keys("short", Keys.ENTER)
    page.see("#token-fault", "at least 16 characters")
    field.clear()
    field.send_keys(TOKEN[::-1], Keys.ENTER)
    page.see("#token-fault", "not the server's token")
    page.shot("token")
    page.see("#token").send_keys(TOKEN, Keys.ENTER)
    page.see("#documents-list", "Lease")
    assert not page.see("#question").get_attribute("disabled")
    page.ask(QUESTIONS[2])
    page.see("#tab-review", "Review")
    page.open()
    page.see("#documents-list", "Lease")
    assert not page.all("#token-form")[0].is_displayed()
    assert TOKEN not in page.driver.current_url and TOKEN not in page.run(
        "return JSON.stringify(localStorage)"
    )
    assert page.run("return JSON.parse(sessionStorage.getItem('mark.token'))") == TOKEN


@pytest.mark.parametrize("width", [360, 800])
def test_narrow_screens_need_no_sideways_scroll(reader: Open, width: int) -> None:
    page = reader()
    page.cdp("Emulation.setDeviceMetricsOverride", width=width, height=780, deviceScaleFactor=1, mobile=True)
    page.open().ask(QUESTIONS[2])
    assert page.run("return innerWidth") == width
    page.run("document.getElementById('tab-review').hidden = false")
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.see("#ask").rect["x"] + page.see("#ask").rect["width"] <= width
    page.shot(f"width-{width}")
    page.see(".judge-row button", "Edit the answer").click()
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.complaints() == []


def test_dark_follows_the_system_and_the_toggle(reader: Open) -> None:
    page = reader()

    def lightness() -> int:
        return sum(
            page.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        )

    page.open()
    assert lightness() > 600 and page.see("#theme").get_attribute("aria-pressed") == "false"
    page.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert lightness() < 150 and page.see("#theme").get_attribute("aria-pressed") == "true"
    page.ask(QUESTIONS[2])
    page.shot("dark")
    page.see("#theme").click()
    assert lightness() > 600
    page.open()
    assert lightness() > 600 and page.see("#theme").get_attribute("aria-pressed") == "false"
    assert page.complaints() == []


def test_storage_that_is_full_or_blocked_costs_only_the_history(reader: Open) -> None:
    page = reader().open()
    page.run(
        "localStorage.setItem('mark.history', '{\"damaged\": [1'); localStorage.setItem('mark.theme', 'pink');"
    )
    page.open().see("#documents-list", "Lease")
    assert not page.all("#history-list li")
    page.run("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };")
    page.ask(QUESTIONS[2])
    page.see("#history-note", "full or blocked")
    page.see("#history-list button", QUESTIONS[2])
    assert page.complaints() == []


def test_the_history_is_capped(reader: Open) -> None:
    page = reader().open()
    kept = page.module("""
        const { History } = await import("/static/history.js");
        const past = new History(() => {});
        const mark = { quotes: [], passages: [], notes: [], refused: false, unsupported: false };
        for (let i = 0; i < 130; i += 1) past.add({ id: `ans-${i}`, question: `${i}?`, text: "x", at: i, mark });
        return JSON.parse(localStorage.getItem("mark.history")).map((entry) => entry.id);
    """)
    assert kept == [f"ans-{i}" for i in range(129, 29, -1)]


def test_events_are_read_however_they_are_cut(reader: Open) -> None:
    page = reader().open()
    found = page.module("""
        const { readEvents } = await import("/static/events.js");
        const text = ': waiting\\n\\ndata: {"a": "é…"}\\n\\ndata: {"b": "👍"}\\r\\n\\r\\ndata: [DONE]\\n\\n';
        const bytes = new TextEncoder().encode(text);
        const seen = new Set();
        for (let size = 1; size <= bytes.length; size += 1) {
          const body = new ReadableStream({ start(to) {
            for (let at = 0; at < bytes.length; at += size) to.enqueue(bytes.slice(at, at + size));
            to.close();
          } });
          const events = [];
          for await (const event of readEvents(body)) events.push(event);
          seen.add(JSON.stringify(events));
        }
        const cut = new ReadableStream({ start(to) { to.enqueue(bytes.slice(0, 30)); to.close(); } });
        let fault = "";
        try { for await (const event of readEvents(cut)); } catch (error) { fault = error.message; }
        return [[...seen], fault];
    """)
    assert found == [
        ['[{"a":"é…"},{"b":"👍"}]'],
        "The connection ended before the answer was complete. Ask again.",
    ]


def test_a_page_is_scrolled_to_its_mark(reader: Open) -> None:
    page = reader().open()
    top, seen, whole = page.module("""
        const { sourceDialog } = await import("/static/source.js");
        const paper = new OffscreenCanvas(800, 4000);
        paper.getContext("2d").fillRect(0, 0, 9, 9);
        const body = await paper.convertToBlob();
        const headers = { "x-highlight": "found", "x-highlight-at": "0.75" };
        const place = { document: "x", title: "X", label: "", page: 1, span: [0, 1], text: "y" };
        await sourceDialog({ file: async () => new Response(body, { headers }) })(place);
        const area = document.getElementById("source-page");
        return [area.scrollTop, area.clientHeight, area.querySelector("canvas").clientHeight];
    """)
    assert whole > 3 * seen and top < 0.75 * whole < top + seen / 2


def test_without_a_draft_the_page_says_why(reader: Open) -> None:
    page = reader(batch_window_ms=4000).open()
    page.see("#documents-list", "Lease")
    page.run(
        "window.notes = []; new MutationObserver((all) => all.forEach((one) => one.addedNodes.forEach((node) => "
        "window.notes.push(node.textContent)))).observe(document.getElementById('answer'), {childList: true, subtree: true});"
    )
    with page.live.client() as client, ThreadPoolExecutor(1) as thread:
        other = thread.submit(client.post, "/v1/chat/completions", json=asking(QUESTIONS[0]))
        while page.live.metric("mark_queue_length") != 1:
            time.sleep(0.05)
        page.ask(QUESTIONS[2])
        assert other.result().status_code == 200
    assert any(text.startswith("Others are asking: no draft") for text in page.run("return window.notes"))
    assert page.live.metric("mark_batch_size_count") == 1


def test_a_server_that_is_gone_is_said(reader: Open) -> None:
    page = reader().open()
    page.see("#documents-list", "Lease")
    page.live.stop()
    page.see("#question").send_keys(QUESTIONS[2], Keys.ENTER)
    page.see("#ask-fault", "The server cannot be reached")
    assert page.see("#question").get_attribute("value") == QUESTIONS[2]
