"""A headless Chromium for tests, spoken to through its DevTools pipe with the standard library alone.

A driver (playwright, selenium) would be a large extra for what takes a page here.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe", "about:blank")
# what the browser reads and writes must be its file descriptors 3 and 4
START = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"


def find() -> str | None:
    """The browser on this machine."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def high_pipe() -> tuple[int, int]:
    """A pipe whose ends are above 10, out of the way of 3 and 4."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return high


class Browser:
    """One tab. `errors` holds what its console complained of, violations of the page's security policy among it."""

    def __init__(self, program: str, seconds: float = 90.0) -> None:
        self.seconds, self.errors, self.heard, self.count, self.session = seconds, [], b"", 0, None
        self.home = tempfile.mkdtemp(prefix="rlseq-browser-")
        (theirs, self.writer), (self.reader, answers) = high_pipe(), high_pipe()
        command = [sys.executable, "-c", START, str(theirs), str(answers), program, *FLAGS, f"--user-data-dir={self.home}"]
        self.process = subprocess.Popen(command, pass_fds=(theirs, answers), stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        os.close(theirs)
        os.close(answers)
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        os.close(self.reader)
        os.close(self.writer)
        shutil.rmtree(self.home, ignore_errors=True)

    def ask(self, method: str, **parameters: object) -> dict[str, object]:
        """One command and its answer; events that come before it are kept or noted."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == self.count:
                assert "error" not in found, (method, found["error"])
                return found["result"]

    def _message(self) -> dict[str, object]:
        end = time.monotonic() + self.seconds
        while b"\0" not in self.heard:
            ready, _, _ = select.select([self.reader], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"the browser said nothing for {self.seconds} s"
            part = os.read(self.reader, 2**20)
            assert part, "the browser went away"
            self.heard += part
        first, self.heard = self.heard.split(b"\0", 1)
        found = json.loads(first)
        self._note(found)
        return found

    def _note(self, event: dict[str, object]) -> None:
        """Keep what is an error; requests to the network are one, for pages here need none."""
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(told["args"])[:500])
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not told["request"]["url"].startswith(("file:", "data:", "about:")):
            self.errors.append("asks for " + told["request"]["url"])

    def open(self, path: Path, fragment: str = "", width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file as a reader of that width and taste would."""
        self.errors = []
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        taste = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[taste])
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=path.as_uri() + fragment)
        end = time.monotonic() + self.seconds
        while self.run("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < end, f"{path} did not load within {self.seconds} s"
            time.sleep(0.02)

    def run(self, script: str) -> object:
        """The value of a JavaScript expression, as JSON can hold it; a promise is awaited."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key of the keyboard, such as Tab (9)."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                     **({"text": text} if text and kind == "keyDown" else {}))

    def picture(self, path: Path) -> None:
        """The whole page as a png."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
