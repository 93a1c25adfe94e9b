"""One run of a policy, apart from where its traces come from.

A `PolicyRun` keeps the clock, tells the policy what happens, and turns decisions into requests.
It is a generator without I/O.  `pruning.evaluation.replay` answers the requests from stored
traces, and `reasoning.run.driver` from traces that a model writes, so both decide alike.

The clock counts tokens.  All running traces advance in lock step, a token a tick.  What happens at
one tick is seen in the order of trace numbers.  A paused trace stands still.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from pruning.decisions import AskJudge, Decision, Finish, Launch, Pause, Probe, Resume, Stop
from pruning.observations import Began, Ended, Generated, How, Judged, Observation, Probed, Reached
from pruning.policy import PolicyError, PolicySession

INTERVAL, MARK, END = range(3)
"""The kinds of `TraceEvent`, in the order in which they happen at one tick."""


class TraceEvent(NamedTuple):
    """What happens to a trace when it has written ``tokens``.

    Attributes:
        kind: `INTERVAL` (a multiple of the observation interval), `MARK` or `END`.
        confidence: Mean over the interval, where it is measured.
        how, answer, score: Of an end.
    """

    trace: int
    kind: int
    tokens: int
    confidence: float | None = None
    how: How = "finished"
    answer: str | None = None
    score: float | None = None


class StartTrace(NamedTuple):
    """Start this trace."""

    trace: int
    launch: Launch


class CloseTrace(NamedTuple):
    """Release this trace, of which ``tokens`` count; what it wrote beyond them is leaked."""

    trace: int
    tokens: int


class PauseTrace(NamedTuple):
    """Let this trace stand still."""

    trace: int


class ResumeTrace(NamedTuple):
    """Let this trace write on."""

    trace: int


class ProbeTrace(NamedTuple):
    """Reply with the answer that this trace would give after ``tokens``.

    With ``latest``, reply with the last answer known by then where none is known at ``tokens``.
    """

    trace: int
    tokens: int
    latest: bool = False


class JudgePairs(NamedTuple):
    """Reply with the judge's probability, for each of ``others``, that it agrees with ``trace``."""

    trace: int
    others: tuple[int, ...]
    tokens: int


Request: TypeAlias = (
    StartTrace | CloseTrace | PauseTrace | ResumeTrace | ProbeTrace | JudgePairs | None
)
"""None asks for the next `TraceEvent`; the reply is None where nothing can happen any more."""
Requests: TypeAlias = Generator[Request, Any, None]


@dataclass(kw_only=True, slots=True)
class RunningTrace:
    """A trace that has not ended.

    Attributes:
        start: The tick at which it started; a pause moves it by its length.
    """

    launch: Launch
    start: int
    paused_at: int | None = None


