"""Running requests: checked, admitted, counted, and followed by a reader that may be slow."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace

import anyio

from protocol.http.admission import AdmissionControl
from protocol.http.contract.results import ReasoningResult
from protocol.http.control.quotas import Quotas
from protocol.http.errors import Refusal, as_refusal
from protocol.http.metrics import Metrics
from protocol.http.service import (
    BranchChosen,
    BranchEvent,
    BranchText,
    ReasoningRequest,
    RunPlan,
    RunStopped,
    Service,
)
from protocol.http.settings import ServerSettings

MOST_BUFFERED = 1 << 18
"""Characters of thoughts that are kept for a reader that is slower than the branches."""


class EventBuffer:
    """Holds a run's events until its reader takes them.

    A reader that is too slow gets fewer thoughts, never less of the answer; ``dropped`` counts the
    characters that it did not get.
    """

    def __init__(self, most: int = MOST_BUFFERED) -> None:
        self.dropped = 0
        self._most = most
        self._size = 0
        self._events: list[BranchEvent] = []
        self._news = anyio.Event()
        self._closed = anyio.Event()

    def put(self, event: BranchEvent) -> None:
        """Take one event, without waiting."""
        if isinstance(event, BranchText):
            size = len(event.text)
            if self._size + size > self._most:
                self.dropped += size
                return
            self._size += size
        self._events.append(event)
        self._news.set()

    def close(self) -> None:
        """No more events will come."""
        self._closed.set()
        self._news.set()

    async def take(self, wait_s: float) -> Sequence[BranchEvent] | None:
        """All events so far; none after ``wait_s`` seconds of silence; None after the last."""
        if not self._events and not self._closed.is_set():
            self._news = anyio.Event()
            with anyio.move_on_after(wait_s):
                await self._news.wait()
        events, self._events, self._size = self._events, [], 0
        return None if self._closed.is_set() and not events else events

    async def batches(self, gather_s: float) -> AsyncIterator[Sequence[BranchEvent]]:
        """All events until the last, those of ``gather_s`` seconds at a time."""
        while (events := await self.take(float("inf"))) is not None:
            yield events
            with anyio.move_on_after(gather_s):
                await self._closed.wait()


def texts_by_branch(events: Iterable[BranchEvent]) -> dict[str, str]:
    """What each branch wrote, in the order in which they began to."""
    texts: dict[str, str] = {}
    for event in events:
        if isinstance(event, BranchText):
            texts[event.branch] = texts.get(event.branch, "") + event.text
    return texts


@dataclass(frozen=True, kw_only=True)
class CheckedRequest:
    """A request that can be answered.

    Attributes:
        width: The most branches that its key may have; None for no limit.
        caller: Whose it is, for the quota that it is charged to.
        arrived: When it came, by the monotonic clock.
    """

    request: ReasoningRequest
    plan: RunPlan
    width: int | None = None
    caller: str = ""
    arrived: float = field(default_factory=time.monotonic)

    @property
    def wanted(self) -> int:
        """How many branches are to be admitted."""
        return min(self.plan.width, self.width or self.plan.width)

    @property
    def left_s(self) -> float:
        """The seconds until its deadline."""
        return (self.request.options.timeout or float("inf")) + self.arrived - time.monotonic()


class RunningRequest:
    """A request that is being answered, with the events of its branches.

    Attributes:
        first: When its first token came, in seconds since its start.
        settled: When its answer was chosen.
        stopped: Its cost, where it was stopped because nobody waits for it.
    """

    def __init__(self) -> None:
        self.events = EventBuffer()
        self.first: float | None = None
        self.settled: float | None = None
        self.stopped: ReasoningResult | None = None
        self._started = time.monotonic()
        self._end: ReasoningResult | Exception | None = None

    @property
    def seconds(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._started

    @property
    def cost(self) -> ReasoningResult | None:
        """Its result, or what it cost until it was stopped; None where it failed."""
        return self._end if isinstance(self._end, ReasoningResult) else self.stopped

    @property
    def result(self) -> ReasoningResult:
        """The result of a run that has ended; raises what ended it otherwise."""
        assert self._end is not None
        if isinstance(self._end, Exception):
            raise self._end
        return self._end

    async def work(self, service: Service, request: ReasoningRequest, width: int) -> None:
        """Answer the request, and keep what came of it."""
        try:
            self._end = await service.answer(request, self._hear, width=width)
        except Exception as error:
            self._end = error
        finally:
            self.settled = self.seconds if self.settled is None else self.settled
            self.events.close()

    def _hear(self, event: BranchEvent) -> None:
        if isinstance(event, RunStopped):
            self.stopped = event.result
        elif isinstance(event, BranchText) and self.first is None:
            self.first = self.seconds
        elif isinstance(event, BranchChosen) and self.settled is None:
            self.settled = self.seconds
        self.events.put(event)


class RequestRunner:
    """Runs the requests of all interfaces of one server, under the same limits and metrics."""

    def __init__(self, service: Service, settings: ServerSettings) -> None:
        self.service = service
        self.admission = AdmissionControl(
            settings.max_concurrent, settings.max_queued, settings.max_branches
        )
        self.metrics = Metrics(service, self.admission)
        self._settings = settings
        self._quotas = Quotas(settings.keys.limits if settings.keys else {})

    def check(self, request: ReasoningRequest, caller: str = "") -> CheckedRequest:
        """The request within the limits of the server and of ``caller``, if it can be answered.

        Raises:
            ReasonError: by its leaf, why it can't.
        """
        given, most = request.options, self._settings.timeout
        options = replace(given, timeout=min(given.timeout or most, most))
        request = replace(request, options=options, plain=self._is_plain(request))
        plan = self.service.check(request)
        limits = self._quotas.of(caller).limits
        if plan.policy and limits.policies is not None and plan.policy not in limits.policies:
            known = ", ".join(sorted(limits.policies))
            message = f"policy: this key may use {known}, not {plan.policy}"
            raise Refusal(403, "policy_not_allowed", message, param="policy")
        return CheckedRequest(request=request, plan=plan, width=limits.width, caller=caller)

    def _is_plain(self, request: ReasoningRequest) -> bool:
        """Whether one sample will do, by the server's settings."""
        most = request.options.max_tokens
        short = most is not None and most <= self._settings.plain_tokens
        return short or request.variant in self._settings.plain_models

    @contextmanager
    def counted(self, endpoint: str) -> Iterator[None]:
        """Count a request by its status: 200, that of its refusal, or 499 if it was abandoned.

        Raises:
            Refusal: the block failed.
        """
        status = 499
        try:
            yield
            status = 200
        except Exception as error:
            problem = as_refusal(error)
            status = problem.status
            raise problem from None
        finally:
            self.metrics.requests.labels(endpoint, status).inc()

    @asynccontextmanager
    async def running(self, checked: CheckedRequest) -> AsyncIterator[RunningRequest]:
        """Answer a checked request beside the block; leaving the block waits for the end.

        Raises:
            Refusal: there is no place for it, or none before its deadline.
            Exception: the run failed; this is raised when the block has ended.
        """
        quota, plan = self._quotas.of(checked.caller), checked.plan
        quota.check()
        place = self.admission.admitted(checked.wanted, elastic=plan.elastic, within=checked.left_s)
        async with place as width:
            queued = time.monotonic() - checked.arrived
            options = replace(checked.request.options, timeout=max(0.01, checked.left_s))
            request = replace(checked.request, options=options)
            run = RunningRequest()
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(run.work, self.service, request, width)
                    yield run
            finally:
                cost = run.cost
                if cost is not None:
                    quota.charge(cost.billed_tokens + cost.completion_tokens)
                    self.metrics.account(
                        *(request.variant.partition(":")[0], plan, cost),
                        abandoned=run.stopped is not None,
                        run=run.seconds,
                        first=run.first,
                        settled=run.settled,
                        queued=queued,
                    )
            _ = run.result
