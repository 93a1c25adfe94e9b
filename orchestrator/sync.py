"""Asynchronous functions for code without an event loop, notebooks included."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.from_thread

T = TypeVar("T")


def run_sync(function: Callable[[], Awaitable[T]]) -> T:
    """The result of ``function()``, on an event loop of its own.

    Where a loop runs already, as in a notebook's cell, the new one runs in a thread meanwhile.
    """
    if not _in_a_loop():  # what fails in it fails outside of any other handler
        return anyio.run(function)
    with anyio.from_thread.start_blocking_portal() as portal:
        return portal.call(function)


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
