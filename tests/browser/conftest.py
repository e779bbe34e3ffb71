"""One browser, one server and one finished study for all tests of the pages."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.studies import run_study, served, until, write_verdict

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NOISE = ("GPU stall due to ReadPixels", "GroupMarkerNotSet", "swiftshader", "SwiftShader")
"""What a browser without a graphics card says of drawing by software."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="session")
def address(folder: Path) -> Iterator[str]:
    """Where `sweep ui` serves; the study `quick` is finished and has a verdict."""
    spec = run_study(folder, "quick", trials=24)
    write_verdict(spec.layout)
    with served(folder, "quick") as (address, _):
        yield address


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: ``SWEEP_SCREENSHOTS``, or below the tests' temporary folder."""
    kept = os.environ.get("SWEEP_SCREENSHOTS")
    place = Path(kept) if kept else tmp_path_factory.mktemp("screenshots")
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture(scope="session")
def chrome() -> Iterator[Chrome]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no browser: install Debian's chromium and chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


class Page:
    """A page in the browser, in the words of these tests."""

    def __init__(self, chrome: Chrome, pictures: Path) -> None:
        self.chrome, self._pictures = chrome, pictures

    def open(self, url: str, *, width: int = 1280, height: int = 900, theme: str = "light") -> None:
        """Load a page afresh in a window of this size."""
        self.chrome.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.chrome.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        )
        self.chrome.get("about:blank")
        self.chrome.get_log("browser")
        self.chrome.get(url)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.chrome.execute_script(script, *arguments)

    def ready(self) -> None:
        """Wait until our page shows the study."""
        until(lambda: self.js("return document.body && document.body.dataset.ready"), "the page shows the study")

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def click(self, selector: str) -> None:
        self.js("document.querySelector(arguments[0]).click()", selector)

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.chrome).send_keys(*keys).perform()

    def column(self, key: str) -> list[str]:
        """The texts of a column of the leaderboard, as far as its rows are in sight."""
        script = """
          const heads = [...document.querySelectorAll('#grid th')].map((head) => head.dataset.key);
          const index = heads.indexOf(arguments[0]) + 1;
          const cells = document.querySelectorAll(`#grid tr[data-trial] td:nth-child(${index})`);
          return [...cells].map((cell) => cell.innerText.trim());
        """
        return list(self.js(script, key))

    def errors(self) -> list[str]:
        """What the browser complained of since the page was opened."""
        said = [entry["message"] for entry in self.chrome.get_log("browser")]
        return [message for message in said if not any(noise in message for noise in NOISE)]

    def drawn(self) -> None:
        """Show the page at its whole height and wait until each chart is drawn."""
        height = self.js("return document.documentElement.scrollHeight")
        self.resize(height)
        script = (
            "return [...document.querySelectorAll('.chart')].every((c) => c.closest('[hidden]') || c.dataset.drawn)"
        )
        until(lambda: self.js(script), "all charts are drawn")

    def resize(self, height: int) -> None:
        width = self.js("return innerWidth")
        self.chrome.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def picture(self, name: str) -> None:
        self.chrome.save_screenshot(str(self._pictures / f"{name}.png"))


@pytest.fixture
def page(chrome: Chrome, pictures: Path) -> Page:
    return Page(chrome, pictures)


@pytest.fixture
def ask(address: str) -> Callable[..., tuple[int, dict[str, str], bytes]]:
    """Ask the server as no browser would: any header, any method."""
    import http.client

    host, port = address.removeprefix("http://").split(":")

    def ask(path: str, *, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection(host, int(port), timeout=60)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), named)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    return ask
