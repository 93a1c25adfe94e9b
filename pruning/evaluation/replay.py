"""A policy over stored traces, as if they ran.

What a policy does not see, it can't use: a probe or an end is told when the clock of its
`pruning.policy_run` reaches it.  An aborted trace costs the ticks that it ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, NamedTuple

from pruning.evaluation.traces import Trace
from pruning.judge.ruling import Judge, hearing
from pruning.policy import Decided, Policy, PolicyError, Session
from pruning.policy_run import (
    END,
    MARK,
    STRETCH,
    Ask,
    Compare,
    Course,
    Due,
    Go,
    Hold,
    Open,
    Request,
)


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a policy came to on one question.

    Attributes:
        tokens: Written by all traces, aborted ones too, and what probes and the judge are charged.
        span: The clock at the end: the critical path.
        traces: How many were launched.
        probes: How many probes were answered.
        judged: How many pairs the judge was asked about.
        log: Every decision, with the number of observations before it.
        judge_tokens: Read by the judge's model.
        judge_seconds: That the judge took, as measured; equal runs differ in it.
    """

    answer: str | None
    reason: str
    tokens: int
    span: int
    traces: int
    probes: int
    judged: int
    log: tuple[Decided, ...]
    judge_tokens: int = 0
    judge_seconds: float = field(default=0.0, compare=False)


class _Timed(NamedTuple):
    """When something is due, in the order in which it is told."""

    at: int
    trace: int
    what: int
    tokens: int
    epoch: int


@dataclass(kw_only=True, slots=True)
class _Live:
    """A trace that runs; ``epoch`` tells what was due before its last pause."""

    stored: Trace
    length: int
    tick: int
    mark: int
    epoch: int = 0


@dataclass(kw_only=True)
class Replay:
    """One run over stored traces; `run` once.

    Attributes:
        stored: The traces, launched in this order.
        probe_every: At which multiples of tokens they were probed; 0 where they were not.
        probe_tokens: What one probe costs; the span is not charged, as a probe runs beside.
        judge_price: What a token costs that the judge reads, in tokens of the reasoning model.
    """

    policy: Policy[Any]
    stored: Sequence[Trace]
    probe_every: int = 0
    seed: int = 0
    judge: Judge | None = None
    probe_tokens: int = 0
    judge_price: float = 1.0
    judge_tokens: int = field(default=0, init=False)
    judge_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.session = Session(policy=self.policy, seed=self.seed)
        self._confident = "confidence" in self.policy.needs
        self._hearing = None if self.judge is None else hearing(self.judge)
        self._live: dict[int, _Live] = {}
        self._due: list[_Timed] = []

    def run(self) -> Replayed:
        """Advance the clock until the policy finishes.

        Raises:
            PolicyError: the policy needs what is not stored, or never finishes.
        """
        self._check()
        self.course = Course(session=self.session, most=len(self.stored), grid=self.probe_every)
        steps = self.course.run()
        reply: Any = None
        while True:
            try:
                reply = self._reply(steps.send(reply))
            except StopIteration:
                return self._conclude(self.course)

    def _check(self) -> None:
        stored = {
            "probes": self.probe_every > 0,
            "confidence": bool(self.probe_every)
            and all(t.confidences or t.tokens < self.probe_every for t in self.stored),
            "verifier": all(trace.score is not None for trace in self.stored),
            "judge": self.judge is not None,
        }
        for need in sorted(self.policy.needs):
            if not stored.get(need, False):
                raise PolicyError(
                    f"policy {self.policy.name!r} needs {need}, which these traces lack; "
                    "choose another, such as async"
                )

    def _reply(self, request: Request) -> Any:
        if request is None:
            return self._next()
        if isinstance(request, Ask):
            return self._probe(request)
        if isinstance(request, Open):
            self._open(request)
        elif isinstance(request, Compare):
            return self._compare(request)
        elif isinstance(request, Hold):
            self._live[request.trace].epoch += 1
        elif isinstance(request, Go):
            self._schedule(request.trace, self.course.written(request.trace))
        return None

    def _next(self) -> Due | None:
        while self._due:
            timed = heappop(self._due)
            live = self._live[timed.trace]
            if timed.trace not in self.course.live or live.epoch != timed.epoch:
                continue  # it was stopped or paused since
            if timed.what == STRETCH:
                return self._stretch(timed, live)
            if timed.what == MARK or live.length < live.stored.tokens:
                return Due(timed.trace, timed.what, timed.tokens, how="length")
            stored = live.stored
            return Due(timed.trace, END, timed.tokens, answer=stored.answer, score=stored.score)
        return None

    def _stretch(self, timed: _Timed, live: _Live) -> Due:
        following = timed.tokens + live.tick
        if following <= live.length:
            at = timed.at + live.tick
            heappush(self._due, _Timed(at, timed.trace, STRETCH, following, live.epoch))
        confidence = None
        if self._confident:
            stretch = timed.tokens // self.probe_every - 1
            if stretch < len(live.stored.confidences):
                confidence = live.stored.confidences[stretch]
        return Due(timed.trace, STRETCH, timed.tokens, confidence)

    def _probe(self, ask: Ask) -> str | None:
        """The probe stored for so many tokens; none was stored where it failed."""
        if not self.probe_every:
            return None
        count = ask.tokens // self.probe_every
        stored = self._live[ask.trace].stored.probes
        if ask.latest:
            return stored[:count][-1] if stored[:count] else None
        return stored[count - 1] if 0 < count <= len(stored) else None

    def _compare(self, compare: Compare) -> list[float]:
        if self._hearing is None:
            raise PolicyError(f"policy {self.policy.name!r} needs a judge; give one to the replay")
        others = [self.stored[other] for other in compare.others]
        rulings = self._hearing.ask(self.stored[compare.trace], others, compare.tokens)
        self.judge_tokens += sum(ruling.tokens for ruling in rulings)
        self.judge_seconds += sum(ruling.seconds for ruling in rulings)
        return [ruling.same for ruling in rulings]

    def _open(self, opened: Open) -> None:
        stored, launch = self.stored[opened.trace], opened.launch
        self._live[opened.trace] = _Live(
            stored=stored,
            length=min(stored.tokens, launch.limit or stored.tokens),
            tick=self.probe_every if self._confident else launch.probe_every,
            mark=launch.mark,
        )
        self._schedule(opened.trace, 0)

    def _schedule(self, trace: int, written: int) -> None:
        """Put on the clock what is due after ``written`` tokens."""
        live, start = self._live[trace], self.course.live[trace].start
        due = [(END, live.length)]
        if written < live.mark:
            due.append((MARK, live.mark))
        if live.tick:
            due.append((STRETCH, (written // live.tick + 1) * live.tick))
        for what, tokens in due:
            if tokens <= live.length:
                heappush(self._due, _Timed(start + tokens, trace, what, tokens, live.epoch))

    def _conclude(self, course: Course) -> Replayed:
        finish = self.session.finish
        assert finish is not None
        charged = course.probes * self.probe_tokens + round(self.judge_tokens * self.judge_price)
        return Replayed(
            answer=finish.answer,
            reason=finish.reason,
            tokens=course.tokens + charged,
            span=course.clock,
            traces=course.launched,
            probes=course.probes,
            judged=course.judged,
            log=tuple(self.session.log),
            judge_tokens=self.judge_tokens,
            judge_seconds=self.judge_seconds,
        )