@dataclass(kw_only=True)
class PolicyRun:
    """Drives one session; call `run` once.

    Attributes:
        max_traces: How many traces can be launched in all; None for no limit.
        probe_every: Traces can be probed at multiples of this many tokens; 0 where they can't.
        tokens: Written by traces that have ended.
        refused: How many traces the policy wanted beyond ``max_traces``.
        probes, judged: How many probes and judgements the policy has seen.
        running: The traces that have not ended, by number.
    """

    session: PolicySession
    max_traces: int | None = None
    probe_every: int = 0
    clock: int = 0
    tokens: int = 0
    launched: int = 0
    refused: int = 0
    probes: int = 0
    judged: int = 0
    running: dict[int, RunningTrace] = field(default_factory=dict)

    def run(self) -> Requests:
        """Yield requests and take replies until the policy finishes.

        Raises:
            PolicyError: the policy asks for what can't be done, or never finishes.
        """
        yield from self._tell(Began(max_traces=self.max_traces, probe_every=self.probe_every))
        while self.session.finish is None:
            event: TraceEvent | None = yield None
            if event is None:
                name = self.session.policy.name
                raise PolicyError(f"policy {name!r} never finished; mend its rule")
            self.clock = self.running[event.trace].start + event.tokens
            if event.kind == INTERVAL:
                yield from self._interval(event)
            elif event.kind == MARK:
                yield from self._tell(Reached(trace=event.trace, tokens=event.tokens))
            else:
                yield from self._end(event)
        for trace in tuple(self.running):
            yield CloseTrace(trace, self._remove(trace))

    def written(self, trace: int) -> int:
        """How many tokens a running trace has written at this tick."""
        running = self.running[trace]
        return (self.clock if running.paused_at is None else running.paused_at) - running.start

    # What the clock reaches.

    def _interval(self, event: TraceEvent) -> Requests:
        trace, tokens = event.trace, event.tokens
        every = self.running[trace].launch.probe_every
        if event.confidence is not None:
            observation = Generated(trace=trace, tokens=tokens, confidence=event.confidence)
            yield from self._tell(observation)
        if every and tokens % every == 0 and trace in self.running and self.session.finish is None:
            yield from self._probe(trace, tokens)

    def _probe(self, trace: int, tokens: int) -> Requests:
        self.probes += 1
        answer = yield ProbeTrace(trace, tokens)
        yield from self._tell(Probed(trace=trace, tokens=tokens, answer=answer))

    def _end(self, event: TraceEvent) -> Requests:
        tokens = self._remove(event.trace)
        answer = event.answer
        if event.how == "length" and self.probe_every:
            self.probes += 1
            last = tokens // self.probe_every * self.probe_every
            answer = yield ProbeTrace(event.trace, last, latest=True)
        yield CloseTrace(event.trace, tokens)
        yield from self._tell(
            Ended(trace=event.trace, tokens=tokens, answer=answer, how=event.how, score=event.score)
        )

    def _remove(self, trace: int) -> int:
        """Take a trace off the clock and count its tokens."""
        tokens = self.written(trace)
        del self.running[trace]
        self.tokens += tokens
        return tokens

    # What the policy decides.

    def _tell(self, observation: Observation) -> Requests:
        for decision in self.session.tell(observation):
            yield from self._carry_out(decision)
            if self.session.finish is not None:
                return

    def _carry_out(self, decision: Decision) -> Requests:
        if isinstance(decision, Launch):
            yield from self._launch(decision)
        elif isinstance(decision, AskJudge):
            yield from self._ask_judge(decision)
        elif isinstance(decision, Stop | Pause | Resume | Probe):
            if decision.trace in self.running:  # else it ended meanwhile
                yield from self._steer(decision)
        elif not isinstance(decision, Finish):
            name = self.session.policy.name
            raise PolicyError(f"policy {name!r} steers single steps; use it with --strategy atts")

    def _steer(self, decision: Stop | Pause | Resume | Probe) -> Requests:
        trace = decision.trace
        running, written = self.running[trace], self.written(trace)
        if isinstance(decision, Stop):
            yield from self._end(TraceEvent(trace, END, written, how="stopped"))
        elif isinstance(decision, Probe):
            every = self.probe_every or 1
            yield from self._probe(trace, written // every * every)
        elif isinstance(decision, Pause):
            if running.paused_at is None:
                running.paused_at = self.clock
                yield PauseTrace(trace)
        elif running.paused_at is not None:
            running.start, running.paused_at = self.clock - written, None
            yield ResumeTrace(trace)

    def _launch(self, launch: Launch) -> Requests:
        every = launch.probe_every
        if every and (not self.probe_every or every % self.probe_every):
            raise PolicyError(f"probe_every: {every}: give a multiple of {self.probe_every}")
        left = launch.count if self.max_traces is None else self.max_traces - self.launched
        self.refused += max(0, launch.count - left)
        for _ in range(min(launch.count, left)):
            self.running[self.launched] = RunningTrace(launch=launch, start=self.clock)
            self.launched += 1
            yield StartTrace(self.launched - 1, launch)

    def _ask_judge(self, ask: AskJudge) -> Requests:
        sames = yield JudgePairs(ask.trace, ask.others, self.written(ask.trace))
        for other, same in zip(ask.others, sames, strict=True):
            if ask.trace not in self.running or self.session.finish is not None:
                return
            self.judged += 1
            yield from self._tell(Judged(trace=ask.trace, other=other, same=same))
