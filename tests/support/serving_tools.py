"""A real server process for the tests of ``reason serve``, and a raw socket to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

COUNTDOWN = "Use 3, 10, 21 and 23 to make 50"
HARD = "Use 12, 87, 45, 66 and 98 to make 13"
LONG = {"model": "reason-5m/self-consistency", "temperature": 1.0, "x_reason": {"n": 500}}
"""A run that takes a minute or more, if nobody stops it."""


class Server:
    """``reason serve`` in a process of its own, on a free port."""

    def __init__(self, *arguments: str, module: str = "reasoning") -> None:
        python = os.environ.get("REASON_TEST_PYTHON", sys.executable)  # tests may have another one
        command = [python, "-m", module, "serve", "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        self.log = ""
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._listening.wait()
        found = re.search(r"listening on (http://\S+)", self.log)
        if found is None:
            self.stop()
            raise AssertionError(f"the server did not start: {self.log}")
        self.url = found[1]
        self.address = (httpx.URL(self.url).host, int(httpx.URL(self.url).port or 0))

    def _read(self) -> None:
        """Keep what it prints, so that it never waits for a reader."""
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.log += line
                if "listening on" in line:
                    self._listening.set()
        self._listening.set()

    def stop(self, how: int = signal.SIGTERM, within: float = 60) -> int:
        """Signal it and wait for its end; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(within)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's values with these labels."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name:
                given = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
                if labels.items() <= given.items():
                    total += float(found[3])
        return total

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=60)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=60, **more)


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    """A server while the block runs; it must then stop by itself, without a traceback."""
    server = Server(*arguments)
    try:
        yield server
    finally:
        server.stop()
    assert "Traceback" not in server.log, server.log


@contextlib.contextmanager
def raw_post(
    server: Server, path: str, body: Any, key: str | None = None
) -> Iterator[socket.socket]:
    """A POST over a plain socket, which the block may break off."""
    payload = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\n"
        + (f"Authorization: Bearer {key}\r\n" if key else "")
        + "\r\n"
    )
    with socket.create_connection(server.address, timeout=30) as connection:
        connection.sendall(head.encode() + payload)
        yield connection


def eventually(check: Callable[[], bool], within: float = 60.0) -> float:
    """Wait until ``check`` holds; the seconds that it took."""
    started = time.monotonic()
    while not check():
        assert time.monotonic() - started < within, "it did not happen"
        time.sleep(0.02)
    return time.monotonic() - started


def chat(text: str = COUNTDOWN, model: str = "reason-5m/apr", **more: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}
