"""Runs what is ready: workers, attempts, waiting for other tasks, and time limits."""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from orchestrator.budgets import current_budget, set_budget
from orchestrator.calls import call
from orchestrator.errors import (
    BudgetExhausted,
    InvalidValue,
    ReasonError,
    TaskAborted,
    told,
    unwrapped,
    with_note,
)
from orchestrator.events import AttemptFailed, EventStream, TaskProgressed, TaskStarted
from orchestrator.node import Node, current_node
from orchestrator.scheduler import limit_messages as limits
from orchestrator.scheduler.cancellation import absorb_cancellation, forget_cancellation
from orchestrator.scheduler.ready_queue import ReadyQueue
from orchestrator.scheduler.retries import Retry
from orchestrator.scheduler.states import States
from orchestrator.views.record import TaskState

R = TypeVar("R")
Tokens = Sequence[tuple[contextvars.ContextVar[Any], contextvars.Token[Any]]]

SLICE_S = 0.005
"""How long tasks that never wait may keep the event loop before it gets its turn."""


class Scheduler(States):
    """Runs the tasks of one graph.

    Workers take tasks from the queue one after the other.  A worker that has taken a task
    summons the next one if more are ready; it comes when the first has to wait.  Tasks that never
    wait are thus run in one go by one worker, and each that waits has a worker of its own.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        events: EventStream,
        queue: ReadyQueue,
        *,
        seed: int,
        threads: int,
    ) -> None:
        super().__init__(events, queue)
        self.threads = anyio.CapacityLimiter(threads)
        self.in_thread: set[Node] = set()
        """Those whose function runs in a thread."""
        self.interrupted: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None
        self._nodes = nodes
        self._rng = random.Random(seed)
        self._group: TaskGroup | None = None
        self._context = contextvars.Context()
        self._new_scope = anyio.CancelScope
        """In a run, asyncio's own class: to look for it in each attempt is a tenth of the cost."""
        self.began = 0.0
        self._plain: contextvars.Context | None = None
        """A context in which nothing differs from that of the run; most tasks have one equal."""
        self._breath = 0.0
        self._active = 0  # attempts that run and do not wait for other tasks
        self._summoned = False
        self._alarm: asyncio.TimerHandle | None = None

    # ---- the run -------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began if self.began else 0.0

    def enter(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on, the graph belongs to this thread and its event loop."""
        self._loop, self._thread = loop, threading.get_ident()

    def here(self, do: Callable[..., R], *args: object) -> R:
        """Call ``do(*args)`` on the event loop, from whatever thread; return what it returns."""
        loop = self._loop
        if loop is None or self._thread == threading.get_ident():
            return do(*args)
        done: Future[R] = Future()

        def run() -> None:
            try:
                done.set_result(do(*args))
            except BaseException as error:  # whoever asked gets it, not the event loop
                done.set_exception(error)

        loop.call_soon_threadsafe(run, context=contextvars.copy_context())
        return done.result()

    @property
    def running(self) -> bool:
        """Whether the run has begun and not ended."""
        return self._group is not None

    def start(self, group: TaskGroup) -> None:
        """Begin the run, its workers in ``group``."""
        self.began = self._breath = time.monotonic()
        self._context = contextvars.copy_context()
        self._new_scope = type(anyio.CancelScope())
        self._group = group
        for node in self._not_ended():
            if node.state == "ready":
                self.watch_queueing(node)
        self.pump()

    def beside(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a function beside the tasks, until it ends or the run is cancelled."""
        if self._group is not None:
            start = self._group.start_soon
            self._context.copy().run(lambda: start(function))

    async def drained(self) -> None:
        """Wait until every task has ended."""
        while self.unfinished:
            self._drained = anyio.Event()
            self.look_for_stall()
            await self._drained.wait()

    def stop(self) -> None:
        """End the run; what has not ended is cancelled, children first."""
        self.timers.clear()
        for node in reversed(self._not_ended()):
            if not node.ended:
                self.finish(node, "cancelled")
        self._group = self._loop = None

    # ---- workers -------------------------------------------------------------------------------

    def pump(self) -> None:
        """Make sure that somebody comes for what is ready."""
        if self._group is not None and not self._summoned and self.queue.slots > 0 and self.queue:
            self._summoned = True
            self.beside(self._work)

    async def _work(self) -> None:
        self._summoned = False
        clean = contextvars.copy_context()
        worker = asyncio.current_task()
        while (place := self.queue.pop()) is not None:
            if place.resume is not None:
                place.resume.set()
                continue
            if place.node.budget is not None and not self._reserve(place.node):
                continue
            self.pump()
            await self._attempt(place.node)
            if worker is not None and worker.cancelling():
                await absorb_cancellation()
            if contextvars.copy_context() != clean:  # the function left something behind
                self.pump()
                return
            if time.monotonic() - self._breath > SLICE_S:
                self.pump()
                await anyio.lowlevel.checkpoint()
                self._breath = time.monotonic()
        if self.queue:
            self._come_again()
        self.look_for_stall()

    def _come_again(self) -> None:
        """Look again when time alone may have freed what lacks."""
        wait = self.queue.free_in()
        if wait < math.inf:
            self.timers.forget(self._alarm)
            self._alarm = self.timers.after(wait, self.pump)

    def _reserve(self, node: Node) -> bool:
        """Whether the task's budget grants what it needs; if not now, it waits for a release."""
        budget = node.budget
        assert budget is not None
        try:
            amounts = {"tasks": 1, **(node.settings.reserve or {})}
            node.reservation = budget.try_reserve(**amounts)
        except ReasonError as error:
            self.queue.give_back(node)
            node.error = error
            exhausted = isinstance(error, BudgetExhausted)
            self.finish(node, "cancelled" if exhausted else "failed")
            return False
        if node.reservation is None:
            self.queue.give_back(node)
            node.state = "waiting"
            self.starved[node] = None
            budget.on_release(self.feed)
            return False
        self.spend(node, tasks=1)
        return True

    async def _attempt(self, node: Node) -> None:
        tokens = self._enter_context(node)
        inside = current_node.set(node)
        self._begin(node)
        state: TaskState = "cancelled"
        try:
            with node.scope:  # type: ignore[union-attr]
                node.value = await call(node)
                state = "succeeded"
        except BaseException as error:
            state = self._raised(node, error)
        finally:
            current_node.reset(inside)
            for variable, token in reversed(tokens):
                variable.reset(token)
            self._over(node, state)

    def _enter_context(self, node: Node) -> Tokens:
        """Give this code the context variables of the place that added the task; how to undo it."""
        same = node.context == self._plain
        if same and current_budget() is node.budget:
            return ()
        tokens = []
        if not same:
            for variable, value in node.context.items():
                if variable is not current_node and variable.get(_NONE) is not value:
                    tokens.append((variable, variable.set(value)))
            if not tokens:
                self._plain = node.context
        if current_budget() is not node.budget:
            tokens.append(set_budget(node.budget))
        return tokens

    def _raised(self, node: Node, error: BaseException) -> TaskState:
        """The state of a task whose function raised; what is meant for the run goes on to it."""
        if isinstance(error, Exception):
            node.error = unwrapped(error)
        elif isinstance(error, asyncio.CancelledError) and anyio.current_effective_deadline() < 0:
            raise error
        elif isinstance(error, (asyncio.CancelledError, SystemExit, GeneratorExit)):
            forget_cancellation()
            node.error = TaskAborted(
                f"{node.label} raised {error!r}, which nobody had asked for; "
                "raise an error of your own instead"
            )
            node.error.__cause__ = error
        else:
            self.interrupt(error)
            return "cancelled"
        assert node.error is not None
        arguments = told(node.args, 200)
        number = len(node.attempts) + 1
        with_note(node.error, f"{node.label}, attempt {number}, called with {arguments}")
        return "failed"

    def interrupt(self, error: BaseException) -> None:
        """Stop the run by what is no task's affair, such as KeyboardInterrupt."""
        self.interrupted = self.interrupted or error
        self.journal = None  # what is cancelled now has not ended
        if self._group is not None:
            self._group.cancel_scope.cancel()

    def _begin(self, node: Node) -> None:
        node.state = "running"
        node.started_at = node.clock_at = time.monotonic()
        node.scope = self._new_scope()
        self._active += 1
        if node.settings.timeout is not None or node.budget is not None:
            self.timers.forget(node.queue_timer)
            self.progressed(node)
        if self.events.heard:
            self.tell_all(TaskStarted, node.id, attempt=len(node.attempts) + 1)

    def _over(self, node: Node, state: TaskState) -> None:
        """The function has returned, raised or been cancelled."""
        self._active -= 1
        self.queue.give_back(node)
        if node.reservation is not None:
            node.reservation.settle()
        now = node.count_time()
        if node.settings.resources and state != "cancelled":
            self.queue.heard(node, failed=state == "failed")
        if state != "succeeded" or node.cancel_asked:
            state = self._unusual(node, state, now)
        else:
            node.error = None
            if self.journal is not None:
                state = self._written(node)
        error = None if state != "failed" else told(node.error)
        node.attempts += ((node.started_at, now, error),)
        if state == "failed" and self._again(node):
            return
        node.scope = None
        node.outcome = state
        if not node.unended:
            self.finish(node, state)
            return
        if state != "succeeded":
            self._drop_children(node)
        self.pump()
        self.look_for_stall()

    def _drop_children(self, node: Node) -> None:
        """Cancel the children of an attempt that is over."""
        if self.journal is not None and node.children:
            self.journal.attempted(node, len(node.attempts))
        for child in list(node.children):
            self.cancel(child)

    def _unusual(self, node: Node, state: TaskState, now: float) -> TaskState:
        """The state after an attempt that did not simply succeed."""
        if isinstance(node.error, BudgetExhausted) and state == "failed":
            return "cancelled"
        if node.cancel_asked:
            if state == "succeeded":  # it caught its cancellation, and returned what it had
                node.partial = node.value
            return "cancelled"
        if state == "cancelled" and node.scope is not None and node.scope.cancelled_caught:
            if node.budget is not None and time.monotonic() >= node.budget.deadline:
                node.error = limits.budget_over(node)
                return "cancelled"
            node.error = limits.attempt_over(node, now)
            return "failed"
        if state == "cancelled":  # with the whole run: to go on from the journal, it is not ended
            self.journal = None
        return state

    def _written(self, node: Node) -> TaskState:
        assert self.journal is not None
        try:
            self.journal.prepare(node)
        except InvalidValue as error:
            node.error = error
            return "failed"
        return "succeeded"

    def _again(self, node: Node) -> bool:
        """Whether the failed task will be tried again; then it waits for its next attempt."""
        retry, error, number = node.settings.retry, node.error, len(node.attempts)
        if retry is None or error is None:
            return False
        if number > retry.times or node.stalled or not self._covered(node, retry, error):
            return False
        self._drop_children(node)
        wait = retry.wait(number, self._rng, error)
        if self.events.heard:
            self.tell_all(AttemptFailed, node.id, attempt=number, error=told(error), wait_s=wait)
        node.state = "waiting"
        self.timers.after(wait, partial(self._retry, node))
        self.pump()
        return True

    def _covered(self, node: Node, retry: Retry, error: Exception) -> bool:
        try:
            return retry.covers(error)
        except Exception as problem:  # of a function of the user's
            with_note(error, f"{node.label}: option retry can't decide: {told(problem, 200)}")
            return False

    def _retry(self, node: Node) -> None:
        if node.state == "waiting":
            self.make_ready(node)
            self.pump()

    # ---- waiting for other tasks ---------------------------------------------------------------

    async def wait(self, node: Node, event: anyio.Event, timed: bool) -> None:
        """Let a running task wait for an event; meanwhile its slot is for others."""
        node.waits += 1
        if node.waits == 1:
            node.count_time()
            self.queue.give_back(node)
            self._lend_thread(node, 1)
            if node.resumed is not None:  # while one part of it waits, its slot is for others
                node.resumed.set()
                node.resumed = None
        if not timed and not node.idle:
            node.idle = True
            self._active -= 1
        self.pump()
        self.look_for_stall()
        over = False
        try:
            await event.wait()
            over = True
        finally:
            self.woken(node)
            node.waits -= 1
            if not node.waits:
                self._lend_thread(node, -1)
            node.clock_at = time.monotonic()
            if not over and not node.waits:
                self.queue.take(node)  # its wait was cut short: it goes on, and others wait longer
        if not node.waits:
            await self._resume(node)

    def queued_elsewhere(self, node: Node) -> None:
        """Stop its clock: it waits for a thread, or an executor's place.

        Only the end of its budget can end the wait.
        """
        if node.scope is not None:
            node.scope.deadline = math.inf if node.budget is None else node.budget.deadline

    def starts_elsewhere(self, node: Node) -> None:
        """Its function begins, and its clock anew."""
        node.started_at = time.monotonic()
        self.progressed(node)

    def _lend_thread(self, node: Node, count: int) -> None:
        """Let others have one more thread while this one only waits; else all might wait."""
        if node in self.in_thread:
            self.threads.total_tokens += count

    def woken(self, node: Node) -> None:
        """The task goes on; if it has several waits, the first that is over makes it active."""
        if node.idle:
            node.idle = False
            self._active += 1

    async def settle(self, node: Node) -> None:
        """Let a task whose wait was cut short queue for its slot like others."""
        if self.queue.overdrawn and node.holds_slot and not node.waits:
            node.count_time()
            self.queue.give_back(node)
            await self._resume(node)
            node.clock_at = time.monotonic()

    async def _resume(self, node: Node) -> None:
        if self.queue.free_for(node):
            self.queue.take(node)
            return
        node.resumed = granted = anyio.Event()
        self.queue.push(node, granted)
        self.pump()
        try:
            await granted.wait()
        finally:
            if node.resumed is granted:
                node.resumed = None
                self.queue.take(node)  # at once if it was cut short; a place in line takes it first

    def look_for_stall(self) -> None:
        """Fail what can never end: all that is left waits, and nothing is left to wait for."""
        if self._drained is None or self._active or self.queue or self.timers or self._summoned:
            return
        if not self.unfinished:
            return
        if self.starved:
            self.give_up_starved()
            return
        for node in self._not_ended():
            node.stalled = True
            if node.state == "running" and node.outcome is None and node.scope is not None:
                node.scope.cancel()
            elif node.state == "waiting":
                node.error = limits.stalled_by_edges(node)
                self.finish(node, "failed")

    def _not_ended(self) -> list[Node]:
        return [node for node in self._nodes.values() if not node.ended]

    # ---- time ----------------------------------------------------------------------------------

    def published(self, node: Node, result: Any) -> None:
        """Keep what a task has so far, and tell it; see `Task.progress`."""
        node.partial = result
        if self.events.heard:
            self.tell_all(TaskProgressed, node.id, partial=result)
        self.progressed(node)

    def progressed(self, node: Node) -> None:
        """Set the attempt's deadline anew: its end at most, or its idle time from now."""
        timeout, scope, budget = node.settings.timeout, node.scope, node.budget
        if scope is None:
            return
        deadline = math.inf if budget is None else budget.deadline
        if timeout is None:
            scope.deadline = deadline
            return
        run = math.inf if timeout.run is None else node.started_at + timeout.run
        idle = math.inf if timeout.idle is None else time.monotonic() + timeout.idle
        scope.deadline = min(run, idle, deadline)


_NONE = object()
