"""A backend of one's own over anything that takes text and gives text."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from reasoning.backends.base import Token
from reasoning.backends.prompted import PromptedBackend, PromptedGeneration
from reasoning.backends.text_tokens import END, TextDialect, chat_messages, text_token
from reasoning.errors import BackendLost
from reasoning.values.sampling import Sampling, StopReason

CLOSE_S = 5.0
"""How long a writer that is cancelled may take to clean up."""


class TextBackend(PromptedBackend):
    """Threads of text: a subclass says in `write` how one answer is generated::

        class Echo(TextBackend):
            async def write(self, messages, sampling, *, most):
                for word in messages[-1]["content"].split():
                    yield word + " "

    Clients that must be opened and closed go into `start` and `stop`.  A subclass that can hold an
    answer to a form says so in ``capabilities`` (``structured-output``, ``json-schema``) and reads
    ``sampling.constraint``.

    Attributes:
        name: The model's name, in reports.
        context: The most tokens that a thread may see and write; given text counts four characters
            a token, generated text what `write` yields at once.
        dialect: How the model is spoken to.
    """

    def __init__(self, *, name: str | None = None, context: int = 8192) -> None:
        self.name = name or type(self).__name__
        self.dialect = TextDialect()
        super().__init__(context=context, eos={END})

    @abstractmethod
    def write(
        self, messages: list[dict[str, Any]], sampling: Sampling, *, most: int
    ) -> AsyncIterator[str]:
        """Generate one answer, as an async generator of its text, in pieces of any size.

        It is cancelled when the thread is stopped; what it opened, it closes in ``finally``.

        Args:
            messages: The chat so far, as OpenAI's: ``{"role": "user", "content": ...}`` and so on.
                Where the last one is the assistant's, the answer goes on from there.
            sampling: Temperature, seed and more; the same seed should give the same text.
            most: About how many tokens it may write; after so many pieces it is stopped.

        Raises:
            BackendLost: the request failed; the run goes on with its other threads.  Any other
                exception ends the run.
        """

    async def start(self) -> None:
        """Open what `write` needs; nothing by default."""

    async def stop(self) -> None:
        """Close it, however far it was opened."""

    async def request(
        self, generation: PromptedGeneration, prompt: list[int]
    ) -> AsyncGenerator[Token, None]:
        messages = chat_messages(prompt)
        most = generation.bounded(generation.limit - len(prompt))
        pieces = self.write(messages, generation.sampling, most=most)
        send, receive = anyio.create_memory_object_stream[str | Exception](0)
        scope = anyio.CancelScope()
        self._tasks.start_soon(_forward, pieces, send, scope)
        self.running[generation] = partial(_cancel, scope)
        written = 0
        try:
            async with receive:
                async for piece in receive:
                    if isinstance(piece, Exception):
                        raise piece
                    written += 1
                    reason: StopReason | None = "length" if written == most else None
                    yield Token(text_token(piece), math.nan, reason)
        finally:
            self.running.pop(generation, None)
            scope.cancel()
        if not generation.closed and written < most:
            yield Token(END, math.nan, "stop")

    async def recover(
        self, generation: PromptedGeneration, error: BackendLost, failures: int
    ) -> bool:
        """A lost answer is not asked for again; `write` may do that itself."""
        return False


async def _forward(
    pieces: AsyncIterator[str],
    send: MemoryObjectSendStream[str | Exception],
    scope: anyio.CancelScope,
) -> None:
    """Run a writer in a task of its own, so that it can be cancelled while nobody reads."""
    with scope, suppress(anyio.BrokenResourceError):  # whoever read it has left
        async with send, _closing(pieces):
            try:
                async for piece in pieces:
                    if piece:
                        await send.send(piece)
            except Exception as error:
                await send.send(error)


@asynccontextmanager
async def _closing(pieces: AsyncIterator[str]) -> AsyncIterator[None]:
    """Let an async generator run its ``finally``, for a while, however it is left."""
    try:
        yield
    finally:
        if isinstance(pieces, AsyncGenerator):
            with anyio.move_on_after(CLOSE_S, shield=True):
                await pieces.aclose()


async def _cancel(scope: anyio.CancelScope) -> None:
    scope.cancel()
