"""A real Chromium without a window, driven over a pair of pipes: its DevTools protocol, and nothing to install."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

#: Code, number and text of keys that are no letter.
_KEYS = {"Enter": ("Enter", 13, "\r"), " ": ("Space", 32, " "), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, ""),
         "PageUp": ("PageUp", 33, ""), "PageDown": ("PageDown", 34, ""), "End": ("End", 35, ""), "Home": ("Home", 36, ""),
         "ArrowLeft": ("ArrowLeft", 37, ""), "ArrowUp": ("ArrowUp", 38, ""), "ArrowRight": ("ArrowRight", 39, ""),
         "ArrowDown": ("ArrowDown", 40, "")}  # fmt: skip


def find_chromium() -> str:
    """The browser's path; skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on PATH (Debian: apt-get install chromium)")


#: axe-core, see the README beside it.
_AXE = Path(__file__).parents[1] / "fixtures" / "axe.min.js"
#: A desktop and a phone, CSS pixels.
DESKTOP, PHONE = (1280, 800), (390, 844)

#: Draw WebGL without a graphics processor.
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


#: Of commands to a page that another has taken the place of.
_NAVIGATED = re.compile("navigated or closed|context was destroyed|Cannot find context")


class Navigated(AssertionError):
    """Raised for a command to a page that goes to another address meanwhile."""


class Chromium:
    """The browser; each page has cookies of its own, as on another machine."""

    def __init__(self, profile: Path, graphics: tuple[str, ...] = ("--disable-gpu",)) -> None:
        to_browser, from_us = os.pipe()
        from_browser, to_us = os.pipe()

        def wire() -> None:  # the browser reads file descriptor 3 and writes 4
            high = [os.dup2(fd, 100 + n) for n, fd in enumerate((to_browser, to_us))]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [
                *(find_chromium(), "--headless", "--no-sandbox", *graphics, "--remote-debugging-pipe"),
                *("--no-first-run", "--disable-dev-shm-usage", "--mute-audio", "--disable-extensions"),
                *(
                    "--disable-background-networking",
                    "--disable-component-update",
                    f"--user-data-dir={profile}",
                ),
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=wire,
            close_fds=False,
        )
        os.close(to_browser)
        os.close(to_us)
        self._out, self._in = from_us, from_browser
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """One command and its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if _NAVIGATED.search(str(answer.get("error", ""))):
                    raise Navigated(f"{method}: {answer['error']}")
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._in], [], [], 60)[0], "the browser does not answer"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser died"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def page(self, url: str, width: int = 1440, height: int = 860) -> Page:
        """A new page with a cookie jar of its own."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        page.send("Page.enable")
        page.send("Runtime.enable")
        page.send("Log.enable")
        page.send("Emulation.setFocusEmulationEnabled", enabled=True)  # none of several is in the background
        page.resize(width, height)
        page.open(url)
        return page

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)


class Page:
    """One page."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command to this page."""
        return self._browser.send(method, self._session, **parameters)

    def open(self, url: str) -> None:
        """Go to an address, as a new document."""
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=url)

    def resize(self, width: int, height: int) -> None:
        """Give the page another size, CSS pixels."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)  # fmt: skip

    def run(self, script: str) -> Any:
        """The value of an expression; promises are waited for."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 20) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while True:
            # What is not there yet is not true yet.
            try:
                value = self.run(f"(() => {{ try {{ return ({condition}) }} catch {{ return null }} }})()")
            except Navigated:
                value = None
            if value:
                return value
            assert time.monotonic() < end, f"not true in {seconds} s: {condition}\n{self.text()}"
            time.sleep(0.03)

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def press(self, key: str) -> None:
        """Press a key and let go."""
        code, number, text = _KEYS.get(key, (key, ord(key.upper()[0]), key))
        common = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, path: Path) -> None:
        """A picture of what is seen."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def complaints(self) -> list[str]:
        """Errors that the browser noted: scripts that fail, policies that are broken."""
        out = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                out.append(str(event["params"]["exceptionDetails"]))
            entry = event["params"].get("entry", {}) if event["method"] == "Log.entryAdded" else {}
            if entry.get("level") == "error" and entry.get("source") in ("security", "javascript"):
                out.append(entry["text"])
        return out


def axe(page: Page) -> list[str]:
    """Return the violations that axe-core finds on a page as it is now, one text each: rule, meaning, elements.

    What axe cannot decide, such as the contrast of a text over a picture, is not a violation. Elements that are hidden
    are not checked: show them first.
    """
    if page.run("typeof axe") == "undefined":
        page.run(_AXE.read_text(encoding="utf-8") + "; undefined")
    found = page.run("axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)")
    return [
        f"{rule['id']}: {rule['help']}: {'; '.join(' '.join(map(str, node['target'])) for node in rule['nodes'])}"
        for rule in found
    ]
