"""Tokens at the page, in a real Chromium: who is asked for which, and what follows once it is given."""

from __future__ import annotations

from tests.pipeline.test_auto import QUESTIONS
from tests.serve.conftest import TOKEN, StartServer
from tests.serve.reader import Keys, Open, chromium, reader
from tests.serve.test_access import REVIEW

__all__ = ["chromium", "reader"]


def test_reviewers_can_enter_their_token_where_asking_needs_none(reader: Open, start: StartServer) -> None:
    page = reader(start(models=(), review_token=REVIEW)).open()
    page.see("#documents-list", "Lease")
    assert not page.all("#token-form")[0].is_displayed()
    page.see("#tab-review").click()
    page.see("#token-form", "Enter the reviewers' token")
    page.see("#panel-review .fault", "Only reviewers may see this: enter their token above.")
    page.shot("reviewers-token")
    assert page.focused.get_attribute("id") == "token" and not page.all("#token-fault")[0].is_displayed()
    page.focused.send_keys(TOKEN, Keys.ENTER)
    page.see("#token-fault", "This is not the reviewers' token.")
    page.focused.send_keys(REVIEW, Keys.ENTER)
    page.see(".review-state", "0 wait for review")
    assert not page.all("#token-form")[0].is_displayed()
    assert page.focused.get_attribute("id") == "panel-review"
    page.open("/#review").see(".review-state", "0 wait for review")


def test_an_open_view_is_loaded_once_its_token_is_given(reader: Open, start: StartServer) -> None:
    """Two tokens: an asker who opens Review is asked for the other one, and goes on asking with his own."""
    page = reader(start(models=(), token=TOKEN, review_token=REVIEW)).open("/#experiments")
    page.see("#panel-experiments .fault", "The token is missing or wrong: enter it above.")
    page.see("#token-form", "This server asks for its token")
    page.focused.send_keys(TOKEN, Keys.ENTER)
    page.see("#panel-experiments", "No comparison yet")
    page.see("#tab-review").click()
    page.see("#token-form", "Enter the reviewers' token")
    assert not page.all("#token-fault")[0].is_displayed()
    page.focused.send_keys(TOKEN[::-1], Keys.ENTER)
    page.see("#token-fault", "This is not the reviewers' token.")
    page.see("#tab-ask").click()
    page.ask(QUESTIONS[2])
    page.see("#tab-review").click()
    page.see("#token").send_keys(REVIEW, Keys.ENTER)
    page.see(".review-state", "0 wait for review")
    assert all("401" in line for line in page.complaints())


def test_a_view_of_a_server_that_is_gone_says_so(reader: Open) -> None:
    page = reader().open()
    page.see("#documents-list", "Lease")
    page.live.stop()
    page.see("#tab-experiments").click()
    page.see("#panel-experiments .fault", "The server cannot be reached")
