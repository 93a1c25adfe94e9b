"""What backends share that generate from a prompt: vLLM in process, and servers over HTTP.

A thread on such a backend is a run of requests: each is given all tokens that the thread sees, and
a stopped thread goes on by another request with more of them.  The server's prefix cache makes that
cheap; where it does not, that is counted and said.
"""

from __future__ import annotations

import logging
import zlib
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary, WeakSet

import anyio

from orchestrator.errors import InvalidValue, ReasonError
from reasoning.backends import requirements
from reasoning.backends.base import Backend, Generation, Token
from reasoning.errors import BackendLost, CapabilityMissing
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.sampling import Sampling

logger = logging.getLogger(__name__)


class PromptedGeneration(Generation):
    """One thread: prompts one after the other, each what the thread has seen and written so far.

    Attributes:
        segment: What it writes to.
        turn: How many times it has been asked to go on.
        repeats: How many of its last tokens the next request has to write once more, where nobody
            can go on from them.
        loss: Why these were lost.
    """

    def __init__(
        self,
        backend: PromptedBackend,
        segment: Segment,
        sampling: Sampling,
        *,
        stop: frozenset[int],
        limit: int,
        refused: ReasonError | None,
    ) -> None:
        self._backend = backend
        self._sampling = sampling
        self._refused = refused
        self._stopped = False
        self._known = 0
        self._written = 0
        self._guess = 0
        self.segment = segment
        self.stop = stop
        self.limit = limit
        self.turn = 0
        self.repeats = 0
        self.loss = ""
        self.closed = False

    @property
    def prompt(self) -> list[int]:
        """All that it sees now."""
        return self.segment.context.tokens + self.segment.tokens

    @property
    def sampling(self) -> Sampling:
        """How the present turn's tokens are drawn; each turn has a seed of its own."""
        base = self._sampling
        seed = zlib.crc32(f"{base.seed}/{self.turn}".encode()) if self.turn else base.seed
        return replace(base, seed=seed)

    async def tokens(self) -> AsyncGenerator[Token, None]:
        if self._refused is not None:
            raise self._refused
        if not self.prompt:
            raise InvalidValue("the prompt is empty; give at least one token")
        if not self._fits(0):
            raise InvalidValue(
                f"the prompt has {len(self.prompt)} tokens and the context is {self.limit}; "
                "shorten it or raise --max-tokens"
            )
        self._known = max(self._known, self._backend.meet_prefix(self.segment.context))
        failures = 0
        while self._fits(0):
            written = len(self.segment)
            lost: BackendLost
            try:
                async with aclosing(self._requested()) as stream:
                    async for token in stream:
                        yield token
                        if token.reason is not None:
                            return
                lost = BackendLost("the answer ended without a reason; see the server's log")
            except BackendLost as error:
                lost = error
            failures += 1
            begun = len(self.segment) > written
            if self.closed or not await self._backend.recover(self, lost, failures):
                raise lost
            if begun and not self.repeats:  # what goes on draws other tokens than what was lost
                self.turn += 1

    async def _requested(self) -> AsyncGenerator[Token, None]:
        """The tokens of one request."""
        prompt = self.prompt
        self.prompted += len(prompt)
        self._guess = len(prompt)
        ends = self.stop | self._backend.eos
        async with aclosing(self._backend.request(self, prompt)) as stream:
            async for token in stream:
                if token.reason is None and token.token in ends:
                    token = token._replace(reason="stop")
                self._stopped = token.token in self.stop
                self._written += 1
                self.repeats = 0
                if token.reason is not None:
                    self._backend.live.discard(self.segment)
                    yield token
                    return
                yield token

    def discard(self, count: int) -> None:
        """Note tokens that were written once too often."""
        self.discarded += count

    def found_prompt(self, count: int) -> None:
        """Note how many tokens the present prompt has by the server's count."""
        self._backend.counts[self.segment.context] = (self._guess, count)
        self._correct_guess(count)

    def _correct_guess(self, count: int) -> None:
        self.prompted += count - self._guess
        self._guess = 0

    def found_cached(self, count: int) -> None:
        """Note how many of the present prompt's tokens the server had in its cache."""
        self.cached = (self.cached or 0) + count
        length = len(self.prompt)
        self._backend.count_refilled(length, min(self._known, length - 1), count)
        self._known = max(self._known, length)

    def stop_here(self) -> None:
        self._stopped = True
        self._backend.live.discard(self.segment)

    def extend(self, tokens: Sequence[int]) -> None:
        self._go_on(self._fits(len(tokens)))
        self._backend.live.add(self.segment)

    def resume(self, segment: Segment) -> None:
        error = self._backend.refusal(segment.context, None)
        if error is not None:
            raise error
        self._go_on(len(segment) > 0 and self.left_in(segment) > 0)
        self._backend.live.add(segment)
        self._known = 0
        self.segment = segment

    @property
    def room(self) -> int:
        """How many tokens it may write in its next request."""
        return self.bounded(self.context_room)

    def bounded(self, room: int) -> int:
        """So many tokens, or as many as it may still write by its own bound."""
        most = self._sampling.max_new_tokens
        return room if most is None else max(1, min(room, most - self._written + self.repeats))

    @property
    def context_room(self) -> int:
        """How many tokens its context has room for.

        Where given text is only guessed at, a long prompt leaves a quarter of the context: the
        server knows better whether it fits.
        """
        left = self.left_in(self.segment) + self.repeats
        return left if left > 0 or self._backend.exact else self._backend.context // 4

    def left_in(self, segment: Segment) -> int:
        """How many tokens may still stand behind a segment of its own."""
        return self.limit - len(segment.context) - len(segment)

    def _fits(self, count: int) -> bool:
        return self.context_room > count

    def _go_on(self, fits: bool) -> None:
        if not self._stopped:
            raise InvalidValue("the thread has not stopped at a stop token; it can't be extended")
        if not fits:
            raise InvalidValue(f"the thread's context of {self.limit} tokens is full")
        self._stopped = False
        self.turn += 1

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            guess, count = self._backend.counts.get(self.segment.context, (0, 0))
            if self._guess and guess == self._guess:  # the same prompt, which ended elsewhere
                self._correct_guess(count)
            self._backend.open_threads -= 1
            self._backend.live.discard(self.segment)
            self._backend.abort(self)


