"""A backend as what a worker generates threads with."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import takewhile
from pathlib import Path

from orchestrator.errors import InvalidValue
from protocol import GeneratedToken, ModelOffer, ThreadStart
from protocol.wire.messages import SegmentSight
from reasoning.backends.base import Backend, Generation
from reasoning.errors import BackendLost
from reasoning.values.context import Context, Placed, Segment
from reasoning.values.sampling import Sampling

WHOLE = 64 << 20
"""Bytes up to which a file of weights is hashed as a whole."""

KEPT_TOKENS = 8192
"""Of prompts and of threads that have ended, whose keys and values others may want."""


class HostedThread:
    """A thread of a worker; see `protocol.ThreadRun`."""

    def __init__(self, generation: Generation, segment: Segment) -> None:
        self._generation = generation
        self.segment = segment
        self._written = 0
        self._until: int | None = None
        self._stopped = False
        self.closed = False

    @property
    def steady(self) -> int:
        """How many of its first tokens whoever sees them can have computed, and change no more."""
        held = self._until is not None and self._written >= self._until
        still = self.closed or self._stopped or held
        return len(self.segment) - (0 if still else 1)

    async def tokens(self) -> AsyncIterator[GeneratedToken]:
        async for token, logprob, reason, confidence in self._generation.tokens():
            self.segment.tokens.append(token)
            if reason == "lost":
                raise BackendLost("the worker's backend lost the thread; see its log")
            self._written += 1
            self._stopped = reason is not None
            yield GeneratedToken(token, logprob, reason, confidence)

    def extend(self, tokens: Sequence[int]) -> None:
        self._stopped = False
        self._generation.extend(tokens)
        self.segment.tokens += tokens

    def hold(self, until: int | None) -> None:
        self._until = until
        self._generation.hold(until)

    def close(self) -> None:
        self.closed = True
        self._generation.close()


class HostedScore:
    """Reads given tokens for a hub, and tells them as a thread that writes them would."""

    def __init__(self, backend: Backend, segment: Segment) -> None:
        self._backend = backend
        self._segment = segment

    async def tokens(self) -> AsyncIterator[GeneratedToken]:
        logprobs = await self._backend.score(self._segment)
        last = len(logprobs) - 1
        for place, (token, one) in enumerate(zip(self._segment.tokens, logprobs, strict=True)):
            yield GeneratedToken(token, one, "stop" if place == last else None)

    def extend(self, tokens: Sequence[int]) -> None:
        raise InvalidValue("tokens that are read can't be extended; begin a thread")

    def hold(self, until: int | None) -> None:
        """It is over in one go."""

    def close(self) -> None:
        """It is over in one go."""


class BackendHost:
    """A model on an open backend.

    Threads share what is computed: those with the same prompt, one whose prompt begins as another's
    text does, such as a probe of it, and a join its branches.  What is shared is what stands in the
    same place; the latest `KEPT_TOKENS` of what has ended are kept for that.

    Attributes:
        offer: What the worker tells the hub of it.
    """

    def __init__(self, backend: Backend, offer: ModelOffer) -> None:
        self.offer = offer
        self._backend = backend
        self._running: list[HostedThread] = []
        self._kept: deque[Segment] = deque()

    def open(self, start: ThreadStart) -> HostedThread | HostedScore:
        segment = self._begun(start)
        if start.score is not None:
            return HostedScore(self._backend, segment)
        drawing = {} if start.drawing is None else start.drawing.model_dump(exclude_none=True)
        sampling = Sampling(
            temperature=start.temperature,
            seed=start.seed,
            confidence=start.confidence or 0,
            **drawing,
        )
        generation = self._backend.open(segment, sampling, stop=start.stop, limit=start.limit)
        thread = HostedThread(generation, segment)
        self._running.append(thread)
        return thread

    def _begun(self, start: ThreadStart) -> Segment:
        """What a thread writes to, in its context, or the tokens that are to be read there."""
        self._retire()
        if start.context is None:
            cut = len(start.prompt) - (start.own or 0)
            return Segment(self._given(start.prompt[:cut]), start.score or start.prompt[cut:])
        built: list[tuple[Segment, int]] = []
        partly = start.score is None and len(start.prompt) > 0
        for one in start.context.segments:
            context = Context(entries=_placed(built, one.sees), position=one.home)
            segment, count = self._like(context, one.path, one.tokens)
            if count < len(one.tokens) or not (partly or count == len(segment)):
                segment, count = self._keep(context, one.tokens, one.path), len(one.tokens)
            built.append((segment, count))
        context = Context(
            entries=_placed(built, start.context.sees), position=start.context.position
        )
        return Segment(context, start.score or start.prompt, path=start.context.path)

    def _given(self, prompt: tuple[int, ...]) -> Context:
        """A prompt as a context, computed once for all threads that have it.

        One that begins as another does is computed by itself: sums are added in the same order then
        as where it stands alone, so that all is the same to the last digit.
        """
        segment, count = self._like(Context(), 0, prompt)
        if not count == len(prompt) == len(segment):
            segment = self._keep(Context(), prompt, 0)
        return Context(entries=(Placed(segment, upto=len(prompt)),), position=len(prompt))

    def _like(self, context: Context, path: int, tokens: tuple[int, ...]) -> tuple[Segment, int]:
        """What stands in a context already, and how many first tokens of it are these."""
        steady = [(one.segment, one.steady) for one in self._running]
        steady += [(one, len(one)) for one in self._kept]
        best, most = Segment(context), 0
        for segment, count in steady:
            alike = (segment.home, segment.path) == (context.position, path)
            if alike and segment.context.entries == context.entries:
                pairs = zip(segment.tokens[: max(0, count)], tokens, strict=False)
                common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
                if common > most:
                    best, most = segment, common
        return best, most

    def _keep(self, context: Context, tokens: Sequence[int], path: int) -> Segment:
        segment = Segment(context, tokens, path=path)
        self._kept.append(segment)
        return segment

    def _retire(self) -> None:
        """Let what has ended be kept only as long as there is not too much of it."""
        self._kept += [one.segment for one in self._running if one.closed and one.segment.tokens]
        self._running = [one for one in self._running if not one.closed]
        tokens = sum(map(len, self._kept))
        while tokens > KEPT_TOKENS:
            tokens -= len(self._kept.popleft())


def _placed(
    built: Sequence[tuple[Segment, int]], sees: Sequence[SegmentSight]
) -> tuple[Placed, ...]:
    """Segments in a context, each as far as it is seen."""
    return tuple(
        Placed(
            built[one.segment][0],
            shift=one.shift,
            upto=built[one.segment][1] if one.upto is None else one.upto,
        )
        for one in sees
    )


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
