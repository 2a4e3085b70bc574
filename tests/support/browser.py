"""A browser without a window and the service that it asks, for the tests of the page."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

WIDE, PHONE = (1200, 900), (390, 844)


@contextmanager
def chromium(heard: Path) -> Iterator[Chrome]:
    """A browser whose microphone plays a WAV file, again and again."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "--headless=new",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--mute-audio",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={heard}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page in a browser, as somebody sees and uses it."""

    def __init__(self, driver: Chrome, address: str) -> None:
        self.driver = driver
        self.address = address
        self.look()
        self.open()
        self.run("sessionStorage.clear()")
        self.open()

    def open(self) -> None:
        self.driver.get(self.address)
        self.wait("document.getElementById('model').textContent !== ''")

    def look(self, size: tuple[int, int] = WIDE, **media: str) -> None:
        """Set how large the window is, and media features such as ``prefers_color_scheme="dark"``."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str, seconds: float = 20) -> None:
        """Until a JavaScript expression is true."""
        self.until(lambda: bool(self.run(f"return Boolean({condition})")), condition, seconds)

    def until(self, condition: Callable[[], bool], what: str = "", seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutException(f"{what}; the page says: {self.text('main')}")
            time.sleep(0.02)

    def element(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What is to be read there, without the marks that keep names apart."""
        return self.element(selector).text.replace("\u2068", "").replace("\u2069", "")

    def attribute(self, selector: str, name: str) -> str:
        return self.element(selector).get_attribute(name) or ""

    def is_shown(self, selector: str) -> bool:
        return self.element(selector).is_displayed()

    def choose(self, path: Path) -> None:
        self.element("#file").send_keys(str(path))

    def ask(self, path: Path) -> str:
        """Choose a file and wait for all of the answer; gives the decision."""
        self.choose(path)
        self.wait_for_answer()
        return self.text("#decision")

    def wait_for_answer(self) -> None:
        self.wait(
            "document.body.dataset.phase === 'answered' && !document.querySelector('#spectrogram-box[aria-busy]')"
        )

    def colour(self, canvas: str, share: float) -> list[int]:
        """Red, green, blue and opacity half-way up a canvas, at a share of its width."""
        script = """
            const canvas = document.querySelector(arguments[0]);
            const copy = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
            copy.drawImage(canvas, -Math.floor(arguments[1] * canvas.width), -Math.floor(canvas.height / 2));
            return [...copy.getImageData(0, 0, 1, 1).data];
        """
        return list(self.run(script, canvas, share))

    def answers(self, script: str) -> None:
        """Have JavaScript answer the page's questions: the body of a function of `url`, `options` and `real`."""
        self.run(f"const real = window.fetch; window.fetch = async (url, options) => {{ {script} }};")

    def violations(self) -> list[str]:
        """What axe-core finds that is serious or critical."""
        axe = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
        self.run(f"if (!window.axe) {{ {axe} }}")
        script = "axe.run(document, {resultTypes: ['violations']}).then(arguments[0])"
        found = self.driver.execute_async_script(script)["violations"]
        return [
            f"{rule['id']}: {node['html']} {node['failureSummary']}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]

    def complaints(self) -> list[str]:
        """Errors in the console, violations of the content security policy, and requests to other hosts.

        That a request was refused is an answer, though the browser logs it.
        """
        logged = [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in ("SEVERE", "WARNING")
            and not (entry["source"] == "network" and "/v1/" in entry["message"])
        ]
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"]["request"] for event in events if event["method"] == "Network.requestWillBeSent"]
        places = [urlsplit(request["url"]) for request in sent]
        host = urlsplit(self.address).netloc
        assert any(place.netloc == host for place in places), "requests are logged"
        return logged + [
            place.geturl() for place in places if place.scheme not in ("blob", "data") and place.netloc != host
        ]
