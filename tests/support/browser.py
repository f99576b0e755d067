"""A real browser for the tests: Chromium without a window, spoken to over a pipe in its own protocol.

The DevTools protocol needs no package: messages are JSON, each with a zero byte behind it, on the file descriptors 3
and 4 (``--remote-debugging-pipe``).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_SECONDS = 60.0  # only so that what hangs ends
# Puts the ends of two pipes where the browser looks for them, whatever numbers they have.
_PLACE = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]]
for place, end in zip((3, 4), ends):
    os.dup2(end, place, inheritable=True)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A page of a browser, and all that it complained of.

    Attributes:
        complaints: Errors and warnings of the console, and exceptions that no script caught.
    """

    def __init__(self, process: subprocess.Popen[bytes], send: int, receive: int) -> None:
        self._process, self._send, self._receive = process, send, receive
        self._begun, self._number, self._session = b"", 0, ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol.

        Raises:
            RuntimeError: The browser refuses.
            TimeoutError: It does not answer.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._send, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + _SECONDS
        while (answer := self._next(until)).get("id") != self._number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def open(self, path: Path) -> None:
        """Open a file, and wait until its script has run."""
        self.ask("Page.navigate", url=path.absolute().as_uri())
        self.wait("document.documentElement?.dataset.ready === 'yes'")

    def run(self, code: str) -> Any:
        """The value of an expression on the page.

        Raises:
            RuntimeError: It raised an error.
        """
        found = self.ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{code}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, code: str) -> None:
        """Wait until an expression is true.

        Raises:
            TimeoutError: It does not become so.
        """
        until = time.monotonic() + _SECONDS
        while not self.run(code):
            if time.monotonic() > until:
                raise TimeoutError(f"{code} is not true; complaints: {self.complaints}")
            time.sleep(0.05)

    def size(self, width: int, height: int, *, is_phone: bool = False) -> None:
        """Give the page so many pixels."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone)

    def prefer(self, scheme: str) -> None:
        """Let the system prefer ``"light"`` or ``"dark"``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", features=features)

    def press(self, key: str) -> None:
        """Press a key, such as ``"Tab"``, or type a character."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        more = {"text": text} if text else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=codes.get(key, 0), **more)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=codes.get(key, 0))

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen as a PNG, or the whole page."""
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._begun:
            if not select.select([self._receive], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(f"the browser does not answer; complaints: {self.complaints[-3:]}")
            read = os.read(self._receive, 2**20)
            if not read:
                raise RuntimeError(f"the browser has ended with exit code {self._process.wait(5)}")
            self._begun += read
        if time.monotonic() > until:
            raise TimeoutError(f"the browser says other things than the answer: {self._begun[:200]!r}")
        message, _, self._begun = self._begun.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        self._note(told)
        return told

    def _note(self, told: dict[str, Any]) -> None:
        params = told.get("params", {})
        if told.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif told.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif told.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(one.get("value")) for one in params["args"]))
        elif told.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own below a folder."""
    assert CHROMIUM is not None
    to_read, to_write = os.pipe(), os.pipe()
    command = [
        CHROMIUM, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "--no-sandbox",
        "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "about:blank",
    ]  # fmt: skip

    process = subprocess.Popen(
        [sys.executable, "-S", "-c", _PLACE, str(to_read[0]), str(to_write[1]), *command],
        pass_fds=(to_read[0], to_write[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_read[0])
    os.close(to_write[1])
    try:
        yield Browser(process, to_read[1], to_write[0])
    finally:
        process.kill()
        process.wait()
        os.close(to_read[1])
        os.close(to_write[0])
