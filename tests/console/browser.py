"""A person at the console: Debian's Chromium, driven by Selenium, on a real server."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.eventually import eventually

AXE = Path(__file__).with_name("axe.min.js")
DESKTOP, PHONE = (1280, 800), (390, 844)
MISSING = "the console's tests need chromium and chromedriver (Debian: chromium, chromium-driver)"


def programs() -> tuple[str, str] | None:
    """Return the paths of the browser and of its driver, None if one is missing."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    return (found[0], found[1]) if found[0] and found[1] else None


@contextmanager
def running() -> Iterator[webdriver.Chrome]:
    """Run a browser without a window."""
    found = programs()
    assert found is not None, MISSING
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    with tempfile.TemporaryDirectory(prefix="foldwork-browser-") as folder:
        for argument in (
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--no-first-run", "--lang=en"),
            f"--user-data-dir={folder}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(found[1]))
        try:
            yield driver
        finally:
            driver.quit()


class Browser:
    """What a person does and sees; `clicks` counts what was clicked, and each form that was sent by a key."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url
        self.clicks = 0

    def log_in(self, token: str) -> None:
        """Begin a session with a key, and go to the first page."""
        self.driver.delete_all_cookies()
        self.dark(False)
        self.size(DESKTOP)
        begun = httpx.post(f"{self.url}/console/login", data={"key": token})
        for name, value in begun.cookies.items():
            cookie = {"name": name, "value": value, "url": f"{self.url}/console", "path": "/console"}
            self.driver.execute_cdp_cmd("Network.setCookie", {**cookie, "httpOnly": True, "sameSite": "Strict"})
        self.open("/console")
        # The page before may have been live, of a server that has ended since.
        self.complaints()
        self.clicks = 0

    @property
    def path(self) -> str:
        """Return the address of the page, from its path on."""
        return self.driver.current_url.removeprefix(self.url)

    def open(self, path: str) -> None:
        """Go to an address."""
        self.driver.get(self.url + path)

    def size(self, size: tuple[int, int]) -> None:
        """Show pages on a screen of so many pixels."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
        )
        # What is clicked is where it is after the page was laid out anew.
        eventually(lambda: self.script("return window.innerWidth") == size[0])

    def dark(self, dark: bool) -> None:
        """Prefer a dark or a light page."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})

    def find(self, selector: str) -> WebElement:
        """Return an element, once it is there."""

        def found() -> list[WebElement]:
            return self.driver.find_elements(By.CSS_SELECTOR, selector)

        return eventually(found)[0]

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements that are there."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        """Click an element."""
        self._click(By.CSS_SELECTOR, selector)

    def press(self, words: str) -> None:
        """Click the link or button of these words."""
        plain = words.replace('"', "")
        self._click(By.XPATH, f'//*[self::a or self::button][normalize-space(.)="{plain}" or @aria-label="{plain}"]')

    def _click(self, by: str, what: str) -> None:
        def clicked() -> bool:
            try:
                element = self.driver.find_element(by, what)
                self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
                element.click()
            except (NoSuchElementException, StaleElementReferenceException) as error:
                raise AssertionError(f"there is no {what} on {self.path}: {self.text[:2000]}") from error
            return True

        eventually(clicked)
        self.clicks += 1

    def fill(self, selector: str, text: str) -> None:
        """Replace the text of a field."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    @property
    def text(self) -> str:
        """Return the text of the page."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def says(self, *texts: str, not_: str = "") -> None:
        """Wait until the page says something, and does not say something else."""

        def said() -> None:
            now = self.text.lower()
            assert [text for text in texts if text.lower() not in now] == [], now[:3000]
            assert not not_ or not_.lower() not in now

        eventually(said)

    def script(self, script: str, *values: Any) -> Any:
        """Return what a script returns."""
        return self.driver.execute_script(script, *values)

    def violations(self, *rules: str) -> list[str]:
        """Return what axe finds on the page, by all rules unless some are named: the rule, and the element."""
        if not self.script("return 'axe' in window"):
            self.script(AXE.read_text("utf-8"))
        found = self.driver.execute_async_script(
            "const [options, done] = arguments; axe.run(document, options).then(({violations}) => done(violations))",
            {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})},
        )
        return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]

    def complaints(self) -> list[str]:
        """Return the errors that the browser has logged since the last call, such as refusals by the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the screen."""
        return int(self.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def offers_nothing(self, said: str, *paths: str) -> None:
        """Expect pages that say something, and have nothing by which anything is changed."""
        for path in paths:
            self.open(path)
            self.says(said)
            assert self.all("main [hx-post], main [draggable=true]") == [], path

    def sound(self) -> None:
        """Expect a page that axe finds nothing on, that logs no error, and that fits a desktop and a phone."""
        for size in (DESKTOP, PHONE):
            self.size(size)
            assert self.violations() == [], self.path
            assert self.overflow() <= 0, (self.path, size)
        self.size(DESKTOP)
        assert self.complaints() == [], self.path
