"""Running requests: checked, admitted, counted, and followed by a reader that may be slow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import anyio

from protocol.http.admission import AdmissionControl
from protocol.http.errors import as_refusal
from protocol.http.metrics import Metrics
from protocol.http.service import (
    BranchEvent,
    BranchText,
    ReasoningRequest,
    ReasoningResult,
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


class RunningRequest:
    """A request that is being answered, with the events of its branches."""

    def __init__(self) -> None:
        self.events = EventBuffer()
        self._end: ReasoningResult | Exception | None = None

    @property
    def result(self) -> ReasoningResult:
        """The result of a run that has ended; raises what ended it otherwise."""
        assert self._end is not None
        if isinstance(self._end, Exception):
            raise self._end
        return self._end

    async def work(self, service: Service, request: ReasoningRequest) -> None:
        """Answer the request, and keep what came of it."""
        try:
            self._end = await service.answer(request, self.events.put)
        except Exception as error:
            self._end = error
        finally:
            self.events.close()


class RequestRunner:
    """Runs the requests of all interfaces of one server, under the same limits and metrics."""

    def __init__(self, service: Service, settings: ServerSettings) -> None:
        self.service = service
        self.admission = AdmissionControl(settings.max_concurrent, settings.max_queued)
        self.metrics = Metrics(service, self.admission)
        self._timeout = settings.timeout

    def check(self, request: ReasoningRequest) -> ReasoningRequest:
        """The request within the server's time limit, if it can be answered.

        Raises:
            ReasonError: by its leaf, why it can't.
        """
        limit = min(request.options.timeout or self._timeout, self._timeout)
        request = replace(request, options=replace(request.options, timeout=limit))
        self.service.check(request)
        return request

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
    async def running(self, request: ReasoningRequest) -> AsyncIterator[RunningRequest]:
        """Answer a checked request beside the block; leaving the block waits for the end.

        Raises:
            Refusal: there is no place for it.
            Exception: the run failed; this is raised when the block has ended.
        """
        run = RunningRequest()
        async with self.admission.admitted():
            with self.metrics.timed(request.variant) as account:
                async with anyio.create_task_group() as group:
                    group.start_soon(run.work, self.service, request)
                    yield run
                account(run.result)
