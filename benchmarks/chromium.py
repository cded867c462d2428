"""Chromium without a window, for pictures of the page and for its tests. It is driven over a pipe: no port, no library.

    with Chromium.start() as chromium:
        page = chromium.open("file:///tmp/page.html")
        page.wait("document.querySelector('h1')")
        page.screenshot(Path("page.png"))

Its protocol (https://chromedevtools.github.io/devtools-protocol/) is JSON; a zero byte ends each message. Raises
`ChromiumError` when it is missing, ends, or does not answer in time; what the page itself complains about is in `Page.problems`.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
#: Seconds until an answer, or a condition that does not come true, is given up.
DEADLINE: Final = 180.0
_OPTIONS: Final = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    # It can't have one as root, nor in many containers; and it sees pages of ours only.
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--disable-dev-shm-usage",  # containers have 64 MiB of it
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--mute-audio",
)


class ChromiumError(Exception):
    """The browser is missing, ended, or did not do what it was asked to."""


def find() -> str | None:
    """Where a Chromium is, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Chromium:
    """One process, with a profile of its own that goes with it."""

    def __init__(self, process: subprocess.Popen[bytes], out: int, into: int) -> None:
        self._process = process
        self._out = out
        self._into = into
        self._rest = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    @classmethod
    @contextmanager
    def start(cls) -> Iterator[Self]:
        """Run one until the end of the block."""
        program = find()
        if program is None:
            raise ChromiumError("there is no Chromium: sudo apt install chromium")
        theirs, into = os.pipe()
        out, its = os.pipe()
        with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
            command = [program, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
            # It reads from descriptor 3 and writes to 4.
            process = subprocess.Popen(
                ["bash", "-c", f'exec "$0" "$@" 3<&{theirs} 4>&{its}', *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs, its),
            )
            os.close(theirs)
            os.close(its)
            chromium = cls(process, out, into)
            try:
                yield chromium
            finally:
                chromium.close()

    def close(self) -> None:
        """End it."""
        os.close(self._into)  # which tells it to end
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)

    def open(self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False, scale: float = 1) -> Page:
        """Open a page in a context of its own, which shares nothing with the others."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", {"url": "about:blank", "browserContextId": context})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = Page(self, session)
        self._pages[session] = page
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        page.call("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", {"features": [scheme]})
        page.call("Page.navigate", {"url": url})
        page.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
        return page

    def call(
        self,
        method: str,
        parameters: Mapping[str, Any] | None = None,
        session: str | None = None,
        deadline: float = DEADLINE,
    ) -> dict[str, Any]:
        """Return what the browser answers to a command."""
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": dict(parameters or {})}
        if session is not None:
            command["sessionId"] = session
        written = json.dumps(command).encode() + b"\0"
        try:
            while written:
                written = written[os.write(self._into, written) :]
        except BrokenPipeError as error:
            raise ChromiumError(f"{method}: the browser has ended") from error
        until = time.monotonic() + deadline
        while True:
            said = self._read(method, until)
            if said.get("id") == self._number:
                if "error" in said:
                    raise ChromiumError(f"{method}: {said['error']['message']}")
                found: dict[str, Any] = said["result"]
                return found
            if page := self._pages.get(said.get("sessionId", "")):
                page.heard(said["method"], said["params"])

    def _read(self, method: str, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._out], [], [], max(0.0, until - time.monotonic()))[0]:
                raise ChromiumError(f"{method}: no answer in time")
            piece = os.read(self._out, 1 << 20)
            if not piece:
                raise ChromiumError(f"{method}: the browser has ended")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        said: dict[str, Any] = json.loads(line)
        return said


class Page:
    """A tab. `problems` has exceptions, and what the browser logs as errors, such as a breach of the page's policy."""

    def __init__(self, chromium: Chromium, session: str) -> None:
        self._chromium = chromium
        self._session = session
        self.problems: list[str] = []

    def call(self, method: str, parameters: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """Return what the browser answers to a command about this tab."""
        return self._chromium.call(method, parameters, self._session, **options)

    def heard(self, event: str, about: dict[str, Any]) -> None:
        """Note an event, if it is a problem."""
        if event == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif event == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.problems.append(about["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and about["type"] in {"error", "assert"}:
            said = [one.get("description", one.get("value")) for one in about["args"]]
            self.problems.append(" ".join(map(str, said)))

    def evaluate(self, expression: str, *, deadline: float = DEADLINE) -> Any:
        """Return the value of an expression of JavaScript; a promise is waited for."""
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        found = self.call("Runtime.evaluate", asked, deadline=deadline)
        if details := found.get("exceptionDetails"):
            raise ChromiumError(details.get("exception", {}).get("description") or details["text"])
        return found["result"].get("value")

    def wait(self, condition: str, *, deadline: float = DEADLINE) -> Any:
        """Wait until an expression is true, and return its value."""
        look = (
            f"new Promise((done) => {{ const look = () => {{ const found = ({condition});"
            " if (found) done(found instanceof Node ? true : found); else setTimeout(look, 20); }; look(); })"
        )
        try:
            return self._evaluate_again(look, deadline)
        except ChromiumError as error:
            text = self.evaluate("document.body?.innerText") if "in time" in str(error) else ""
            raise ChromiumError(f"{condition}: {error}; problems: {self.problems}; the page shows:\n{text}") from error

    def _evaluate_again(self, expression: str, deadline: float) -> Any:
        """Evaluate, and once more in the next page if the present one goes meanwhile."""
        until = time.monotonic() + deadline
        while True:
            try:
                return self.evaluate(expression, deadline=max(0.0, until - time.monotonic()))
            except ChromiumError as error:
                if "navigated" not in str(error):
                    raise

    def click(self, selector: str) -> None:
        """Wait for an element, and click it."""
        self.wait(f"document.querySelector({json.dumps(selector)})")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def fill(self, selector: str, value: str) -> None:
        """Wait for a field, and put a value into it as typing does."""
        self.wait(f"document.querySelector({json.dumps(selector)})")
        self.evaluate(
            f"{{ const field = document.querySelector({json.dumps(selector)}); field.focus(); field.value = {json.dumps(value)};"
            " for (const event of ['input', 'change']) field.dispatchEvent(new Event(event, { bubbles: true })); }"
        )

    def press(self, key: str) -> None:
        """Press a key: Tab, Enter, ArrowRight, or a character."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        what = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0])), "text": text}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown" if text else "rawKeyDown", **what})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **what})

    def text(self, selector: str = "body") -> str:
        """Return what a reader sees of an element; empty when it is not there."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """Write a picture (PNG) of what is visible, or of the whole page."""
        taken = self.call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        file.write_bytes(base64.b64decode(taken["data"]))
