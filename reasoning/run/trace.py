"""A trace that a policy steers: a thread, what is due of it, and what it answered."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import anyio

from orchestrator import Task
from pruning import Launch
from pruning.observations import How
from pruning.policy_run import END, INTERVAL, MARK, TraceEvent
from reasoning.backends.base import Generation, Token
from reasoning.run.run import Run, Thread
from reasoning.run.solution import TraceRecord
from reasoning.values.context import Context, Gang, Placed, Segment
from reasoning.values.sampling import Sampling

PROBE_ROOM = 32
"""Tokens that the answer to a probe may take."""


class Watcher(Protocol):
    """Whoever follows traces."""

    run: Run

    def news(self, *, due: bool) -> None:
        """A trace wrote a token, after which something may be ``due`` of it."""
        ...


@dataclass(kw_only=True)
class Steered:
    """One trace of a steered run.

    Attributes:
        every: Something is due at every multiple of so many tokens; 0 for never.
        due: What it came to that the policy was not told yet.
        said: The answers to probes, by tokens: as an answer, and as a key for votes.
        confidences: Means over each stretch of ``every`` tokens, where measured.
        until: How many tokens it may write before it stands still; None without a limit.
        paused: Whether the policy paused it.
        how: How it ended; None for one that was aborted with the run.
        over: Whether it has ended by itself.
        counted: How many of its tokens count, where it was stopped; the rest is leaked.
        key: Its own answer, as a key for votes.
        score: The verifier's.
    """

    driver: Watcher
    number: int
    launch: Launch
    every: int
    confidence: int
    gang: Gang | None
    due: deque[TraceEvent] = field(default_factory=deque)
    said: dict[int, tuple[str | None, str | None]] = field(default_factory=dict)
    confidences: list[float] = field(default_factory=list)
    until: int | None = None
    paused: bool = False
    how: How | None = None
    over: bool = False
    counted: int | None = None
    key: str | None = None
    score: float | None = None
    probe_tokens: int = 0
    thread: TraceThread | None = None

    def __post_init__(self) -> None:
        self._released = anyio.Event()
        self._sum = 0.0

    def start(self, prompt: Context) -> None:
        """Open it as a task of the run's graph."""
        if self.gang is not None:
            self.gang.size += 1  # none begins before all that were launched together
        kind = partial(TraceThread, trace=self)
        self.task: Task[None] = self.driver.run.spawn(self._write, prompt, name="sample", kind=kind)
        self.task.on_end(self._lost)

    @property
    def task_id(self) -> str:
        return self.task.id

    @property
    def written(self) -> int:
        return self.thread.written if self.thread else 0

    @property
    def text(self) -> str:
        return self.thread.text if self.thread else ""

    @property
    def next_due(self) -> int:
        """At how many tokens something is due next; 0 where nothing is known to be."""
        if self.due:
            return self.due[0].tokens
        written, mark = self.written, self.launch.mark
        ahead = [mark] if mark > written else []
        if self.every:
            ahead.append((written // self.every + 1) * self.every)
        return min(ahead, default=0)

    @property
    def leaked(self) -> int:
        """Tokens generated for it after it was stopped."""
        if self.thread is None:
            return 0
        extra = 0 if self.counted is None else self.written - self.counted
        return max(0, extra) + self.thread.late

    # What the driver does with it.

    def allow(self, until: int | None) -> None:
        """Let it write so many tokens in all; None for as many as it likes."""
        if until != self.until:
            self.until = until
            if self.thread is not None and not self.over:
                self.thread.hold(until)

    def abort(self) -> None:
        """Stop it at once."""
        if self.thread is not None:
            self.thread.close()
        elif self.gang is not None:
            self.gang.size -= 1
        self.task.cancel()

    def let_go(self) -> None:
        """Close it after its end, when the policy was told of it."""
        if not self._released.is_set():
            self._released.set()
            if self.thread is not None:
                self.thread.close()

    def say(self, tokens: int, answer: str | None) -> str | None:
        """Keep the answer to a probe; returns its key for votes."""
        key = self._key(answer)
        self.said[tokens] = (answer, key)
        return key

    @property
    def votes(self) -> bool:
        """Whether it ended by itself, or was asked and answered."""
        return self.how == "finished" or self.vote is not None

    @property
    def vote(self) -> str | None:
        """Its own answer as a key, or where it was cut or stopped the last that it was asked."""
        return self.key if self.how == "finished" else self._last[1]

    @property
    def answer(self) -> str | None:
        """The answer behind its vote."""
        own = self.thread.answer if self.thread else None
        return own if self.how == "finished" else self._last[0]

    @property
    def _last(self) -> tuple[str | None, str | None]:
        return self.said[max(self.said)] if self.said else (None, None)

    def record(self) -> TraceRecord:
        """What the policy was told of it."""
        return TraceRecord(
            how=self.how,
            probes=tuple((tokens, key) for tokens, (_, key) in sorted(self.said.items())),
            confidences=tuple(self.confidences),
        )

    def _key(self, answer: str | None) -> str | None:
        return answer and self.driver.run.problem.canonical(answer)

    # What happens to it.

    async def _write(self, thread: Thread) -> None:
        written = await thread.write()
        limit = self.launch.limit
        cut = written.reason == "length" and limit is not None and thread.written >= limit
        self.how = (
            "stopped"
            if written.reason not in ("stop", "length")
            else "length"
            if cut
            else "finished"
        )
        if self.how == "finished":
            answer = thread.conclude()
            self.key = self._key(answer)
            verdict = self.driver.run.problem.verify(answer or "")
            self.score = None if verdict is None else float(verdict.ok)
        self._end()
        await self._released.wait()

    def _end(self) -> None:
        self.over = True
        self.due.append(
            TraceEvent(
                *(self.number, END, self.written),
                how=self.how or "stopped",
                answer=self.key,
                score=self.score,
            )
        )
        self.driver.news(due=True)

    def _lost(self, task: Task[Any]) -> None:
        """Its task ended before it did: it failed, or somebody else cancelled it."""
        if not self.over and self.counted is None:
            self.how = "stopped"
            self._end()

    def took(self, token: Token) -> None:
        """Note what is due after a token."""
        written = self.written
        mean: float | None = None
        if token.confidence is not None:
            self._sum += token.confidence
        at_stretch = self.every and written % self.every == 0
        if at_stretch:
            if self.confidence:
                mean, self._sum = self._sum / self.every, 0.0
                self.confidences.append(mean)
            self.due.append(TraceEvent(self.number, INTERVAL, written, mean))
        if written == self.launch.mark:
            self.due.append(TraceEvent(self.number, MARK, written))
        self.driver.news(due=bool(self.due) or written == self.until)


@dataclass(kw_only=True)
class TraceThread(Thread):
    """The thread of a trace that a policy steers."""

    trace: Steered

    def __post_init__(self) -> None:
        super().__post_init__()
        self.trace.thread = self
        self.written_to = self.segment
        self.seen = self.context
        if self.trace.until is not None:
            self.hold(self.trace.until)

    def _open(self) -> Generation:
        run, trace = self.run, self.trace
        limit = run.max_tokens
        if trace.launch.limit is not None:
            limit = min(limit, len(self.context) + trace.launch.limit)
        return run.backend.open(
            self.segment,
            replace(self.sampling, confidence=trace.confidence),
            stop=run.dialect.stop | run.dialect.ends,
            limit=limit,
            gang=trace.gang,
        )

    def _took(self, token: Token) -> None:
        self.trace.took(token)

    def hold(self, until: int | None) -> None:
        """Stand still after so many tokens, where the backend can."""
        self._generation.hold(until)

    @property
    def late(self) -> int:
        """Tokens generated after it was closed."""
        return self._generation.leaked

    def fork(self, tokens: int) -> Context:
        """What it saw, and the first ``tokens`` that it wrote."""
        placed = Placed(self.written_to, upto=tokens)
        return Context(entries=(*self.seen.entries, placed), position=self.written_to.home + tokens)

    def close(self) -> None:
        super().close()
        self.written_to, self.seen = self.segment, self.context


async def probe(trace: Steered, tokens: int) -> str | None:
    """Ask a fork of a trace, after its first ``tokens``, for the answer it would give."""
    thread = trace.thread
    assert thread is not None
    run, dialect = thread.run, thread.run.dialect
    if not trace.over:
        trace.allow(0)  # its last token is then computed for whoever sees it
    suffix = dialect.encode(dialect.probe)
    context = thread.fork(tokens).then(suffix)
    limit = min(run.max_tokens, len(context) + PROBE_ROOM)
    if len(context) >= limit:
        return None
    decoder = dialect.decoder()
    text = "".join(map(decoder.feed, suffix))
    segment = Segment(context)
    run.segments.add(segment)
    generation = run.backend.open(segment, Sampling(), stop=dialect.stop, limit=limit)
    try:
        async for token in generation.tokens():
            segment.tokens.append(token.token)
            text += decoder.feed(token.token)
    finally:
        generation.close()
    spent = len(suffix) + len(segment)
    trace.probe_tokens += spent
    run.aside += len(segment)
    trace.task.charge(spent)
    return dialect.answer(run.problem, text)
