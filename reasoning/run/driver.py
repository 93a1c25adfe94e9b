"""A policy over traces that a model writes now: the driver of a `pruning.policy_run` on a backend.

What a policy is told, and in which order, follows from the traces alone and never from timing: a
trace's tokens are its clock, and something is told once no running trace can still come before it.
On a backend that can hold threads they are held where something is due.  Where they can advance in
a gang as well, that pauses at an end, so that a stop wastes nothing; elsewhere none writes more
than a lease of tokens ahead of the slowest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread

from orchestrator import Event
from orchestrator.errors import InvalidValue
from pruning import (
    Judge,
    JudgeSession,
    LoggedDecision,
    Policy,
    PolicyError,
    PolicySession,
    Scorer,
    Tally,
    Trace,
    open_judge,
)
from pruning.policy_run import (
    CloseTrace,
    JudgePairs,
    PauseTrace,
    PolicyRun,
    ProbeTrace,
    Request,
    ResumeTrace,
    StartTrace,
    TraceEvent,
)
from reasoning.errors import CapabilityMissing
from reasoning.run.run import Run, scorer_name
from reasoning.run.solution import Steering
from reasoning.run.thread import Thread
from reasoning.run.trace import SteeredTrace
from reasoning.values.capabilities import Capability
from reasoning.values.context import Context, Gang

GRID = 8
"""Tokens between observations of a running trace; probes are rounded up to a multiple."""
LEASE = 64
"""How many tokens a trace may be ahead of the slowest that has begun, where no gang holds it."""
GRAIN = 32
"""Ticks after which a lease is renewed."""
CONFIDENCE = 20
"""Over so many of the likeliest tokens; DeepConf's k, and what servers give at most."""
NEEDED: dict[str, frozenset[Capability]] = {
    "probes": frozenset({"prefix-sharing"}),
    "confidence": frozenset({"confidence"}),
}


@dataclass(frozen=True, kw_only=True)
class PolicyDecided(Event):
    """The run's policy decided something; ``task`` is the trace's, empty where it is of the run.

    Attributes:
        clock: The tick of the run, in tokens.
        decided: What, why, and after how many observations.
    """

    policy: str
    clock: int
    decided: LoggedDecision


