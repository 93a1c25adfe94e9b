"""A backend as what a worker generates threads with."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from protocol import GeneratedToken, ModelOffer, ThreadStart
from reasoning.backends.base import Backend, Generation
from reasoning.errors import BackendLost
from reasoning.values.context import Context, Segment
from reasoning.values.sampling import Sampling

WHOLE = 64 << 20
"""Bytes up to which a file of weights is hashed as a whole."""

PROMPTS = 16


class HostedThread:
    """A thread of a worker; see `protocol.ThreadRun`."""

    def __init__(self, generation: Generation, segment: Segment) -> None:
        self._generation = generation
        self._segment = segment

    async def tokens(self) -> AsyncIterator[GeneratedToken]:
        async for token, logprob, reason, *_ in self._generation.tokens():
            self._segment.tokens.append(token)
            if reason == "lost":
                raise BackendLost("the worker's backend lost the thread; see its log")
            yield GeneratedToken(token, logprob, reason)

    def extend(self, tokens: Sequence[int]) -> None:
        self._generation.extend(tokens)
        self._segment.tokens += tokens

    def close(self) -> None:
        self._generation.close()


class BackendHost:
    """A model on an open backend; threads with the same prompt share what is computed for it.

    Attributes:
        offer: What the worker tells the hub of it.
    """

    def __init__(self, backend: Backend, offer: ModelOffer) -> None:
        self.offer = offer
        self._backend = backend
        self._prompts: OrderedDict[tuple[int, ...], Context] = OrderedDict()

    def open(self, start: ThreadStart) -> HostedThread:
        context = self._prompts.pop(start.prompt, None) or Context.given(start.prompt)
        self._prompts[start.prompt] = context
        if len(self._prompts) > PROMPTS:
            self._prompts.popitem(last=False)
        segment = Segment(context)
        drawing = {} if start.drawing is None else start.drawing.model_dump(exclude_none=True)
        generation = self._backend.open(
            segment,
            Sampling(temperature=start.temperature, seed=start.seed, **drawing),
            stop=start.stop,
            limit=start.limit,
        )
        return HostedThread(generation, segment)


def fingerprint(folder: Path) -> str:
    """Names a model's configuration and weights; of large files, their size, head and tail."""
    digest = hashlib.sha256()
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= WHOLE:
                digest.update(file.read())
            else:
                digest.update(file.read(1 << 20))
                file.seek(-(1 << 20), 2)
                digest.update(file.read())
    return digest.hexdigest()[:16]
