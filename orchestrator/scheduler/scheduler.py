"""Runs what is ready: workers, attempts, waiting for other tasks, and time limits."""

from __future__ import annotations

import contextvars
import math
import random
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from orchestrator.calls import call
from orchestrator.errors import (
    BudgetExhausted,
    InvalidValue,
    ReasonError,
    leaf,
)
from orchestrator.events import (
    AttemptFailed,
    EventStream,
    TaskStarted,
)
from orchestrator.scheduler import limit_messages as limits
from orchestrator.scheduler.ready_queue import ReadyQueue
from orchestrator.scheduler.transitions import Transitions
from orchestrator.task import Task, _current
from orchestrator.views.record import FINAL, TaskState

SLICE_S = 0.005
"""How long tasks that never wait may keep the event loop before it gets its turn."""


class Scheduler(Transitions):
    """Runs the tasks of one graph.

    Workers take tasks from the queue one after the other.  A worker that has taken a task
    summons the next one if more are ready; it comes when the first has to wait.  Tasks that never
    wait are thus run in one go by one worker, and each that waits has a worker of its own.
    """

    def __init__(
        self, events: EventStream, queue: ReadyQueue, handled: set[Task[Any]], seed: int
    ) -> None:
        super().__init__(events, queue, handled)
        self._rng = random.Random(seed)
        self._group: TaskGroup | None = None
        self._context = contextvars.Context()
        self.began = 0.0
        self._breath = 0.0
        self._active = 0  # attempts that run and do not wait for other tasks
        self._summoned = False

    # ---- the run -------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began if self.began else 0.0

    @property
    def running(self) -> bool:
        """Whether the run has begun and not ended."""
        return self._group is not None

    def start(self, group: TaskGroup) -> None:
        """Begin the run, its workers in ``group``."""
        self.began = self._breath = time.monotonic()
        self._context = contextvars.copy_context()
        self._group = group
        for task in self.unended():
            if task.state == "ready":
                self.watch_queueing(task)
        self.pump()

    async def drained(self) -> None:
        """Wait until every task has ended."""
        while self.unfinished:
            self._drained = anyio.Event()
            self.look_for_stall()
            await self._drained.wait()

    def stop(self, tasks: list[Task[Any]]) -> None:
        """End the run; what has not ended is cancelled, children first."""
        self.timers.clear()
        for task in reversed(tasks):
            if task.state not in FINAL:
                self.finish(task, "cancelled")
        self._group = None

    # ---- workers -------------------------------------------------------------------------------

    def pump(self) -> None:
        """Make sure that somebody comes for what is ready."""
        if self._group is not None and not self._summoned and self.queue.slots > 0 and self.queue:
            self._summoned = True
            self._context.copy().run(self._group.start_soon, self._work)

    async def _work(self) -> None:
        self._summoned = False
        clean = contextvars.copy_context()
        while (place := self.queue.pop()) is not None:
            if place.resume is not None:
                place.resume.set()
                continue
            if place.task._budget is not None and not self._reserve(place.task):
                continue
            self.pump()
            await self._attempt(place.task)
            if contextvars.copy_context() != clean:  # the function left something behind
                self.pump()
                return
            if time.monotonic() - self._breath > SLICE_S:
                self.pump()
                await anyio.lowlevel.checkpoint()
                self._breath = time.monotonic()
        self.look_for_stall()

    def _reserve(self, task: Task[Any]) -> bool:
        """Whether the task's budget grants what it needs; if not now, it waits for a release."""
        budget = task._budget
        assert budget is not None
        try:
            amounts = {"tasks": 1, **(task._settings.reserve or {})}
            task._reservation = budget.try_reserve(**amounts)
        except ReasonError as error:
            self.queue.give_back(task)
            task._error = error
            exhausted = isinstance(error, BudgetExhausted)
            self.finish(task, "cancelled" if exhausted else "failed")
            return False
        if task._reservation is None:
            self.queue.give_back(task)
            task.state = "waiting"
            self.starved[task] = None
            budget.on_release(self.feed)
            return False
        task._reservation.spend(tasks=1)
        return True

    async def _attempt(self, task: Task[Any]) -> None:
        self._begin(task)
        token = _current.set(task)
        state: TaskState = "cancelled"
        try:
            with task._scope:  # type: ignore[union-attr]
                task._value = await call(task)
                state = "succeeded"
        except Exception as error:
            task._error = leaf(error)
            state = "failed"
        finally:
            _current.reset(token)
            self._over(task, state)

    def _begin(self, task: Task[Any]) -> None:
        task.state = "running"
        task._started = task._clock_at = time.monotonic()
        task._scope = anyio.CancelScope()
        self._active += 1
        if task._settings.timeout is not None or task._budget is not None:
            self.timers.forget(task._queue_timer)
            self.progressed(task)
        if self.events.heard:
            self.events.emit(TaskStarted(task=task.id, attempt=len(task._attempts) + 1))

    def _over(self, task: Task[Any], state: TaskState) -> None:
        """The function has returned, raised or been cancelled."""
        self._active -= 1
        self.queue.give_back(task)
        if task._reservation is not None:
            task._reservation.settle()
        now = task.clock_s_add()
        if state != "succeeded" or task._cancel_asked:
            state = self._unusual(task, state, now)
        else:
            task._error = None
            if self.journal is not None:
                state = self._written(task)
        error = None if state != "failed" else repr(task._error)
        task._attempts += ((task._started, now, error),)
        if state == "failed" and self._again(task):
            return
        task._scope = None
        task._outcome = state
        if not task._open:
            self.finish(task, state)
            return
        if state != "succeeded":
            self._drop_children(task)
        self.pump()
        self.look_for_stall()

    def _drop_children(self, task: Task[Any]) -> None:
        """Cancel the children of an attempt that is over."""
        if self.journal is not None and task.children:
            self.journal.attempted(task, len(task._attempts))
        for child in list(task.children):
            self.cancel(child)

    def _unusual(self, task: Task[Any], state: TaskState, now: float) -> TaskState:
        """The state after an attempt that did not simply succeed."""
        if isinstance(task._error, BudgetExhausted) and state == "failed":
            return "cancelled"
        if task._cancel_asked:
            if state == "succeeded":  # it caught its cancellation, and returned what it had
                task.partial = task._value
            return "cancelled"
        if state == "cancelled" and task._scope is not None and task._scope.cancelled_caught:
            if task._budget is not None and time.monotonic() >= task._budget.deadline:
                task._error = limits.budget_over(task)
                return "cancelled"
            task._error = limits.attempt_over(task, now)
            return "failed"
        if state == "cancelled":  # with the whole run: to go on from the journal, it is not ended
            self.journal = None
        return state

    def _written(self, task: Task[Any]) -> TaskState:
        assert self.journal is not None
        try:
            self.journal.prepare(task)
        except InvalidValue as error:
            task._error = error
            return "failed"
        return "succeeded"

    def _again(self, task: Task[Any]) -> bool:
        """Whether the failed task will be tried again; then it waits for its next attempt."""
        retry, error, number = task._settings.retry, task._error, len(task._attempts)
        if retry is None or error is None:
            return False
        if number > retry.times or not retry.covers(error) or task._stalled:
            return False
        self._drop_children(task)
        wait = retry.wait(number, self._rng)
        if self.events.heard:
            self.events.emit(
                AttemptFailed(task=task.id, attempt=number, error=repr(error), wait_s=wait)
            )
        task.state = "waiting"
        self.timers.after(wait, self._retry, task)
        self.pump()
        return True

    def _retry(self, task: Task[Any]) -> None:
        if task.state == "waiting":
            self.make_ready(task)
            self.pump()

    # ---- waiting for other tasks ---------------------------------------------------------------

    async def wait(self, task: Task[Any], event: anyio.Event, timed: bool) -> None:
        """Let a running task wait for an event; meanwhile its slot is for others."""
        task._waits += 1
        if task._waits == 1:
            task.clock_s_add()
            self.queue.give_back(task)
            if task._resumed is not None:  # while one part of it waits, its slot is for others
                task._resumed.set()
                task._resumed = None
        if not timed and not task._idle:
            task._idle = True
            self._active -= 1
        self.pump()
        self.look_for_stall()
        over = False
        try:
            await event.wait()
            over = True
        finally:
            self.woken(task)
            task._waits -= 1
            task._clock_at = time.monotonic()
            if not over and not task._waits:
                self.queue.take(task)  # its wait was cut short: it goes on, and others wait longer
        if not task._waits:
            await self._resume(task)

    def woken(self, task: Task[Any]) -> None:
        """The task goes on; if it has several waits, the first that is over makes it active."""
        if task._idle:
            task._idle = False
            self._active += 1

    async def settle(self, task: Task[Any]) -> None:
        """Let a task whose wait was cut short queue for its slot like others."""
        if self.queue.overdrawn and task._holds_slot and not task._waits:
            task.clock_s_add()
            self.queue.give_back(task)
            await self._resume(task)
            task._clock_at = time.monotonic()

    async def _resume(self, task: Task[Any]) -> None:
        if self.queue.free_for(task):
            self.queue.take(task)
            return
        task._resumed = granted = anyio.Event()
        self.queue.push(task, granted)
        self.pump()
        try:
            await granted.wait()
        finally:
            if task._resumed is granted:
                task._resumed = None
                self.queue.take(task)  # at once if it was cut short; a place in line takes it first

    def look_for_stall(self) -> None:
        """Fail what can never end: all that is left waits, and nothing is left to wait for."""
        if self._drained is None or self._active or self.queue or self.timers or self._summoned:
            return
        if self.starved:
            self.give_up_starved()
            return
        for task in self.unended():
            task._stalled = True
            if task.state == "running" and task._outcome is None and task._scope is not None:
                task._scope.cancel()
            elif task.state == "waiting":
                task._error = limits.stalled_by_edges(task)
                self.finish(task, "failed")

    unended: Callable[[], list[Task[Any]]]
    """Set by the graph: the tasks that have not ended."""

    # ---- time ----------------------------------------------------------------------------------

    def progressed(self, task: Task[Any]) -> None:
        """Set the attempt's deadline anew: its end at most, or its idle time from now."""
        timeout, scope, budget = task._settings.timeout, task._scope, task._budget
        if scope is None:
            return
        deadline = math.inf if budget is None else budget.deadline
        if timeout is None:
            scope.deadline = deadline
            return
        run = math.inf if timeout.run is None else task._started + timeout.run
        idle = math.inf if timeout.idle is None else time.monotonic() + timeout.idle
        scope.deadline = min(run, idle, deadline)