Abort = Callable[[], Awaitable[object]]
"""Ends one request at once."""


class PromptedBackend(Backend):
    """Opens threads that are requests.

    Attributes:
        generation: The class of its threads.
        context: The most tokens that a thread may see.
        eos: Tokens that end a thread for good.
        block: Prefixes are cached in blocks of so many tokens.
        counts: Of prompts that servers counted, our guess and their count.
        refilled: Tokens of prompts that were computed again though an earlier thread had them.
        running: What aborts the present request of each thread that has one.
        recovered: How many requests were lost and went on elsewhere or after a restart.
    """

    generation: type[PromptedGeneration] = PromptedGeneration
    stops_anywhere = True

    def __init__(self, *, context: int, eos: Collection[int] = (), block: int = 128) -> None:
        self.context = context
        self.eos = frozenset(eos)
        self.block = block
        self.refilled = 0
        self.recovered = 0
        self.live: WeakSet[Segment] = WeakSet()
        self._met: WeakSet[Segment] = WeakSet()
        self.counts: WeakKeyDictionary[Context, tuple[int, int]] = WeakKeyDictionary()
        self._warned = False
        self.running: dict[PromptedGeneration, Abort] = {}
        self._doomed: deque[Abort] = deque()
        self._wake = anyio.Event()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self._stop()
            raise
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._abort_closed)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tasks.cancel_scope.cancel()
        try:  # without the error, which would come back inside a group
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        with anyio.CancelScope(shield=True):  # what was started is stopped in a cancelled run too
            await self.stop()

    @abstractmethod
    async def start(self) -> None:
        """Start, or reach, what generates."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop it, however far it was started; no cancellation reaches it."""

    def open(
        self,
        segment: Segment,
        sampling: Sampling,
        *,
        stop: Collection[int] = (),
        limit: int | None = None,
        gang: Gang | None = None,
    ) -> PromptedGeneration:
        refused = self.refusal(segment.context, gang) or self._unable(sampling)
        self.live.add(segment)
        self.open_threads += 1
        return self.generation(
            self,
            segment,
            sampling,
            stop=frozenset(stop),
            limit=min(limit or self.context, self.context),
            refused=refused,
        )

    @abstractmethod
    def request(
        self, generation: PromptedGeneration, prompt: list[int]
    ) -> AsyncGenerator[Token, None]:
        """Send one request and yield its tokens; leaving it early aborts it at once.

        Raises:
            BackendLost: the answer failed; what was yielded stands.
        """

    @abstractmethod
    async def recover(
        self, generation: PromptedGeneration, error: BackendLost, failures: int
    ) -> bool:
        """Whether a thread may go on after its request was lost, ``failures`` times by now."""

    def abort(self, generation: PromptedGeneration) -> None:
        """Abort a generation's present request, if it has one, without waiting."""
        abort = self.running.pop(generation, None)
        if abort is not None:
            self._doomed.append(abort)
            self._wake.set()

    async def _abort_closed(self) -> None:
        """Abort what was closed by somebody who did not wait for its tokens."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._doomed:
                await self._doomed.popleft()()

    def release(self, segments: Sequence[Segment]) -> None:
        """Forget segments; the prefix cache evicts by itself."""
        self._met.difference_update(segments)

    def refusal(self, context: Context, gang: Gang | None) -> CapabilityMissing | None:
        """Why a thread with this context can't run here; None where it can."""
        missing = requirements.of_context(context, gang, self.live)
        if missing is None or missing in self.capabilities:
            return None
        return CapabilityMissing(
            f"this thread's context needs {missing}, which this backend lacks; "
            "use --backend embedded, or a strategy that joins by text"
        )

    def _unable(self, sampling: Sampling) -> CapabilityMissing | None:
        """Why threads can't be sampled like this here; None where they can."""
        missing = sorted(requirements.of_sampling(sampling) - self.capabilities)
        if not missing:
            return None
        words = f"this thread needs {', '.join(missing)}, which this backend lacks; leave it out"
        return CapabilityMissing(words)

    @property
    def one_cache(self) -> bool:
        """Whether what one thread had is in the cache that all others look into."""
        return True

    def meet_prefix(self, context: Context) -> int:
        """How many leading tokens of this context an earlier thread had; all are known from now."""
        known = 0
        for entry in context.entries:
            if entry.segment not in self._met:
                break
            known += len(entry)
        self._met.update(entry.segment for entry in context.entries)
        return known

    def count_refilled(self, prompt: int, known: int, cached: int) -> None:
        """Count what a prefix cache should have had and had not; say so the first time."""
        expected = known // self.block * self.block
        if cached >= expected or not self.one_cache:
            return
        self.refilled += expected - cached
        if not self._warned:
            self._warned = True
            logger.warning(
                "a thread's prompt of %d tokens had %d of them in the prefix cache instead of %d; "
                "forks are prefilled again: turn prefix caching on, or give the cache more memory",
                *(prompt, cached, expected),
            )


def confidence(logprobs: Sequence[float]) -> float | None:
    """-(1/k) Σ log P of the k likeliest tokens (DeepConf, arXiv 2508.15260); None of none."""
    return -sum(logprobs) / len(logprobs) if logprobs else None
