"""vLLM's own server as a process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

STARTS_S = 900
"""How long a server may take to start, on a machine that has much else to do."""
COMMAND = str(Path(sys.executable).with_name("vllm"))
AS_MODULE = (sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model")
NOTHING: Mapping[str, str] = {}


class ServerProcess(NamedTuple):
    """A server that answers."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@contextmanager
def started(
    command: Sequence[str], log: Path, environment: Mapping[str, str] = NOTHING
) -> Iterator[ServerProcess]:
    """The server that a command starts, on a free port, once it is healthy."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Tests have the engine in their own process; a server has it in another.
    stock = {k: v for k, v in os.environ.items() if k != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=out,
            stderr=out,
            env=stock | dict(environment),
        )
    try:
        _wait(process, port, log)
        yield ServerProcess(port, process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(STARTS_S):
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
        except OSError:
            time.sleep(1)
        else:
            return
    raise TimeoutError(log.read_text()[-2000:])
