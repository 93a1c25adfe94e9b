"""A device's tools for plans whose process is killed: each call leaves a line in a file."""

from __future__ import annotations

import os

import anyio

from protocol import Registry

registry = Registry()


@registry.tool
async def noted(name: str, seconds: float = 0.0) -> str:
    """Note a name, and wait."""
    log = os.open(os.environ["PLANNED_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(log, f"{name}\n".encode())
    os.close(log)
    await anyio.sleep(seconds)
    return name.upper()
