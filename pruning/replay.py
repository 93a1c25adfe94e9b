"""A policy over stored traces, as if they ran: the pure driver.

The clock counts tokens.  All running traces advance in lock step, one token a tick; whatever is
due at one tick is told in the order of trace.  What a policy does not see, it can't use: a probe
or an end is told when the clock reaches it.  An aborted trace costs the ticks that it ran.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
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
from pruning.policy import Decided, Policy, PolicyError, Session
from pruning.traces import Trace

Judge: TypeAlias = Callable[[Trace, Trace, int], float]
"""From two traces and the tokens written by now to the probability that their answers agree."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a policy came to on one question.

    Attributes:
        tokens: Written by all traces, aborted ones too.
        span: The clock at the end: the critical path.
        traces: How many were launched.
        probes: How many probes were answered.
        judged: How many pairs the judge was asked about.
        log: Every decision, with the number of observations before it.
    """

    answer: str | None
    reason: str
    tokens: int
    span: int
    traces: int
    probes: int
    judged: int
    log: tuple[Decided, ...]


class _Due(NamedTuple):
    """What the clock reaches next: a stretch's end, a mark, then the trace's end."""

    at: int
    trace: int
    order: int  # 0 stretch, 1 mark, 2 end
    tokens: int
    epoch: int


@dataclass(kw_only=True, slots=True)
class _Live:
    """A trace that has not ended; ``epoch`` tells what was due before its last pause."""

    stored: Trace
    launch: Launch
    length: int
    tick: int
    start: int
    epoch: int = 0
    paused_at: int | None = None


@dataclass(kw_only=True)
class Replay:
    """One run over stored traces; `run` once.

    Attributes:
        stored: The traces, launched in this order.
        probe_every: At which multiples of tokens they were probed; 0 where they were not.
        probe_tokens: What one probe costs; the span is not charged, as a probe runs beside.
    """

    policy: Policy[Any]
    stored: Sequence[Trace]
    probe_every: int = 0
    seed: int = 0
    judge: Judge | None = None
    probe_tokens: int = 0
    clock: int = 0
    tokens: int = 0
    launched: int = 0
    probes: int = 0
    judged: int = 0
    live: dict[int, _Live] = field(default_factory=dict)
    due: list[_Due] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = Session(policy=self.policy, seed=self.seed)
        self._confident = "confidence" in self.policy.needs

    def run(self) -> Replayed:
        """Advance the clock until the policy finishes.

        Raises:
            PolicyError: the policy needs what is not stored, or never finishes.
        """
        self._check()
        self._tell(Began(most=len(self.stored), probe_every=self.probe_every))
        while self.session.finish is None:
            if not self.due:
                raise PolicyError(f"policy {self.policy.name!r} never finished; mend its rule")
            self._advance(heappop(self.due))
        return self._conclude(self.session.finish)

    def _check(self) -> None:
        stored = {
            "probes": self.probe_every > 0,
            "confidence": bool(self.probe_every) and all(t.confidences for t in self.stored),
            "verifier": all(trace.score is not None for trace in self.stored),
            "judge": self.judge is not None,
        }
        for need in sorted(self.policy.needs):
            if not stored.get(need, False):
                raise PolicyError(
                    f"policy {self.policy.name!r} needs {need}, which these traces lack; "
                    "choose another, such as async"
                )

    # What the clock reaches.

    def _advance(self, due: _Due) -> None:
        live = self.live.get(due.trace)
        if live is None or live.epoch != due.epoch:
            return  # it was stopped or paused since
        self.clock = due.at
        if due.order == 0:
            self._stretch(due.trace, live, due.tokens)
        elif due.order == 1:
            self._tell(Reached(trace=due.trace, tokens=due.tokens))
        else:
            self._end(due.trace, "length" if live.length < live.stored.tokens else "finished")

    def _stretch(self, trace: int, live: _Live, tokens: int) -> None:
        following = tokens + live.tick
        if following <= live.length:
            heappush(self.due, _Due(live.start + following, trace, 0, following, live.epoch))
        if self._confident:
            stretch = tokens // self.probe_every - 1
            if stretch < len(live.stored.confidences):
                value = live.stored.confidences[stretch]
                self._tell(Generated(trace=trace, tokens=tokens, confidence=value))
        every = live.launch.probe_every
        if every and tokens % every == 0 and trace in self.live and self.session.finish is None:
            self._probe(trace, live, tokens)

    def _probe(self, trace: int, live: _Live, tokens: int) -> None:
        """Tell the probe stored for this many tokens; none was stored where it failed."""
        self.probes += 1
        index = tokens // self.probe_every - 1 if self.probe_every else -1
        stored = live.stored.probes
        answer = stored[index] if 0 <= index < len(stored) else None
        self._tell(Probed(trace=trace, tokens=tokens, answer=answer))

    def _end(self, trace: int, how: How) -> None:
        live = self.live.pop(trace)
        tokens = self._written(live)
        self.tokens += tokens
        answer, score = None, None
        if how == "finished":
            answer, score = live.stored.answer, live.stored.score
        elif how == "length" and self.probe_every:
            self.probes += 1
            asked = live.stored.probes[: tokens // self.probe_every]
            answer = asked[-1] if asked else None
        self._tell(Ended(trace=trace, tokens=tokens, answer=answer, how=how, score=score))

    def _written(self, live: _Live) -> int:
        return (self.clock if live.paused_at is None else live.paused_at) - live.start

    # What the policy decides.

    def _tell(self, observation: Observation) -> None:
        for decision in self.session.tell(observation):
            self._carry_out(decision)
            if self.session.finish is not None:
                return

    def _carry_out(self, decision: Decision) -> None:
        if isinstance(decision, Launch):
            for _ in range(min(decision.count, len(self.stored) - self.launched)):
                self._launch(decision)
        elif isinstance(decision, AskJudge):
            self._ask(decision)
        elif isinstance(decision, Stop | Pause | Resume | Probe):
            live = self.live.get(decision.trace)
            if live is not None:  # else it ended meanwhile
                self._steer(decision, live)
        elif not isinstance(decision, Finish):
            raise PolicyError(
                f"policy {self.policy.name!r} steers single steps, which a replay of whole "
                "traces can't; replay it over scored steps"
            )

    def _steer(self, decision: Stop | Pause | Resume | Probe, live: _Live) -> None:
        if isinstance(decision, Stop):
            self._end(decision.trace, "stopped")
        elif isinstance(decision, Probe):
            written = self._written(live)
            every = self.probe_every or 1
            self._probe(decision.trace, live, written // every * every)
        elif isinstance(decision, Pause):
            if live.paused_at is None:
                live.paused_at, live.epoch = self.clock, live.epoch + 1
        elif live.paused_at is not None:
            written = self._written(live)
            live.start, live.paused_at = self.clock - written, None
            self._schedule(decision.trace, live, written)

    def _launch(self, launch: Launch) -> None:
        every, trace = launch.probe_every, self.launched
        if every and (not self.probe_every or every % self.probe_every):
            raise PolicyError(
                f"probe_every: {every} is no multiple of {self.probe_every}, where these traces "
                "were probed; give one"
            )
        stored = self.stored[trace]
        live = _Live(
            stored=stored,
            launch=launch,
            length=min(stored.tokens, launch.limit or stored.tokens),
            tick=self.probe_every if self._confident else every,
            start=self.clock,
        )
        self.launched += 1
        self.live[trace] = live
        self._schedule(trace, live, 0)

    def _schedule(self, trace: int, live: _Live, written: int) -> None:
        """Put on the clock what is due after ``written`` tokens."""
        heappush(self.due, _Due(live.start + live.length, trace, 2, live.length, live.epoch))
        if written < live.launch.mark <= live.length:
            mark = live.launch.mark
            heappush(self.due, _Due(live.start + mark, trace, 1, mark, live.epoch))
        if live.tick:
            following = (written // live.tick + 1) * live.tick
            if following <= live.length:
                heappush(self.due, _Due(live.start + following, trace, 0, following, live.epoch))

    def _ask(self, ask: AskJudge) -> None:
        if self.judge is None:
            raise PolicyError(f"policy {self.policy.name!r} needs a judge; give one to the replay")
        for other in ask.others:
            live = self.live.get(ask.trace)
            if live is None or self.session.finish is not None:
                return
            self.judged += 1
            same = self.judge(live.stored, self.stored[other], self._written(live))
            self._tell(Judged(trace=ask.trace, other=other, same=same))

    def _conclude(self, finish: Finish) -> Replayed:
        aborted = sum(map(self._written, self.live.values()))
        return Replayed(
            answer=finish.answer,
            reason=finish.reason,
            tokens=self.tokens + aborted + self.probes * self.probe_tokens,
            span=self.clock,
            traces=self.launched,
            probes=self.probes,
            judged=self.judged,
            log=tuple(self.session.log),
        )
