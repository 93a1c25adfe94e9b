"""Whoever reads generations in tests, as a run does: what is read is appended to the segment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from reasoning.backends.base import Generation, Token
from reasoning.engine.engine import Engine
from reasoning.engine.threads import SampledToken, ThreadFailure
from reasoning.values.context import Segment
from reasoning.values.sampling import Sampling


async def reading(generation: Generation, segment: Segment) -> AsyncIterator[Token]:
    """The tokens of a generation, each appended to the segment that it writes to."""
    async for token in generation.tokens():
        segment.tokens.append(token.token)
        yield token


class ReadEngine(Engine):
    """An engine of which every token is read at once."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.written: dict[int, Segment] = {}

    def open(self, segment: Segment, sampling: Sampling, **options: Any) -> int:
        id = super().open(segment, sampling, **options)
        self.written[id] = segment
        return id

    def extend(self, id: int, tokens: Sequence[int]) -> None:
        super().extend(id, tokens)
        self.written[id].tokens += tokens

    def resume(self, id: int, segment: Segment) -> None:
        super().resume(id, segment)
        self.written[id] = segment

    def step(self) -> list[SampledToken | ThreadFailure]:
        found = super().step()
        for item in found:
            if isinstance(item, SampledToken):
                self.written[item.thread].tokens.append(item.token)
        return found

    def close(self, id: int, read: int | None = None) -> None:
        super().close(id, read)
        self.written.pop(id, None)
