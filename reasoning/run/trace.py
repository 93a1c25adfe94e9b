"""A trace that a policy steers: a thread, what is due of it, and what it answered."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

from orchestrator import Task
from pruning import Launch, Scorer
from pruning.observations import How
from pruning.policy_run import END, INTERVAL, MARK, TraceEvent
from reasoning.backends.base import Token
from reasoning.errors import BackendLost
from reasoning.run.run import Run
from reasoning.run.solution import TraceRecord
from reasoning.run.thread import Thread, ThreadOptions
from reasoning.values.context import Context, Gang, Segment
from reasoning.values.sampling import Sampling

logger = logging.getLogger(__name__)

PROBE_ROOM = 32
"""Tokens that the answer to a probe may take."""


@dataclass(kw_only=True)
class SteeredTrace:
    """One trace of a steered run; only its own methods change it.

    Attributes:
        news: Called after each token, with whether something may be due of the trace.
        start_tick: When it was launched, in ticks of the policy's clock.
        every: Something is due at every multiple of so many tokens; 0 for never.
        due: What the policy is still to be told of it.
        probed: For each probe, by the tokens written before it: the answer, and its key for votes.
        confidences: Means over each stretch of ``every`` tokens, where measured.
        grain: The driver also wants to hear at every multiple of so many ticks; 0 for never.
        patient: Whether the policy waits for its end, whatever it writes.
        until: How many tokens it may write before it stands still; None without a limit.
        how: How it ended; None for one that was aborted with the run.
        over: Whether it has ended by itself.
        counted: How many of its tokens count, where it was stopped; the rest is leaked.
        key: Its own answer, as a key for votes.
        score: How good its answer is, in the eyes of ``scorer`` or of the verifier.
    """

    run: Run
    news: Callable[[bool], None]
    number: int
    start_tick: int
    launch: Launch
    every: int
    confidence: int
    gang: Gang | None
    grain: int = 0
    patient: bool = False
    scorer: Scorer | None = None
    due: deque[TraceEvent] = field(default_factory=deque)
    probed: dict[int, tuple[str | None, str | None]] = field(default_factory=dict)
    confidences: list[float] = field(default_factory=list)
    until: int | None = None
    how: How | None = None
    over: bool = False
    counted: int | None = None
    key: str | None = None
    score: float | None = None
    probe_tokens: int = 0
    thread: Thread | None = None

    def __post_init__(self) -> None:
        self._released = anyio.Event()
        self._gone = False  # with all that it wrote
        self._sum = 0.0

    def start(self, prompt: Context) -> None:
        """Start it as a task of the run's graph."""
        if self.gang is not None:
            self.gang.size += 1  # none begins before all that were launched together
        options = ThreadOptions(
            stop=self.run.dialect.ends,
            gang=self.gang,
            most=self.launch.limit,
            confidence=self.confidence,
            observer=self,
            patient=self.patient,
        )
        self.task: Task[None] = self.run.spawn(self._write, prompt, name="sample", options=options)
        self.task.on_end(self._lost)

    @property
    def written(self) -> int:
        return self.thread.written if self.thread else 0

    @property
    def begun(self) -> bool:
        """Whether it writes."""
        return self.written > 0 and not self.over

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
        return max(0, extra) + self.thread.leaked

    def has_written(self, tokens: int) -> bool:
        """Whether all is known of its first tokens: also whether it ended behind them."""
        if self.over or self.thread is None or self.written > tokens:
            return True
        held = self.until is not None and self.until < tokens
        return (held or self.written == tokens) and not self.thread.stands

    # What the driver does with it.

    def allow(self, until: int | None) -> None:
        """Let it write so many tokens in all; None for as many as it likes."""
        if until != self.until:
            self.until = until
            if self.thread is not None and not self.over:
                self.thread.hold(until)

    def pause(self) -> None:
        """Let it write no further until it is allowed to."""
        self.allow(self.written)

    def stop(self, counted: int, *, how: How | None) -> None:
        """Stop it at once, unless it has ended; ``counted`` of its tokens count.

        One that ended behind the policy's clock was stopped before that, as far as anybody knows:
        whether it was so fast depends on where it ran.  When the run is over, ``how`` being None,
        one that ended at that very tick has ended.
        """
        self.counted = counted
        ended = self.over and (not self.due or (how is None and self.written == counted))
        self.due.clear()
        if ended:
            return
        self.how = how
        if self.over:
            self.key = self.score = None
            return
        if self.thread is not None:
            self.thread.close()
        elif self.gang is not None:
            self.gang.size -= 1
        self.task.cancel()

    def let_go(self) -> None:
        """After its end, free its slot; close it when the policy was told, which may probe it."""
        if self.over and not self._released.is_set():
            if self.thread is not None:
                self.thread.free()
            if not self.due:
                self._released.set()

    async def probe(self, tokens: int) -> str | None:
        """Ask a fork of it, after its first ``tokens``, for the answer that it would give.

        Returns the answer's key for votes, and keeps both.
        """
        answer = await self._asked(tokens) if tokens and not self._gone else None
        key = await self.run.compared_key(answer)
        self.probed[tokens] = (answer, key)
        return key

    @property
    def votes(self) -> bool:
        """Whether it ended by itself, or was asked and answered."""
        return self.how == "finished" or self.vote is not None

    @property
    def vote(self) -> str | None:
        """Its own answer as a key, or where it was cut or stopped the last that it was asked."""
        return self.key if self.how == "finished" else self._last[1]

    def conclude(self) -> None:
        """Let its thread's answer be the one behind its vote."""
        if self.thread is not None and self.how != "finished":
            self.thread.answer = self._last[0]
            self.thread.answer_source = "none" if self._last[0] is None else "cue"

    def record(self) -> TraceRecord:
        """What the policy was told of it."""
        return TraceRecord(
            how=self.how,
            probes=tuple((tokens, key) for tokens, (_, key) in sorted(self.probed.items())),
            confidences=tuple(self.confidences),
            score=self.score,
            number=self.number,
            start=self.start_tick,
        )

    @property
    def _last(self) -> tuple[str | None, str | None]:
        return self.probed[max(self.probed)] if self.probed else (None, None)

    # What happens to it.

    async def _write(self, thread: Thread) -> None:
        self.thread = thread
        if self.until is not None:
            thread.hold(self.until)
        written = await thread.write()
        limit = self.launch.limit
        ended = written.reason in ("stop", "length")
        if not ended and (written.reason != "lost" or thread.conclude() is None):
            self.how = "stopped"  # one that is lost behind its answer votes
        elif written.reason == "length" and limit is not None and thread.written >= limit:
            self.how = "length"
        else:
            answer = thread.conclude()
            self.key = await self.run.compared_key(answer)
            self.how = "finished"
            self.score = await self.run.score(thread, self.scorer)
        self._end()
        await self._released.wait()

    def _end(self) -> None:
        self.over = True
        how = self.how or "stopped"
        self.due.append(TraceEvent(self.number, END, self.written, None, how, self.key, self.score))
        self.news(True)

    def _lost(self, task: Task[Any]) -> None:
        """Its task ended before it did: it failed, or somebody else cancelled it."""
        if not self.over and self.counted is None:
            self.how, self._gone = "stopped", True
            self._end()

    def took(self, token: Token) -> None:
        """Note what is due after a token."""
        written = self.written
        if token.confidence is not None:
            self._sum += token.confidence
        if self.every and written % self.every == 0:
            mean: float | None = None
            if self.confidence:
                mean, self._sum = self._sum / self.every, 0.0
                self.confidences.append(mean)
            self.due.append(TraceEvent(self.number, INTERVAL, written, mean))
        if written == self.launch.mark:
            self.due.append(TraceEvent(self.number, MARK, written))
        tick = self.start_tick + written
        self.news(
            bool(self.due) or written == self.until or (self.grain > 0 and tick % self.grain == 0)
        )

    async def _asked(self, tokens: int) -> str | None:
        thread = self.thread
        assert thread is not None
        run, dialect = self.run, self.run.dialect
        if not self.over:
            self.allow(0)  # its last token is then computed for whoever sees it
        suffix = dialect.encode(dialect.probe)
        context = thread.fork(tokens).then(suffix)
        limit = min(run.max_tokens, len(context) + PROBE_ROOM)
        if len(context) >= limit:
            return None
        decoder = dialect.decoder()
        text = "".join(map(decoder.feed, suffix))
        segment = Segment(context)
        run.segments.add(segment)
        sampling = Sampling(problem=run.name)
        generation = run.backend.open(segment, sampling, stop=dialect.stop, limit=limit)
        try:
            async for token in generation.tokens():
                segment.tokens.append(token.token)
                text += decoder.feed(token.token)
        except BackendLost as error:
            logger.warning("a probe was lost: %s", error)
            return None
        finally:
            generation.close()
        self.probe_tokens += len(suffix) + len(segment)
        run.probe_tokens += len(segment)
        self.task.charge(len(suffix) + len(segment))
        return dialect.answer(run.problem, text, finished=False).answer
