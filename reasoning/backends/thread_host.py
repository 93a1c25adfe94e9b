"""A backend as what a worker generates threads with."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from itertools import takewhile
from operator import itemgetter
from pathlib import Path

from protocol import GeneratedToken, ModelOffer, ThreadStart
from reasoning.backends.base import Backend, Generation
from reasoning.errors import BackendLost
from reasoning.values.context import Context, Placed, Segment
from reasoning.values.sampling import Sampling

WHOLE = 64 << 20
"""Bytes up to which a file of weights is hashed as a whole."""

PROMPTS = 16


class HostedThread:
    """A thread of a worker; see `protocol.ThreadRun`."""

    def __init__(self, generation: Generation, segment: Segment, prompt: tuple[int, ...]) -> None:
        self._generation = generation
        self._segment = segment
        self._prompt = prompt
        self.closed = False

    def shared(self, prompt: tuple[int, ...]) -> tuple[int, Context]:
        """How many tokens it has in common with a prompt, and the context of these.

        Its own last token may not be computed yet, and the prompt's last one has to be.
        """
        start = len(self._prompt)
        if prompt[:start] != self._prompt:
            return 0, Context()
        segment, rest = self._segment, prompt[start:-1]
        own = zip(segment.tokens[:-1], rest, strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], own))
        entries = (*segment.context.entries, Placed(segment, upto=common))
        return start + common, Context(entries=entries, position=segment.home + common)

    async def tokens(self) -> AsyncIterator[GeneratedToken]:
        async for token, logprob, reason, confidence in self._generation.tokens():
            self._segment.tokens.append(token)
            if reason == "lost":
                raise BackendLost("the worker's backend lost the thread; see its log")
            yield GeneratedToken(token, logprob, reason, confidence)

    def extend(self, tokens: Sequence[int]) -> None:
        self._generation.extend(tokens)
        self._segment.tokens += tokens

    def hold(self, until: int | None) -> None:
        self._generation.hold(until)

    def close(self) -> None:
        self.closed = True
        self._generation.close()


class BackendHost:
    """A model on an open backend.

    Threads with the same prompt share what is computed for it, and one whose prompt begins as a
    running thread's text does, such as a probe of it, what that has computed.

    Attributes:
        offer: What the worker tells the hub of it.
    """

    def __init__(self, backend: Backend, offer: ModelOffer) -> None:
        self.offer = offer
        self._backend = backend
        self._prompts: OrderedDict[tuple[int, ...], Context] = OrderedDict()
        self._running: set[HostedThread] = set()

    def open(self, start: ThreadStart) -> HostedThread:
        segment = Segment(self._context(start.prompt))
        drawing = {} if start.drawing is None else start.drawing.model_dump(exclude_none=True)
        generation = self._backend.open(
            segment,
            Sampling(
                temperature=start.temperature,
                seed=start.seed,
                confidence=start.confidence or 0,
                **drawing,
            ),
            stop=start.stop,
            limit=start.limit,
        )
        thread = HostedThread(generation, segment, start.prompt)
        self._running.add(thread)
        return thread

    def _context(self, prompt: tuple[int, ...]) -> Context:
        """A prompt as a context, of which as much as possible is computed already."""
        context = self._prompts.pop(prompt, None)
        if context is None:
            self._running = {thread for thread in self._running if not thread.closed}
            shares = (thread.shared(prompt) for thread in self._running)
            known, shared = max(shares, key=itemgetter(0), default=(0, Context()))
            if known:
                return shared.then(prompt[known:])
            context = Context.given(prompt)
        self._prompts[prompt] = context
        if len(self._prompts) > PROMPTS:
            self._prompts.popitem(last=False)
        return context


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
