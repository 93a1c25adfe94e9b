"""Replay: run a policy over stored traces as if they were being written.

The policy sees a probe or an end only when the clock of the `PolicyRun` reaches it, so it can't
use what is still to come.  An aborted trace costs the ticks that it ran.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, NamedTuple

from pruning.evaluation.traces import Trace
from pruning.judge.session import Judge, open_judge
from pruning.policy import LoggedDecision, Policy, PolicyError, PolicySession
from pruning.policy_run import (
    END,
    INTERVAL,
    MARK,
    JudgePairs,
    PauseTrace,
    PolicyRun,
    ProbeTrace,
    ResumeTrace,
    StartTrace,
    TraceEvent,
)


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """The outcome of a policy on one question.

    Attributes:
        tokens: Written by all traces, aborted ones included, plus the price of probes and judge.
        span: The clock at the end, in tokens: the critical path.
        traces: How many were launched.
        probes: How many probes were answered.
        judged: How many pairs the judge was asked about.
        log: Every decision, with the number of observations before it.
        traces_missing: How many more the policy would have launched, had they been stored; at most
            so many where it launched all that are.
        judge_tokens: Read by the judge's model.
        judge_seconds: Measured time of the judge; it may differ between equal runs.
    """

    answer: str | None
    reason: str
    tokens: int
    span: int
    traces: int
    probes: int
    judged: int
    log: tuple[LoggedDecision, ...]
    judge_tokens: int = 0
    judge_seconds: float = field(default=0.0, compare=False)
    traces_missing: int = 0


class _Scheduled(NamedTuple):
    """A `TraceEvent` on the clock; the order of these tuples is the order in which they happen."""

    at: int
    trace: int
    kind: int
    tokens: int
    epoch: int


@dataclass(kw_only=True, slots=True)
class _ReplayedTrace:
    """A trace that was started.

    Attributes:
        length: Tokens that it writes at most.
        interval: Tokens between its observations; 0 for none.
        epoch: Counts pauses; events scheduled in an earlier epoch are void.
    """

    stored: Trace
    length: int
    interval: int
    mark: int
    epoch: int = 0


@dataclass(kw_only=True)
class Replay:
    """One run of a policy over stored traces; call `run` once.

    Attributes:
        stored: The traces, launched in this order.
        probe_every: They were probed at multiples of this many tokens; 0 where they were not.
        probe_tokens: The price of a probe; the span is not charged, as probes run in parallel.
        judge_price: The price of a token that the judge reads, in tokens of the reasoning model.
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
        self.session = PolicySession(policy=self.policy, seed=self.seed)
        self._needs_confidence = "confidence" in self.policy.needs
        self._judge_session = None if self.judge is None else open_judge(self.judge)
        self._started: dict[int, _ReplayedTrace] = {}
        self._events: list[_Scheduled] = []

    def run(self) -> Replayed:
        """Advance the clock until the policy finishes.

        Raises:
            PolicyError: the policy needs what is not stored, or never finishes.
        """
        self._check()
        self.policy_run = PolicyRun(
            session=self.session, max_traces=len(self.stored), probe_every=self.probe_every
        )
        send, handlers = self.policy_run.run().send, self._handlers()
        reply: Any = None
        try:
            while True:
                request = send(reply)
                if request is None:
                    reply = self._next()
                else:
                    handler = handlers.get(type(request))
                    reply = None if handler is None else handler(request)
        except StopIteration:
            return self._conclude(self.policy_run)

    def _handlers(self) -> dict[type, Callable[[Any], Any]]:
        """What each kind of request is answered by; a trace that is closed is forgotten."""
        return {
            ProbeTrace: self._probe,
            StartTrace: self._open,
            JudgePairs: self._compare,
            PauseTrace: self._pause,
            ResumeTrace: self._resume,
        }

    def _check(self) -> None:
        if not self.policy.needs:
            return
        scored = all(t.score is not None or t.answer is None for t in self.stored)
        stored = {
            "probes": bool(self.probe_every)
            and (any(t.probes for t in self.stored) or self._shorter(self.stored)),
            "confidence": bool(self.probe_every)
            and all(t.confidences or t.tokens < self.probe_every for t in self.stored),
            "verifier": scored,
            "score": scored,
            "judge": self.judge is not None,
        }
        for need in sorted(self.policy.needs):
            if not stored.get(need, False):
                name = self.policy.name
                raise PolicyError(
                    f"policy {name!r} needs {need}, which these traces lack; choose async or so"
                )

    def _shorter(self, traces: Sequence[Trace]) -> bool:
        """Whether no trace is so long that it would have been probed."""
        return all(trace.tokens < self.probe_every for trace in traces)

    def _pause(self, request: PauseTrace) -> None:
        self._started[request.trace].epoch += 1

    def _resume(self, request: ResumeTrace) -> None:
        self._schedule(request.trace, self.policy_run.written(request.trace))

    def _next(self) -> TraceEvent | None:
        while self._events:
            event = heappop(self._events)
            trace = self._started[event.trace]
            if event.trace not in self.policy_run.running or trace.epoch != event.epoch:
                continue  # it was stopped or paused since
            if event.kind == INTERVAL:
                return self._interval(event, trace)
            if event.kind == MARK or trace.length < trace.stored.tokens:
                return TraceEvent(event.trace, event.kind, event.tokens, how="length")
            answer, score = trace.stored.answer, trace.stored.score
            return TraceEvent(event.trace, END, event.tokens, answer=answer, score=score)
        return None

    def _interval(self, event: _Scheduled, trace: _ReplayedTrace) -> TraceEvent:
        following = event.tokens + trace.interval
        if following <= trace.length:
            at = event.at + trace.interval
            heappush(self._events, _Scheduled(at, event.trace, INTERVAL, following, trace.epoch))
        confidence = None
        if self._needs_confidence:
            index = event.tokens // self.probe_every - 1
            if index < len(trace.stored.confidences):
                confidence = trace.stored.confidences[index]
        return TraceEvent(event.trace, INTERVAL, event.tokens, confidence)

    def _probe(self, ask: ProbeTrace) -> str | None:
        """The probe stored for this many tokens; None where none was stored."""
        if not self.probe_every:
            return None
        count = ask.tokens // self.probe_every
        stored = self._started[ask.trace].stored.probes
        if ask.latest:
            return stored[:count][-1] if stored[:count] else None
        return stored[count - 1] if 0 < count <= len(stored) else None

    def _compare(self, compare: JudgePairs) -> list[float]:
        if self._judge_session is None:
            raise PolicyError(f"policy {self.policy.name!r} needs a judge; give one to the replay")
        others = [self.stored[other] for other in compare.others]
        judgements = self._judge_session.ask(self.stored[compare.trace], others, compare.tokens)
        self.judge_tokens += sum(judgement.tokens for judgement in judgements)
        self.judge_seconds += sum(judgement.seconds for judgement in judgements)
        return [judgement.same for judgement in judgements]

    def _open(self, opened: StartTrace) -> None:
        stored, launch = self.stored[opened.trace], opened.launch
        self._started[opened.trace] = _ReplayedTrace(
            stored=stored,
            length=min(stored.tokens, launch.limit or stored.tokens),
            interval=self.probe_every if self._needs_confidence else launch.probe_every,
            mark=launch.mark,
        )
        self._schedule(opened.trace, 0)

    def _schedule(self, number: int, written: int) -> None:
        """Put on the clock what happens to a trace after ``written`` tokens."""
        trace, start = self._started[number], self.policy_run.running[number].start
        length, epoch = trace.length, trace.epoch
        heappush(self._events, _Scheduled(start + length, number, END, length, epoch))
        if written < trace.mark <= length:
            heappush(self._events, _Scheduled(start + trace.mark, number, MARK, trace.mark, epoch))
        if trace.interval:
            tokens = (written // trace.interval + 1) * trace.interval
            if tokens <= length:
                heappush(self._events, _Scheduled(start + tokens, number, INTERVAL, tokens, epoch))

    def _conclude(self, policy_run: PolicyRun) -> Replayed:
        finish = self.session.finish
        assert finish is not None
        charged = policy_run.probes * self.probe_tokens
        charged += round(self.judge_tokens * self.judge_price)
        return Replayed(
            answer=finish.answer,
            reason=finish.reason,
            tokens=policy_run.tokens + charged,
            span=policy_run.clock,
            traces=policy_run.launched,
            probes=policy_run.probes,
            judged=policy_run.judged,
            log=tuple(self.session.log),
            judge_tokens=self.judge_tokens,
            judge_seconds=self.judge_seconds,
            traces_missing=self._missing(policy_run),
        )

    def _missing(self, policy_run: PolicyRun) -> int:
        most, stored = self.policy.most, len(self.stored)
        wanted = most if most is not None and policy_run.launched == stored else 0
        return max(policy_run.refused, wanted - stored, 0)
