"""A page in a real Chromium."""

import base64
import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers import SECONDS

PHONE, DESK = 390, 1280  # pixels of width


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Selenium's driver of a browser of its own; the test is skipped where there is none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    chromedriver = shutil.which("chromedriver")
    if browser is None or chromedriver is None:
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    # Chromium's own sandbox needs more rights than a container gives; the page under test is ours.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        yield driver
    finally:
        driver.quit()


class Tab:
    """What any page in a browser is asked."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    @property
    def log(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


class Page(Tab):
    """A report in a browser: what a person does with it, and what is then to be seen."""

    def open(self, path: Path, width: int = DESK, scheme: str = "light") -> "Page":
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        media = {"features": [{"name": name, "value": value} for name, value in features.items()]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        # Stored by the page's own process before its scripts read it: under file:// another's may never arrive.
        stored = {"source": "localStorage.setItem('language', 'en')"}
        before = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", stored)
        self.driver.get_log("browser")  # of another page
        try:
            self.driver.get(path.as_uri())
        finally:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", before)
        return self

    @property
    def count(self) -> str:
        return self.one("#count").text

    @property
    def ids(self) -> list[str]:
        return self.run("return [...document.querySelectorAll('.example h3 .muted')].map(e => e.textContent.slice(1))")

    @property
    def scores(self) -> list[float]:
        script = "return [...document.querySelectorAll('.example .value')].map(e => e.textContent.replace('−', '-'))"
        return [float(text) for text in self.run(script)]

    def choose(self, id: str, value: str) -> None:
        from selenium.webdriver.support.select import Select

        Select(self.one(f"#{id}")).select_by_value(value)

    def type(self, id: str, text: str) -> None:
        """Type, and wait until the list has followed."""
        from selenium.webdriver.support.ui import WebDriverWait

        field, before = self.one(f"#{id}"), self.one("#list").get_attribute("innerHTML")
        field.clear()
        field.send_keys(text)
        WebDriverWait(self.driver, 10).until(lambda _: self.one("#list").get_attribute("innerHTML") != before)


class Visitor(Tab):
    """Somebody before a browser of their own, at the service on `url`."""

    def __init__(self, driver: Any, url: str) -> None:
        super().__init__(driver)
        self.url = url
        driver.set_script_timeout(SECONDS)
        driver.set_page_load_timeout(SECONDS)
        driver.get_log("browser")  # of whoever was here before

    def go(self, path: str) -> "Visitor":
        self.driver.get(self.url + path)
        return self

    @property
    def path(self) -> str:
        return self.driver.current_url.removeprefix(self.url)

    def look(self, width: int, scheme: str) -> None:
        """From now on, with so wide a screen and light or dark."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        media = {"features": [{"name": name, "value": value} for name, value in features.items()]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        """What is to be read there; nothing where it is not."""
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return str(self.run(script, selector)).strip()

    def until(self, condition: Callable[[], Any]) -> Any:
        """What it gives once that is true."""
        deadline = time.monotonic() + SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, (self.driver.current_url, self.text("main"), self.log)
            time.sleep(0.05)
        return found

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def sign_in(self, token: str) -> "Visitor":
        self.go("/signin")
        self.one("#token").send_keys(token)
        self.click("main form button")
        self.until(lambda: self.path != "/signin")
        return self

    @property
    def focus(self) -> Any:
        return self.driver.switch_to.active_element

    def press(self, *keys: str) -> None:
        """Keys, to what has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, selector: str) -> Any:
        """By the Tab key alone, to an element that shows that it has the focus."""
        from selenium.webdriver.common.keys import Keys

        for _ in range(200):
            if self.run("return document.activeElement.matches(arguments[0])", selector):
                seen = "const s = getComputedStyle(document.activeElement); return s.outlineStyle + s.boxShadow"
                assert self.run(seen) != "nonenone", f"{selector} does not show that it has the focus"
                return self.focus
            self.press(Keys.TAB)
        raise AssertionError(f"{selector} is not reached by Tab on {self.path}")

    def speak(self, language: str) -> None:
        self.run("document.getElementById(arguments[0]).click()", language)

    def keep(self, path: Path) -> None:
        """A picture of all of the page."""
        shown = {"captureBeyondViewport": True, "format": "png"}
        path.write_bytes(base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", shown)["data"]))

    def overflow(self) -> int:
        """Pixels by which the page is wider than the screen."""
        return int(self.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth"))
