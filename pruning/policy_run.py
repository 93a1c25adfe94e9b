"""One run of a policy, apart from where its traces come from.

A `Course` keeps the clock, tells the policy what is due, and says what its decisions ask for.  It
is a generator without I/O: `pruning.evaluation.replay` answers from stored traces, and
`reasoning.run.driver` from traces that a model writes.  So both tell and decide alike.

The clock counts tokens.  All running traces advance in lock step, a token a tick; what is due at
one tick is told in the order of trace.  A paused trace stands still.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from pruning.decisions import AskJudge, Decision, Finish, Launch, Pause, Probe, Resume, Stop
from pruning.observations import (
    Began,
    Ended,
    Generated,
    How,
    Judged,
    Observation,
    Probed,
    Reached,
)
from pruning.policy import PolicyError, Session

STRETCH, MARK, END = range(3)
"""What is due of a trace at one tick, in this order."""


class Due(NamedTuple):
    """What a trace comes to when it has written ``tokens``.

    Attributes:
        what: `STRETCH`, `MARK` or `END`; the fields after ``confidence`` are of an end.
        confidence: Of a stretch, where it is measured.
    """

    trace: int
    what: int
    tokens: int
    confidence: float | None = None
    how: How = "finished"
    answer: str | None = None
    score: float | None = None


class Open(NamedTuple):
    """Start this trace."""

    trace: int
    launch: Launch


class Close(NamedTuple):
    """Abort this trace, of which ``tokens`` count; more are leaked."""

    trace: int
    tokens: int


class Hold(NamedTuple):
    """Let this trace stand still."""

    trace: int


class Go(NamedTuple):
    """Let this trace write on."""

    trace: int


class Ask(NamedTuple):
    """Reply with the answer that this trace would give after ``tokens``.

    ``latest`` takes the last one known by then, where none is known of that place.
    """

    trace: int
    tokens: int
    latest: bool = False


class Compare(NamedTuple):
    """Reply with the judge's probability, for each of ``others``, that it agrees with ``trace``."""

    trace: int
    others: tuple[int, ...]
    tokens: int


Request: TypeAlias = Open | Close | Hold | Go | Ask | Compare | None
"""None asks for what is `Due` next; the reply is None where nothing can be."""
Steps: TypeAlias = Generator[Request, Any, None]


@dataclass(kw_only=True, slots=True)
class Live:
    """A trace that has not ended, and the tick at which it started (later, if it was paused)."""

    launch: Launch
    start: int
    paused_at: int | None = None


@dataclass(kw_only=True)
class Course:
    """The run of a session; `run` once.

    Attributes:
        most: How many traces can be launched in all; None without a limit.
        grid: At which multiples of tokens traces can be probed; 0 where they can't.
        tokens: Written by traces that have ended.
        probes, judged: How many answers and judgements the policy was told.
    """

    session: Session
    most: int | None = None
    grid: int = 0
    clock: int = 0
    tokens: int = 0
    launched: int = 0
    probes: int = 0
    judged: int = 0
    live: dict[int, Live] = field(default_factory=dict)

    def run(self) -> Steps:
        """Yield what is to be done, and take replies, until the policy finishes.

        Raises:
            PolicyError: the policy asks for what can't be, or never finishes.
        """
        yield from self._tell(Began(most=self.most, probe_every=self.grid))
        while self.session.finish is None:
            due: Due | None = yield None
            if due is None:
                name = self.session.policy.name
                raise PolicyError(f"policy {name!r} never finished; mend its rule")
            self.clock = self.live[due.trace].start + due.tokens
            if due.what == STRETCH:
                yield from self._stretch(due)
            elif due.what == MARK:
                yield from self._tell(Reached(trace=due.trace, tokens=due.tokens))
            else:
                yield from self._end(due)
        for trace in tuple(self.live):
            yield Close(trace, self._abort(trace))

    def written(self, trace: int) -> int:
        """How many tokens of a live trace there are at this tick."""
        live = self.live[trace]
        return (self.clock if live.paused_at is None else live.paused_at) - live.start

    # What the clock reaches.

    def _stretch(self, due: Due) -> Steps:
        trace, tokens = due.trace, due.tokens
        every = self.live[trace].launch.probe_every
        if due.confidence is not None:
            yield from self._tell(Generated(trace=trace, tokens=tokens, confidence=due.confidence))
        if every and tokens % every == 0 and trace in self.live and self.session.finish is None:
            yield from self._probe(trace, tokens)

    def _probe(self, trace: int, tokens: int) -> Steps:
        self.probes += 1
        answer = yield Ask(trace, tokens)
        yield from self._tell(Probed(trace=trace, tokens=tokens, answer=answer))

    def _end(self, due: Due) -> Steps:
        tokens = self._abort(due.trace)
        answer = due.answer
        if due.how == "length" and self.grid:
            self.probes += 1
            answer = yield Ask(due.trace, tokens // self.grid * self.grid, latest=True)
        yield Close(due.trace, tokens)
        yield from self._tell(
            Ended(trace=due.trace, tokens=tokens, answer=answer, how=due.how, score=due.score)
        )

    def _abort(self, trace: int) -> int:
        tokens = self.written(trace)
        del self.live[trace]
        self.tokens += tokens
        return tokens

    # What the policy decides.

    def _tell(self, observation: Observation) -> Steps:
        for decision in self.session.tell(observation):
            yield from self._carry_out(decision)
            if self.session.finish is not None:
                return

    def _carry_out(self, decision: Decision) -> Steps:
        if isinstance(decision, Launch):
            yield from self._launch(decision)
        elif isinstance(decision, AskJudge):
            yield from self._ask(decision)
        elif isinstance(decision, Stop | Pause | Resume | Probe):
            if decision.trace in self.live:  # else it ended meanwhile
                yield from self._steer(decision)
        elif not isinstance(decision, Finish):
            raise PolicyError(
                f"policy {self.session.policy.name!r} steers single steps, which a run of whole "
                "traces can't; use it over scored steps, as --strategy atts does"
            )

    def _steer(self, decision: Stop | Pause | Resume | Probe) -> Steps:
        trace = decision.trace
        live = self.live[trace]
        if isinstance(decision, Stop):
            yield from self._end(Due(trace, END, self.written(trace), how="stopped"))
        elif isinstance(decision, Probe):
            grid = self.grid or 1
            yield from self._probe(trace, self.written(trace) // grid * grid)
        elif isinstance(decision, Pause):
            if live.paused_at is None:
                live.paused_at = self.clock
                yield Hold(trace)
        elif live.paused_at is not None:
            live.start, live.paused_at = self.clock - self.written(trace), None
            yield Go(trace)

    def _launch(self, launch: Launch) -> Steps:
        every = launch.probe_every
        if every and (not self.grid or every % self.grid):
            raise PolicyError(
                f"probe_every: {every} is no multiple of {self.grid}, where these traces "
                "were probed; give one"
            )
        left = launch.count if self.most is None else self.most - self.launched
        for _ in range(min(launch.count, left)):
            self.live[self.launched] = Live(launch=launch, start=self.clock)
            self.launched += 1
            yield Open(self.launched - 1, launch)

    def _ask(self, ask: AskJudge) -> Steps:
        sames = yield Compare(ask.trace, ask.others, self.written(ask.trace))
        for other, same in zip(ask.others, sames, strict=True):
            if ask.trace not in self.live or self.session.finish is not None:
                return
            self.judged += 1
            yield from self._tell(Judged(trace=ask.trace, other=other, same=same))