@dataclass(kw_only=True)
class Driver:
    """Steers the traces of one run; call `steer` once, inside the run's graph.

    Attributes:
        judge: Asked by policies that need one.
        traces: Every trace launched, by its number.
    """

    run: Run
    policy: Policy[Any]
    judge: Judge | None = None
    traces: list[SteeredTrace] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._check()
        self._session = PolicySession(policy=self.policy, seed=self.run.seed)
        self._policy_run = PolicyRun(session=self._session, probe_every=self._probing and GRID)
        self._prompt = self.run.dialect.prompt(self.run.problem)
        self._scorer: Scorer | None = self.run.scorer if "score" in self.policy.needs else None
        self._confidence = CONFIDENCE if "confidence" in self.policy.needs else 0
        self._judge_session: JudgeSession | None = open_judge(self.judge) if self.judge else None
        can = self.run.backend.capabilities
        self._gang = Gang(size=0) if {"holding", "live-contexts"} <= can else None
        leased = "holding" in can and self._gang is None and not self.policy.patient
        self._grain = GRAIN if leased else 0
        self._news = anyio.Event()
        self._impatient = False
        self._told = 0
        self._judge_tokens = 0

    def _check(self) -> None:
        """Refuse a policy that needs something that this run lacks."""
        capabilities = self.run.backend.capabilities
        self._probing = bool(NEEDED["probes"] <= capabilities)
        unverified = self.run.problem.verify("") is None
        for need in sorted(self.policy.needs):
            if need == "score" and unverified and self.run.scorer is None:
                raise CapabilityMissing(
                    f"policy {self.policy.name!r} needs a scorer, as this problem has no verifier; "
                    "give scorer=path.py:Name or scorer=URL with the policy"
                )
            missing = NEEDED.get(need, frozenset()) - capabilities
            lacks = {
                "judge": self.judge is None,
                "verifier": unverified,
                "target": True,
            }.get(need, bool(missing))
            if lacks:
                raise CapabilityMissing(
                    f"policy {self.policy.name!r} needs {', '.join(sorted(missing)) or need}, "
                    "which this run lacks; choose another, such as async"
                )

    async def steer(self) -> Steering:
        """Launch, watch, stop and finish as the policy decides.

        Raises:
            InvalidValue: the policy asks for what can't be, or never finishes.
        """
        steps, reply = self._policy_run.run(), None
        try:
            while True:
                request = steps.send(reply)
                self._report()
                reply = await self._reply(request)
        except StopIteration:
            self._report()
            self._release()
            return self._conclude()
        except PolicyError as error:
            raise InvalidValue(str(error)) from error
        finally:
            self._prompt = Context()  # who keeps the driver keeps nothing stored

    def _report(self) -> None:
        """Emit an event for each decision since the last call."""
        log = self._session.log
        for decided in log[self._told :]:
            number = getattr(decided.decision, "trace", None)
            task = "" if number is None else self.traces[number].task.id
            label, clock = self.policy.label, self._policy_run.clock
            event = PolicyDecided(task=task, policy=label, clock=clock, decided=decided)
            self.run.graph.events.emit(event)
        self._told = len(log)

    async def _reply(self, request: Request) -> Any:
        """Carry out a request of the policy's run; returns the result."""
        match request:
            case None:
                return await self._next()
            case StartTrace():
                self._open(request)
            case ProbeTrace():
                await self._reached(request.trace, request.tokens)
                return await self.traces[request.trace].probe(request.tokens)
            case JudgePairs():
                return await self._compare(request)
            case CloseTrace():
                await self._close(request.trace, request.tokens)
            case PauseTrace():
                await self._reached(request.trace, self._policy_run.written(request.trace))
                self.traces[request.trace].pause()
            case ResumeTrace():
                pass  # it is released with the others
        return None

    async def _reached(self, number: int, tokens: int) -> None:
        """Wait for what a trace has written by the clock; it is one token late at most."""
        while not self.traces[number].has_written(tokens):
            self._impatient, self._news = True, anyio.Event()
            await self._news.wait()

    async def _close(self, number: int, tokens: int) -> None:
        """Stop a trace; at the end of the run, those that end at its last tick vote as well."""
        if self._session.finish is None:
            self.traces[number].stop(tokens, how="stopped")
        else:
            await self._reached(number, tokens)
            self.traces[number].stop(tokens, how=None)

    def _open(self, opened: StartTrace) -> None:
        trace = SteeredTrace(
            run=self.run,
            news=self._news_of_trace,
            number=opened.trace,
            start_tick=self._policy_run.clock,
            launch=opened.launch,
            every=GRID if self._confidence else opened.launch.probe_every,
            confidence=self._confidence,
            gang=self._gang,
            grain=self._grain,
            patient=self.policy.patient,
            scorer=self._scorer,
        )
        self.traces.append(trace)
        trace.start(self._prompt)

    # The clock.

    def _news_of_trace(self, due: bool) -> None:
        """A trace wrote a token, after which something may be ``due`` of it."""
        if due or self._impatient:
            self._news.set()

    async def _next(self) -> TraceEvent | None:
        """What is due next, once nothing can come before it."""
        while True:
            trace = self._certain()
            if trace is not None:
                self._impatient = False
                return trace.due.popleft()
            if not self._policy_run.running:
                return None
            self._release()
            self._news = anyio.Event()
            await self._news.wait()

    def _running(self) -> Iterator[tuple[int, SteeredTrace]]:
        """Every trace that does not stand still, and when it started."""
        for number, live in self._policy_run.running.items():
            if live.paused_at is None:
                yield live.start, self.traces[number]

    def _certain(self) -> SteeredTrace | None:
        """The trace of which something is due before all others, if that is certain."""
        due: list[tuple[int, int]] = []
        ahead: list[tuple[int, int]] = []
        for start, trace in self._running():
            if trace.due:
                due.append((start + trace.due[0].tokens, trace.number))
            else:
                ahead.append((start + trace.written + 1, trace.number))
        self._impatient = bool(due)
        if not due or min(ahead, default=min(due)) < min(due):
            return None
        return self.traces[min(due)[1]]

    def _release(self) -> None:
        """Let traces write on, up to the token at which something is due next of any of them.

        One that waits for a slot holds up nobody's lease: it may be others who have the slots.
        """
        running = list(self._running())
        ahead = [start + trace.next_due for start, trace in running if trace.next_due]
        begun = [start + trace.written for start, trace in running if trace.begun]
        if self._grain and begun:
            ahead.append(min(begun) // GRAIN * GRAIN + LEASE)
        horizon = min(ahead, default=None)
        for start, trace in running:
            trace.allow(None if horizon is None else horizon - start)
        for trace in self.traces:
            trace.let_go()

    # What a policy asks.

    async def _compare(self, compare: JudgePairs) -> list[float]:
        assert self._judge_session is not None
        one, *others = (
            Trace(tokens=compare.tokens, answer=None, text=self.traces[number].text)
            for number in (compare.trace, *compare.others)
        )
        ask = self._judge_session.ask
        judgements = await anyio.to_thread.run_sync(ask, one, others, compare.tokens)
        self._judge_tokens += sum(judgement.tokens for judgement in judgements)
        return [judgement.same for judgement in judgements]

    # The end.

    def _conclude(self) -> Steering:
        finish = self._session.finish
        assert finish is not None
        for trace in self.traces:
            trace.conclude()
        every = getattr(self.policy, "probe_every", 0)
        if every and not self._probing and any(one.written >= every for one in self.traces):
            self.run.emulated.add("without-probes")
        finished = self._policy_run
        return Steering(
            policy=self.policy.label,
            seed=self.run.seed,
            grid=GRID,
            clock=finished.clock,
            tokens=finished.tokens,
            probes=finished.probes,
            probe_tokens=sum(trace.probe_tokens for trace in self.traces),
            judged=finished.judged,
            judge_tokens=self._judge_tokens,
            finish=finish,
            log=tuple(self._session.log),
            most=getattr(self.policy, "most", None),
            scorer=self._scored_by,
            timing_dependent=not (self.run.backend.exact or self.policy.patient),
        )

    @property
    def _scored_by(self) -> str | None:
        """Who scores the traces, where the policy goes by scores."""
        if not {"score", "verifier"} & self.policy.needs:
            return None
        return scorer_name(self._scorer)

    @property
    def voting(self) -> list[Thread]:
        """The threads of traces that vote."""
        return [trace.thread for trace in self.traces if trace.votes and trace.thread]

    def tally(self) -> Tally:
        """The votes of traces that ended by themselves, and of what was probed of the others."""
        cast = [trace.vote for trace in self.traces if trace.votes]
        counts = {vote: cast.count(vote) for vote in cast if vote is not None}
        finish = self._session.finish
        winner = finish.answer if finish else None
        if winner is not None:
            counts.setdefault(winner, 0)
        return Tally(
            winner=winner,
            votes=dict(sorted(counts.items(), key=lambda item: -item[1])),
            abstained=cast.count(None),
        )
