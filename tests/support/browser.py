"""Chromium without a window, told what to do over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

PATIENCE_S = 60.0
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")


class Browser:
    """One tab.

    Attributes:
        fetched: The addresses of all that pages asked for, themselves aside.
        faults: What pages logged as errors, or threw.
    """

    def __init__(self, socket: ClientConnection, session: str) -> None:
        self._socket = socket
        self._session = session
        self._number = 0
        self.fetched: list[str] = []
        self.faults: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Do something, and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps({**message, "sessionId": self._session}))
        while (reply := self._next()).get("id") != self._number:
            pass
        assert "error" not in reply, reply
        found: dict[str, Any] = reply["result"]
        return found

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=PATIENCE_S))
        told = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent" if told["type"] != "Document":
                self.fetched.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                self.faults.append(json.dumps(told["exceptionDetails"]))
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.faults.append(told["entry"]["text"])
        return message

    def open(self, page: Path, fragment: str = "") -> None:
        """Show a page, and wait until it has loaded."""
        self.visit(page.as_uri() + fragment)

    def visit(self, address: str) -> None:
        """Show what is at an address, and wait until it has loaded."""
        self.call("Page.navigate", url="about:blank")  # so that a new fragment loads it anew
        self.call("Page.navigate", url=address)
        self.run("new Promise(go => document.readyState === 'complete' ? go() : onload = go)")

    def run(self, script: str) -> Any:
        """The value of an expression, which is waited for if it is a promise."""
        done = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        code = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38}.get(key, 0)
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Have a screen of this size, with a light or a dark theme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])

    def picture(self, target: Path) -> None:
        """Write what is seen as a PNG."""
        target.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A tab of a browser, which is ended at the end; skips the test where there is none."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium")
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = next(one for one in process.stderr if "DevTools listening on" in one)
        with connect(line.split()[-1], max_size=None, open_timeout=PATIENCE_S) as socket:
            yield Browser(socket, _session(socket))
    finally:
        process.kill()
        process.communicate()


def _session(socket: ClientConnection) -> str:
    """A session with the first tab."""

    def call(number: int, method: str, **parameters: Any) -> Any:
        socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (reply := json.loads(socket.recv(timeout=PATIENCE_S))).get("id") != number:
            pass
        return reply["result"]

    tabs = call(-1, "Target.getTargets")["targetInfos"]
    tab = next(one["targetId"] for one in tabs if one["type"] == "page")
    return str(call(-2, "Target.attachToTarget", targetId=tab, flatten=True)["sessionId"])
