"""A page in a real Chromium."""

from pathlib import Path
from typing import Any

PHONE, DESK = 390, 1280  # pixels of width


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
