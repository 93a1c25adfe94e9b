"""Cancellations that a function asked for: they are its own affair, and hit nobody else."""

from __future__ import annotations

import asyncio

import anyio


async def absorb_cancellation() -> None:
    """Take what a function left to the asyncio task that ran it, and what it would hit next.

    Raises:
        CancelledError: the run itself is cancelled.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        if anyio.current_effective_deadline() < 0:
            raise
        forget_cancellation()


def forget_cancellation() -> None:
    """Undo what a function did that cancelled the asyncio task which runs it."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
