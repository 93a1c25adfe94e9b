"""Runs ``reason`` as processes of their own, and ends them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class Shell:
    """Runs ``reason`` with a state folder of its own, and ends what it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"XDG_STATE_HOME": str(folder), "OMP_NUM_THREADS": "1"}
        self.environment.pop("REASON_TOKEN", None)
        self.running: list[subprocess.Popen[str]] = []

    def start(
        self,
        *arguments: str,
        descriptors: int = 0,
        module: str = "reasoning",
        under: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """Start a command, with so many file descriptors, or as an argument of another command."""
        if descriptors:
            under = ("sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh")
        process = subprocess.Popen(
            [*under, sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        self.running.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str, str]:
        out, err = (process := self.start(*arguments)).communicate(timeout=300)
        return process.returncode, out.strip(), err.strip()

    def token(self, name: str, *options: str) -> str:
        code, token, err = self.run("token", "create", name, *options)
        assert code == 0, err
        (path := self.folder / f"{name}.token").write_text(token)
        return str(path)

    def hub(self, *options: str, descriptors: int = 0) -> tuple[subprocess.Popen[str], str]:
        process = self.start("hub", "--port", "0", *options, descriptors=descriptors)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()


@contextmanager
def running_shell(folder: Path) -> Iterator[Shell]:
    """A shell whose processes are killed at the end."""
    shell = Shell(folder)
    try:
        yield shell
    finally:
        for process in shell.running:
            process.kill()
            process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a process writes to stderr."""
    assert process.stderr is not None
    return process.stderr.readline().strip()
