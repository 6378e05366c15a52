"""A reader at the web page: Chromium, driven by selenium, against a running server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="make extras installs selenium")

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.serve.conftest import Live, StartServer
from tests.serve.test_documents import searched_by_words

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for a file's tests; each server is an origin of its own, so nothing kept is shared."""
    if BROWSER is None or DRIVER is None:
        pytest.skip("chromium or chromedriver is missing: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server",
                 "--disable-background-networking", "--window-size=1280,900"):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


class Reader:
    """Someone at the page."""

    def __init__(self, driver: Any, live: Live, shots: Path) -> None:
        self.driver, self.live, self._shots = driver, live, shots

    def open(self, path: str = "/") -> Reader:
        self.driver.get(f"{self.live.url}{path}")
        return self

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def see(self, selector: str, text: str = "") -> Any:
        """The first visible element with a text, waited for."""

        def found(_: Any) -> Any:
            return next((one for one in self.all(selector) if one.is_displayed() and text in one.text), None)

        seen = [one.text for one in self.all(selector)]
        return WebDriverWait(self.driver, 60, 0.1, ignored_exceptions=[StaleElementReferenceException]).until(
            found, f"{selector} with {text!r} is not seen; there are {seen}"
        )

    def ask(self, question: str) -> None:
        self.see("#question").send_keys(question, Keys.ENTER)
        self.see(".judgement")
        assert self.see(".asked").text == question

    @property
    def focused(self) -> Any:
        return self.driver.switch_to.active_element

    def tab_to(self, label: str) -> list[str]:
        """Press Tab until a label is reached; each stop must show that it has the focus."""
        reached: list[str] = []
        while label not in reached:
            assert len(reached) < 30, reached
            self.focused.send_keys(Keys.TAB)
            stop = self.focused
            reached.append(stop.get_attribute("aria-label") or stop.get_attribute("id") or stop.text)
            assert stop.value_of_css_property("outline-style") != "none", reached
        return reached

    def cdp(self, command: str, **values: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, values)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def module(self, script: str) -> Any:
        """The value of an async function's body."""
        done = (
            "const done = arguments[0]; (async () => {" + script + "})().then(done, (e) => done(String(e)));"
        )
        return self.driver.execute_async_script(done)

    def complaints(self) -> list[str]:
        """What the console holds."""
        return [f"{entry['level']} {entry['message']}" for entry in self.driver.get_log("browser")]

    def shot(self, name: str) -> None:
        self.driver.save_screenshot(str(self._shots / f"{name}.png"))


Open = Callable[..., Reader]


@pytest.fixture
def reader(chromium: Any, start: StartServer, make_root: Any, tmp_path: Path) -> Iterator[Open]:
    """Someone at the page of a server: `reader(live)`, or `reader(models=[...], **settings)` for one of its own."""
    shots = Path(os.environ.get("MARK_SCREENSHOTS") or tmp_path / "shots")
    shots.mkdir(parents=True, exist_ok=True)
    chromium.get_log("browser")

    def begin(live: Live | None = None, models: tuple[str, ...] = (), **settings: Any) -> Reader:
        if live is None:
            live = start(root=searched_by_words(make_root(list(models))), **settings)
        return Reader(chromium, live, shots)

    yield begin
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get("about:blank")
